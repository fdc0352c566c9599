//! A subscription's position in one channel, and the events that it has already delivered.

use std::collections::VecDeque;

use crewcast_events::EventId;

use crate::endpoint::Start;

/// How many ids of delivered events are remembered.
///
/// After a `reset` a gateway sends the whole log, of which the client may have seen some. A log holds 1000 events by
/// default.
const REMEMBERED: usize = 1024;

/// The position in one channel's log.
#[derive(Debug)]
pub(crate) struct Position {
    /// The `since` of the next connection: at first the caller's start, later the last id.
    since: Start,
    /// Accepts any next id as the position: at the beginning and after a `reset`.
    open: bool,
    /// The subscription filters by `types`, so offsets have holes.
    filtered: bool,
    /// The last id that did not continue the position. See [`Position::admit`].
    stray: Option<EventId>,
    seen: VecDeque<EventId>,
    highest_seen: u64,
}

impl Position {
    pub(crate) fn new(since: Start, filtered: bool) -> Self {
        let mut position = Self { since, open: true, filtered, stray: None, seen: VecDeque::new(), highest_seen: 0 };
        position.open = position.last().is_none();
        position
    }

    /// Where the next socket starts.
    pub(crate) fn since(&self) -> Start {
        self.since
    }

    /// The last id, if there is one.
    pub(crate) fn last(&self) -> Option<EventId> {
        match self.since {
            Start::After(id) => Some(id),
            Start::Default | Start::Beginning => None,
        }
    }

    /// Whether an event with this id is new. `false` means that it was delivered before and must be dropped.
    ///
    /// A live event can look logged if its producer writes an `id`. Such an event is delivered, but its id must not
    /// become the position: the client could not resume from it. Therefore an id becomes the position only if it
    /// continues the position or the previous event.
    pub(crate) fn admit(&mut self, id: EventId) -> bool {
        if self.has_seen(id) {
            return false;
        }
        self.remember(id);
        let follows = if self.filtered {
            self.last().is_none_or(|last| id.offset() > last.offset())
        } else {
            id.continues(self.last()) || self.stray.is_some_and(|stray| id.continues(Some(stray)))
        };
        if self.open || follows {
            self.move_to(id);
        } else {
            self.stray = Some(id);
        }
        true
    }

    /// The gateway has sent `reset`: what follows does not continue the position.
    pub(crate) fn reset(&mut self) {
        self.open = true;
        self.stray = None;
    }

    /// The gateway has skipped events up to this one.
    pub(crate) fn skipped_to(&mut self, id: EventId) {
        self.move_to(id);
    }

    /// The gateway has sent the subscriber's position, which counts events that the filter removed.
    ///
    /// `None` means that the channel has had no event yet. An unfiltered subscription knows its position from its first
    /// event on and ignores what the gateway says.
    pub(crate) fn reported(&mut self, position: Option<EventId>) {
        match position {
            Some(id) if self.last().is_none() || (self.filtered && !self.open) => self.move_to(id),
            // The channel is empty: all events that follow are new.
            None if self.since == Start::Default => self.since = Start::Beginning,
            _ => {}
        }
    }

    fn move_to(&mut self, id: EventId) {
        self.since = Start::After(id);
        self.open = false;
        self.stray = None;
    }

    fn has_seen(&self, id: EventId) -> bool {
        self.last() == Some(id) || (id.offset() <= self.highest_seen && self.seen.contains(&id))
    }

    fn remember(&mut self, id: EventId) {
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(id);
        self.highest_seen = self.highest_seen.max(id.offset());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(from: Option<EventId>, n: usize, letter: char) -> Vec<EventId> {
        let mut ids: Vec<EventId> = from.into_iter().collect();
        for i in 0..n {
            let random = format!("{letter}{i:05}");
            ids.push(EventId::after(ids.last().copied(), random.as_bytes().try_into().unwrap()));
        }
        ids.split_off(usize::from(from.is_some()))
    }

    #[test]
    fn follows_the_chain_and_drops_repeats() {
        let ids = chain(None, 5, 'a');
        let mut position = Position::new(Start::Default, false);
        assert!(ids.iter().all(|&id| position.admit(id)));
        assert_eq!(position.last(), Some(ids[4]));
        assert!(ids.iter().all(|&id| !position.admit(id)));
        assert_eq!(position.last(), Some(ids[4]));
    }

    #[test]
    fn the_id_it_resumed_from_is_a_repeat() {
        let ids = chain(None, 3, 'a');
        let mut position = Position::new(Start::After(ids[1]), false);
        assert!(!position.admit(ids[1]));
        assert!(position.admit(ids[2]));
    }

    #[test]
    fn an_event_that_only_looks_logged_is_delivered_without_moving_the_position() {
        let ids = chain(None, 5, 'a');
        let mut position = Position::new(Start::After(ids[0]), false);
        let forged: EventId = "900-zzzzzzzzzzzz".parse().unwrap();
        assert!(position.admit(ids[1]) && position.admit(forged));
        assert_eq!(position.last(), Some(ids[1]));
        assert!(position.admit(ids[2]));
        assert_eq!(position.last(), Some(ids[2]));
    }

    #[test]
    fn a_wrong_first_position_is_replaced_by_a_chain() {
        let ids = chain(None, 5, 'a');
        let mut position = Position::new(Start::Default, false);
        assert!(position.admit("900-zzzzzzzzzzzz".parse().unwrap()));
        assert!(position.admit(ids[2]) && position.admit(ids[3]));
        assert_eq!(position.last(), Some(ids[3]));
    }

    #[test]
    fn after_a_reset_another_history_is_accepted_and_repeats_are_dropped() {
        let ids = chain(None, 6, 'a');
        let other = chain(Some(ids[3]), 3, 'b');
        let mut position = Position::new(Start::Default, false);
        assert!(ids.iter().all(|&id| position.admit(id)));
        position.reset();
        assert_eq!(position.last(), Some(ids[5]), "the old position stays until an event comes");
        assert!(!position.admit(ids[2]) && !position.admit(ids[3]));
        assert!(other.iter().all(|&id| position.admit(id)));
        assert_eq!(position.last(), Some(other[2]));
    }

    #[test]
    fn a_filtered_reader_takes_its_position_from_the_gateway() {
        let ids = chain(None, 9, 'a');
        let mut position = Position::new(Start::Default, true);
        assert!(position.admit(ids[1]) && position.admit(ids[5]));
        assert_eq!(position.last(), Some(ids[5]));
        position.reported(Some(ids[8]));
        assert_eq!(position.last(), Some(ids[8]));
    }

    #[test]
    fn a_live_reader_without_events_takes_its_position_from_the_gateway() {
        let ids = chain(None, 4, 'a');
        let mut position = Position::new(Start::Default, false);
        position.reported(Some(ids[1]));
        assert_eq!(position.last(), Some(ids[1]));
        assert!(position.admit(ids[2]));
        position.reported(Some(ids[0]));
        assert_eq!(position.last(), Some(ids[2]), "its own events decide");
    }

    #[test]
    fn a_channel_without_events_is_resumed_from_its_beginning() {
        let ids = chain(None, 2, 'a');
        let mut position = Position::new(Start::Default, false);
        position.reported(None);
        assert_eq!((position.since(), position.last()), (Start::Beginning, None));
        assert!(position.admit(ids[0]));
        position.reported(None);
        assert_eq!(position.since(), Start::After(ids[0]), "its own events decide");
        let mut resumed = Position::new(Start::After(ids[1]), true);
        resumed.reported(None);
        assert_eq!(resumed.since(), Start::After(ids[1]));
    }

    #[test]
    fn memory_is_bounded() {
        let mut position = Position::new(Start::Default, false);
        let ids = chain(None, REMEMBERED + 10, 'a');
        assert!(ids.iter().all(|&id| position.admit(id)));
        assert_eq!(position.seen.len(), REMEMBERED);
        assert!(!position.admit(ids[10]));
        assert!(position.admit(ids[9]), "a forgotten id is delivered again, not lost");
    }
}
