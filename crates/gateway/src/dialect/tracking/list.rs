//! The list of active sessions: when it is read, and whether it has changed.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    time::Duration,
};

use crewcast_events::Channel;
use tokio::time::Instant;

use super::answers;
use crate::{
    dialect::{Action, Actions},
    replay::StateDocuments,
};

/// The list is read at most this often: where sessions change all the time, each read covers many changes.
const PACE: Duration = Duration::from_millis(100);

/// What a socket knows of its org's list.
pub(crate) struct KnownSessions {
    /// How long a session is listed after its producer's last sign of life.
    ttl: Duration,
    /// When to read the list; `None` until something changes.
    due: Option<Instant>,
    looked_at: Option<Instant>,
    is_reading: bool,
    /// Hash of the list that was sent last: a list may be long, and a socket should stay small.
    told: Option<u64>,
    /// Whether the list that was read last has documents.
    has_documents: bool,
}

impl KnownSessions {
    /// Nothing is known yet.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, due: None, looked_at: None, is_reading: false, told: None, has_documents: false }
    }

    /// The list may have changed.
    pub(crate) fn changed(&mut self, now: Instant) {
        self.look_at(self.looked_at.map_or(now, |before| before + PACE).max(now));
    }

    fn look_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Reads the list if that is due.
    pub(crate) fn look(&mut self, channel: &Channel, now: Instant, out: &mut Actions) {
        if !self.is_reading && self.due.is_some_and(|due| due <= now) {
            (self.due, self.looked_at, self.is_reading) = (None, Some(now), true);
            out.push(Action::ReadState { channel: channel.clone(), within: Some(self.ttl) });
        }
    }

    /// Handles a read list: sends it if it has changed.
    pub(crate) fn seen(&mut self, state: &StateDocuments, now: Instant, out: &mut Actions) {
        self.is_reading = false;
        match &state.live {
            // Only live events tell of sessions: their list is sent as it is.
            Some(live) if state.documents.is_empty() => {
                if self.tell(live) {
                    out.push(answers::unchanged(live));
                }
            }
            _ => {
                let data = answers::sessions(state);
                if self.tell(data.as_bytes()) {
                    out.push(answers::active_sessions(&data));
                }
            }
        }
        self.has_documents = !state.documents.is_empty();
        // A session whose producer has died leaves the list without an event.
        if let Some(left) = state.first_end {
            self.look_at(now + left.max(PACE));
        }
    }

    /// A live event brings a list. Returns whether it is sent as it is.
    pub(crate) fn heard(&mut self, live: &[u8], now: Instant) -> bool {
        // Sessions of documents would be missing in it, so it is read together with them.
        if self.has_documents {
            self.look_at(now + PACE);
        }
        !self.has_documents && self.tell(live)
    }

    /// Remembers what is sent. Returns whether it differs from what was sent before.
    fn tell(&mut self, list: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        list.hash(&mut hasher);
        let hash = hasher.finish();
        self.told.replace(hash) != Some(hash)
    }

    /// When to read the list next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.filter(|_| !self.is_reading)
    }
}
