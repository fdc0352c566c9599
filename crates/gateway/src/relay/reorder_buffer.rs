//! Messages that a sequencer holds back while its log is read.

use std::collections::VecDeque;

use crewcast_events::{Event, EventId};

/// Maximum number of messages. Logged ones beyond it are read from the log again; live ones become a gap.
const MAX_EVENTS: usize = 4096;
/// Maximum size of the messages, in bytes.
const MAX_BYTES: usize = 8 << 20;

/// Held messages, in the order in which they were received.
#[derive(Default, Debug)]
pub(super) struct ReorderBuffer {
    events: VecDeque<Event>,
    bytes: usize,
    /// How many messages were held when the current read began: the read says nothing about later ones.
    judged: usize,
    /// Messages dropped because the buffer was full.
    dropped: Overflow,
}

/// What was dropped because the buffer was full.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Overflow {
    /// Live messages: they are lost.
    pub(super) live: u64,
    /// Whether there were logged messages: the log still has them.
    pub(super) logged: bool,
}

impl ReorderBuffer {
    /// Holds the newest message, or drops it if the buffer is full.
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

    /// Removes the oldest message.
    pub(super) fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.bytes -= event.raw().len();
        self.judged = self.judged.saturating_sub(1);
        Some(event)
    }

    /// Puts back the message that was popped last.
    pub(super) fn put_back(&mut self, event: Event) {
        self.bytes += event.raw().len();
        self.events.push_front(event);
    }

    /// Removes all messages.
    pub(super) fn take_all(&mut self) -> VecDeque<Event> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }

    /// What was dropped since the last call.
    pub(super) fn take_overflow(&mut self) -> Overflow {
        std::mem::take(&mut self.dropped)
    }

    /// Marks the beginning of a read: it decides about the messages held now.
    pub(super) fn begin_read(&mut self) {
        self.judged = self.events.len();
    }

    /// How many messages, from the oldest on, the current read decides about.
    pub(super) fn judged(&self) -> usize {
        self.judged
    }

    /// Makes the oldest logged message live if the log does not have it.
    ///
    /// Only if it was received before the read of `head` began, and does not continue `position`.
    pub(super) fn resolve_beyond(&mut self, head: Option<EventId>, position: Option<EventId>) {
        let head = head.map_or(0, |id| id.offset());
        let Some(first) = self.events.iter().position(|event| event.id().is_some()) else { return };
        let event = &self.events[first];
        let is_unknown = event.id().is_some_and(|id| id.offset() > head && !id.continues(position));
        if is_unknown && first < self.judged {
            self.events[first] = event.clone().into_live();
        }
    }

    /// Drops live messages up to and including the retained one: newcomers do not get them twice.
    pub(super) fn forget_up_to(&mut self, retained: &Event) {
        if let Some(last) = self.events.iter().rposition(|event| event.raw() == retained.raw()) {
            self.events.drain(..=last);
            self.weigh();
        }
    }

    /// Those of the live events in `first` that are neither held nor covered by the retained one. The last events of
    /// `first` are the first live ones held: both were received in the order of their publishing.
    pub(super) fn missed(&self, mut first: Vec<Event>, retained: Option<&Event>) -> Vec<Event> {
        let held: Vec<&Event> = self.events.iter().filter(|event| event.id().is_none()).collect();
        let is_shared = |shared: &usize| {
            let last = &first[first.len() - shared..];
            last.iter().zip(&held).all(|(a, b)| a.raw() == b.raw())
        };
        let shared = (0..=first.len().min(held.len())).rev().find(is_shared).unwrap_or(0);
        first.truncate(first.len() - shared);
        let covered = retained.and_then(|retained| first.iter().rposition(|event| event.raw() == retained.raw()));
        first.drain(..covered.map_or(0, |last| last + 1));
        first
    }

    /// Drops messages that the head already covers: those whose chain of ids leads to the head are repeats. They were
    /// received between the confirmation and the read of the head.
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
    fn events_that_are_held_or_retained_were_not_missed() {
        let event = |n: u32| Event::parse(Bytes::from(format!(r#"{{"type":"x","n":{n}}}"#))).unwrap();
        let mut reorder = ReorderBuffer::default();
        [3, 4, 5].map(event).into_iter().for_each(|event| reorder.push(event));
        let missed = |first: &[u32], retained: Option<u32>| {
            let first = first.iter().copied().map(event).collect();
            let missed = reorder.missed(first, retained.map(event).as_ref());
            missed.iter().map(|event| event.text().to_owned()).collect::<Vec<_>>()
        };
        let texts = |ns: &[u32]| ns.iter().map(|n| event(*n).text().to_owned()).collect::<Vec<_>>();
        assert_eq!(missed(&[1, 2, 3, 4], None), texts(&[1, 2]));
        assert_eq!(missed(&[1, 2, 3, 4], Some(1)), texts(&[2]));
        assert_eq!(missed(&[1, 2], None), texts(&[1, 2]));
        assert_eq!(missed(&[3, 4, 5], None), texts(&[]));
        assert_eq!(missed(&[], Some(9)), texts(&[]));
    }

    #[test]
    fn the_buffer_is_bounded_in_messages_and_bytes() {
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
