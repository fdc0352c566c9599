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
}

impl KnownSessions {
    /// Nothing is known yet.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, due: None, looked_at: None, is_reading: false, told: None }
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
        let data = answers::sessions(state);
        let mut hasher = DefaultHasher::new();
        data.hash(&mut hasher);
        let hash = hasher.finish();
        if self.told.replace(hash) != Some(hash) {
            out.push(answers::active_sessions(&data));
        }
        // A session whose producer has died leaves the list without an event.
        if let Some(left) = state.first_end {
            self.look_at(now + left.max(PACE));
        }
    }

    /// When to read the list next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.filter(|_| !self.is_reading)
    }
}
