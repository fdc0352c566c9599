//! A reader that is never late, and checks what it sees against the promise.

use std::{collections::HashMap, sync::Arc};

use crewcast_events::EventId;

use super::server::{Server, message};
use crate::hub::{Entry, Item, ReadOutcome, Subscriber};

/// What one reader has seen, checked as it comes.
pub(super) struct Witness {
    subscriber: Subscriber,
    next: i64,
    /// The reader's position; `None` until the channel is open.
    pub(super) position: Option<Option<EventId>>,
    /// The first id that a reset announced.
    awaited: Option<EventId>,
    pub(super) resets: usize,
    pub(super) gaps: usize,
    /// Live messages by their text, and how often each came.
    pub(super) live: HashMap<String, usize>,
}

impl Witness {
    pub(super) fn new(subscriber: Subscriber) -> Self {
        let live = HashMap::new();
        Self { subscriber, next: 0, position: None, awaited: None, resets: 0, gaps: 0, live }
    }

    /// Takes everything that the ring holds.
    ///
    /// # Panics
    /// If it breaks the promise.
    pub(super) fn look(&mut self, server: &Server) {
        let Some(opened) = self.subscriber.start_at_join() else { return };
        self.position.get_or_insert(opened.position);
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        while matches!(self.subscriber.read(self.next, 1000, &mut entries), ReadOutcome::Entries { .. }) {
            self.next += entries.len() as i64;
            entries.drain(..).for_each(|entry| self.see(&entry, server));
        }
        assert!(self.awaited.is_none(), "a reset announced {:?}, which did not come", self.awaited);
    }

    fn see(&mut self, entry: &Entry, server: &Server) {
        match entry.item() {
            Item::Reset { from, .. } => {
                self.resets += 1;
                let is_a_beginning = from.is_none_or(|id| server.firsts.contains(&id));
                assert!(
                    is_a_beginning,
                    "a reset is followed by all that the log holds, not by what follows from {from:?}"
                );
                self.awaited = *from;
                self.position = Some(if from.is_some() { None } else { entry.position() });
            }
            Item::Gap { .. } => self.gaps += 1,
            Item::Event(event) => match event.id() {
                Some(id) => {
                    assert_eq!(event.raw(), &message(id), "the bytes are the log's");
                    assert!(server.ever.contains(&id), "{id} was never logged");
                    self.advance(id);
                }
                None => {
                    *self.live.entry(event.text().to_owned()).or_default() += 1;
                    let looks_logged = EventId::of_message(event.raw());
                    if let Some(id) = looks_logged.filter(|id| server.ever.contains(id)) {
                        assert!(server.ever_absent.contains(&id), "{id} was in the log, and came as live");
                    }
                }
            },
        }
        assert!(self.awaited.is_some() || self.position == Some(entry.position()), "an entry knows its position");
    }

    fn advance(&mut self, id: EventId) {
        let position = self.position.flatten();
        match self.awaited.take() {
            Some(first) => assert_eq!(id, first, "the first event behind a reset is the announced one"),
            None => assert!(id.continues(position), "a silent jump from {position:?} to {id}"),
        }
        self.position = Some(Some(id));
    }
}
