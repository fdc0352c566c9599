//! The list of active sessions: when it is looked at, and whether it is news.

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

/// At most so often the list is looked at: where sessions change all the time, each look shows many changes.
const PACE: Duration = Duration::from_millis(100);

/// What a socket knows of its org's list.
pub struct KnownSessions {
    /// How long after its producer's last sign of life a session is listed.
    ttl: Duration,
    /// When to look; `None`: when something happens.
    due: Option<Instant>,
    looked_at: Option<Instant>,
    is_reading: bool,
    /// The hash of what was told last: a list may be long, and a socket is small.
    told: Option<u64>,
}

impl KnownSessions {
    /// Nothing is known yet.
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, due: None, looked_at: None, is_reading: false, told: None }
    }

    /// It may have changed.
    pub fn changed(&mut self, now: Instant) {
        self.look_at(self.looked_at.map_or(now, |before| before + PACE).max(now));
    }

    fn look_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Looks, if that is due.
    pub fn look(&mut self, channel: &Channel, now: Instant, out: &mut Actions) {
        if !self.is_reading && self.due.is_some_and(|due| due <= now) {
            (self.due, self.looked_at, self.is_reading) = (None, Some(now), true);
            out.push(Action::ReadState { channel: channel.clone(), within: Some(self.ttl) });
        }
    }

    /// This is what it looks like.
    pub fn seen(&mut self, state: &StateDocuments, now: Instant, out: &mut Actions) {
        self.is_reading = false;
        let data = answers::sessions(state);
        let mut hasher = DefaultHasher::new();
        data.hash(&mut hasher);
        let hash = hasher.finish();
        if self.told.replace(hash) != Some(hash) {
            out.push(answers::active_sessions(&data));
        }
        // A session whose producer has died leaves without an event.
        if let Some(left) = state.first_end {
            self.look_at(now + left.max(PACE));
        }
    }

    /// When to look.
    pub fn next(&self) -> Option<Instant> {
        self.due.filter(|_| !self.is_reading)
    }
}
