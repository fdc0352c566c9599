//! Where a subscription stands in one channel, and which events it has had already.

use std::collections::VecDeque;

use crewcast_events::EventId;

use crate::endpoint::Start;

/// How many ids of delivered events are remembered. After a `reset` a gateway sends what the log holds,
/// of which a client may have seen some; a log holds 1000 events by default.
const REMEMBERED: usize = 1024;

/// The position in one channel's log.
#[derive(Debug)]
pub(crate) struct Position {
    /// What a reconnecting client names as `since`: where the caller asked to start, until more is known.
    since: Start,
    /// The next id is taken as the position whatever it is: at the beginning and after a `reset`.
    open: bool,
    /// Events are missing on purpose (`types`), so that offsets have holes.
    filtered: bool,
    /// An id that does not continue the position: see [`Position::admit`].
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

    /// From where the next socket starts.
    pub(crate) fn since(&self) -> Start {
        self.since
    }

    /// The last id, if there was one.
    pub(crate) fn last(&self) -> Option<EventId> {
        match self.since {
            Start::After(id) => Some(id),
            Start::Default | Start::Beginning => None,
        }
    }

    /// Whether an event with this id is new; `false`: it has been delivered before and is dropped.
    ///
    /// A live event of a careless producer can look logged. It is delivered, but it must not become the
    /// position, from which the client could not be resumed: an id counts once it continues the position
    /// or the event before it.
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
            self.stand_at(id);
        } else {
            self.stray = Some(id);
        }
        true
    }

    /// The gateway said that the history before this moment does not lead on to what follows.
    pub(crate) fn reset(&mut self) {
        self.open = true;
        self.stray = None;
    }

    /// The gateway has left out events up to this one.
    pub(crate) fn skipped_to(&mut self, id: EventId) {
        self.stand_at(id);
    }

    /// The gateway said where this socket stands, events that are filtered out included; `None`: the channel has
    /// had no event yet. A reader that gets every event knows it better by itself, once it has had one.
    pub(crate) fn told(&mut self, position: Option<EventId>) {
        match position {
            Some(id) if self.last().is_none() || (self.filtered && !self.open) => self.stand_at(id),
            // Whatever comes while the socket is away is the channel's first: all of it is new.
            None if self.since == Start::Default => self.since = Start::Beginning,
            _ => {}
        }
    }

    fn stand_at(&mut self, id: EventId) {
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
    fn the_id_that_it_resumed_from_is_a_repeat() {
        let ids = chain(None, 3, 'a');
        let mut position = Position::new(Start::After(ids[1]), false);
        assert!(!position.admit(ids[1]));
        assert!(position.admit(ids[2]));
    }

    #[test]
    fn what_only_looks_logged_is_delivered_and_is_no_position() {
        let ids = chain(None, 5, 'a');
        let mut position = Position::new(Start::After(ids[0]), false);
        let forged: EventId = "900-zzzzzzzzzzzz".parse().unwrap();
        assert!(position.admit(ids[1]) && position.admit(forged));
        assert_eq!(position.last(), Some(ids[1]));
        assert!(position.admit(ids[2]));
        assert_eq!(position.last(), Some(ids[2]));
    }

    #[test]
    fn a_position_that_was_no_position_is_left_behind() {
        let ids = chain(None, 5, 'a');
        let mut position = Position::new(Start::Default, false);
        assert!(position.admit("900-zzzzzzzzzzzz".parse().unwrap()));
        assert!(position.admit(ids[2]) && position.admit(ids[3]));
        assert_eq!(position.last(), Some(ids[3]));
    }

    #[test]
    fn a_reset_opens_it_for_another_history_and_still_drops_what_was_seen() {
        let ids = chain(None, 6, 'a');
        let other = chain(Some(ids[3]), 3, 'b');
        let mut position = Position::new(Start::Default, false);
        assert!(ids.iter().all(|&id| position.admit(id)));
        position.reset();
        assert_eq!(position.last(), Some(ids[5]), "until something came, the old position is all there is");
        assert!(!position.admit(ids[2]) && !position.admit(ids[3]));
        assert!(other.iter().all(|&id| position.admit(id)));
        assert_eq!(position.last(), Some(other[2]));
    }

    #[test]
    fn a_filter_makes_holes_and_the_gateway_tells_the_rest() {
        let ids = chain(None, 9, 'a');
        let mut position = Position::new(Start::Default, true);
        assert!(position.admit(ids[1]) && position.admit(ids[5]));
        assert_eq!(position.last(), Some(ids[5]));
        position.told(Some(ids[8]));
        assert_eq!(position.last(), Some(ids[8]));
    }

    #[test]
    fn a_live_reader_that_has_had_nothing_yet_learns_where_it_stands() {
        let ids = chain(None, 4, 'a');
        let mut position = Position::new(Start::Default, false);
        position.told(Some(ids[1]));
        assert_eq!(position.last(), Some(ids[1]));
        assert!(position.admit(ids[2]));
        position.told(Some(ids[0]));
        assert_eq!(position.last(), Some(ids[2]), "it knows better by itself");
    }

    #[test]
    fn a_channel_without_events_is_resumed_from_its_beginning() {
        let ids = chain(None, 2, 'a');
        let mut position = Position::new(Start::Default, false);
        position.told(None);
        assert_eq!((position.since(), position.last()), (Start::Beginning, None));
        assert!(position.admit(ids[0]));
        position.told(None);
        assert_eq!(position.since(), Start::After(ids[0]), "it knows better by itself");
        let mut resumed = Position::new(Start::After(ids[1]), true);
        resumed.told(None);
        assert_eq!(resumed.since(), Start::After(ids[1]));
    }

    #[test]
    fn memory_is_bounded() {
        let mut position = Position::new(Start::Default, false);
        let ids = chain(None, REMEMBERED + 10, 'a');
        assert!(ids.iter().all(|&id| position.admit(id)));
        assert_eq!(position.seen.len(), REMEMBERED);
        assert!(!position.admit(ids[10]));
        assert!(position.admit(ids[9]), "forgotten: delivered again rather than lost");
    }
}
