//! The lease of one thing that goes on: a tool call, a run, a session.

use std::sync::Arc;

use crewcast_events::Channel;
use crewcast_store::{LeaseStep, MAX_ABOUT};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use crate::{publisher::Publisher, renew::Guard};

/// Held from the event that begins something until the one that ends it, or until it is dropped: from then on nobody
/// renews it, and gateways tell.
pub(super) struct Held {
    guard: Guard,
    about: Option<Arc<RawValue>>,
    /// When the last event said that it is held.
    said: Mutex<Option<Instant>>,
}

impl Held {
    /// Holds a lease whatever the publisher's setting.
    pub(super) fn always(publisher: &Publisher, channel: &Channel, name: &str, about: &impl Serialize) -> Self {
        let guard = publisher.inner().leases.hold(channel, &name.into());
        let about = to_raw_value(about).ok().filter(|about| about.get().len() <= MAX_ABOUT);
        Self { guard, about: about.map(Arc::from), said: Mutex::default() }
    }

    /// Holds a lease where the publisher was set up to ([`crate::Builder::leases`]).
    pub(super) fn when_on(
        publisher: &Publisher,
        channel: &Channel,
        name: &str,
        about: &impl Serialize,
    ) -> Option<Self> {
        publisher.inner().leases.of_all.then(|| Self::always(publisher, channel, name, about))
    }

    /// For an event of what goes on. Not every event needs one: what was said in the last third of the ttl stands, and
    /// after a silence that could be told there is no such.
    pub(super) fn step(&self) -> Option<LeaseStep> {
        let (name, ttl, now) = (self.guard.name.clone(), self.guard.ttl(), Instant::now());
        let mut said = self.said.lock();
        if said.is_some_and(|said| now.duration_since(said) < ttl / 3) {
            return None;
        }
        *said = Some(now);
        Some(LeaseStep::Hold { name, ttl, about: self.about.clone() })
    }

    /// For the event that ends it.
    pub(super) fn release(self) -> LeaseStep {
        LeaseStep::Release { name: self.guard.name.clone() }
    }
}
