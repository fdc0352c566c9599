//! Messages that a line holds back while its log is read.

use std::collections::VecDeque;

use crewcast_events::{Event, EventId};

/// Messages at most. Logged ones beyond it are read from the log again; live ones are told as a gap.
const MAX_EVENTS: usize = 4096;
/// Their bytes, at most.
const MAX_BYTES: usize = 8 << 20;

/// In the order in which they were heard.
#[derive(Default, Debug)]
pub(super) struct ReorderBuffer {
    events: VecDeque<Event>,
    bytes: usize,
    /// How many of them were held when the read under way began: it says nothing about later ones.
    judged: usize,
    /// Messages that found no room.
    dropped: Overflow,
}

/// What found no room among the held.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Overflow {
    /// Live ones: they are lost.
    pub(super) live: u64,
    /// Whether there were logged ones: the log has them.
    pub(super) logged: bool,
}

impl ReorderBuffer {
    /// Holds the newest message.
    pub(super) fn push(&mut self, event: Event) {
        if self.events.len() >= MAX_EVENTS || self.bytes + event.raw().len() > MAX_BYTES {
            match event.id() {
                Some(_) => self.dropped.logged = true,
                None => self.dropped.live += 1,
            }
            return;
        }
        self.bytes += event.raw().len();
        self.events.push_back(event);
    }

    /// The oldest message.
    pub(super) fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.bytes -= event.raw().len();
        self.judged = self.judged.saturating_sub(1);
        Some(event)
    }

    /// Puts back what was popped last.
    pub(super) fn put_back(&mut self, event: Event) {
        self.bytes += event.raw().len();
        self.events.push_front(event);
    }

    /// Every message, leaving none.
    pub(super) fn take_all(&mut self) -> VecDeque<Event> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }

    /// What found no room since this was last asked.
    pub(super) fn take_overflow(&mut self) -> Overflow {
        std::mem::take(&mut self.dropped)
    }

    /// A read begins now: it will say something about what is held.
    pub(super) fn begin_read(&mut self) {
        self.judged = self.events.len();
    }

    /// How many of the held, from the oldest on, the read under way says something about.
    pub(super) fn judged(&self) -> usize {
        self.judged
    }

    /// The oldest logged message is none of the log's whose head was read: it is live. Only if it was heard
    /// before that read began, and does not continue `position`.
    pub(super) fn resolve_beyond(&mut self, head: Option<EventId>, position: Option<EventId>) {
        let head = head.map_or(0, |id| id.offset());
        let Some(first) = self.events.iter().position(|event| event.id().is_some()) else { return };
        let event = &self.events[first];
        let is_unknown = event.id().is_some_and(|id| id.offset() > head && !id.continues(position));
        if is_unknown && first < self.judged {
            self.events[first] = event.clone().into_live();
        }
    }

    /// Live messages at or before the retained one are not repeated to newcomers.
    pub(super) fn forget_up_to(&mut self, retained: &Event) {
        if let Some(last) = self.events.iter().rposition(|event| event.raw() == retained.raw()) {
            self.events.drain(..=last);
            self.weigh();
        }
    }

    /// What was heard between the confirmation and the reading of the head, and lies at or before the head,
    /// is known to be a repeat when its chain leads to the head.
    pub(super) fn forget_chain_to(&mut self, head: Option<EventId>) {
        let is_head = |event: &Event| event.id().is_some() && event.id() == head;
        let Some(last) = self.events.iter().rposition(is_head) else { return };
        let mut successor: Option<EventId> = None;
        let mut repeats = vec![false; self.events.len()];
        for index in (0..=last).rev() {
            let Some(id) = self.events[index].id() else { continue };
            if successor.is_none_or(|successor| successor.continues(Some(id))) {
                repeats[index] = true;
                successor = Some(id);
            }
        }
        let mut repeats = repeats.into_iter();
        self.events.retain(|_| !repeats.next().unwrap_or(false));
        self.weigh();
    }

    fn weigh(&mut self) {
        self.bytes = self.events.iter().map(|event| event.raw().len()).sum();
        self.judged = self.judged.min(self.events.len());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_is_held_is_bounded_in_number_and_bytes() {
        let event = |text: String| Event::parse(Bytes::from(text)).unwrap();
        let mut reorder = ReorderBuffer::default();
        for n in 0..MAX_EVENTS + 3 {
            reorder.push(event(format!(r#"{{"type":"x","n":{n}}}"#)));
        }
        reorder.push(event(r#"{"id":"9-abcdefghijkl","type":"x"}"#.to_owned()));
        assert_eq!(reorder.take_overflow(), Overflow { live: 3, logged: true });
        assert_eq!(reorder.take_all().len(), MAX_EVENTS);
        let large = format!(r#"{{"type":"x","data":"{}"}}"#, "x".repeat(1 << 20));
        for _ in 0..10 {
            reorder.push(event(large.clone()));
        }
        assert_eq!(reorder.take_overflow(), Overflow { live: 3, logged: false });
        assert_eq!(reorder.take_overflow(), Overflow::default());
    }
}
