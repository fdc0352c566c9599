//! The lease of a tool call, a run or a session.

use std::sync::Arc;

use crewcast_events::Channel;
use crewcast_store::{LeaseStep, MAX_ABOUT};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use crate::{lease_renewal::LeaseGuard, publisher::Publisher};

/// Held from the first event to the last, or until it is dropped. After that nothing renews the lease, and gateways
/// publish its expiry.
pub(super) struct Held {
    guard: LeaseGuard,
    about: Option<Arc<RawValue>>,
    /// When an event last renewed it.
    renewed: Mutex<Option<Instant>>,
}

impl Held {
    /// Holds a lease, whatever the publisher's settings.
    pub(super) fn always(publisher: &Publisher, channel: &Channel, name: &str, about: &impl Serialize) -> Self {
        let guard = publisher.inner().leases.hold(channel, &name.into());
        let about = to_raw_value(about).ok().filter(|about| about.get().len() <= MAX_ABOUT);
        Self { guard, about: about.map(Arc::from), renewed: Mutex::default() }
    }

    /// Holds a lease if the publisher is set up to ([`crate::Builder::leases`]).
    pub(super) fn when_on(
        publisher: &Publisher,
        channel: &Channel,
        name: &str,
        about: &impl Serialize,
    ) -> Option<Self> {
        publisher.inner().leases.of_all.then(|| Self::always(publisher, channel, name, about))
    }

    /// The step for an event in between. Events within a third of the ttl after the last step need none. After a
    /// published expiry that time is over, so the next event always has a step.
    pub(super) fn step(&self) -> Option<LeaseStep> {
        let (name, ttl, now) = (self.guard.name.clone(), self.guard.ttl(), Instant::now());
        let mut renewed = self.renewed.lock();
        if renewed.is_some_and(|at| now.duration_since(at) < ttl / 3) {
            return None;
        }
        *renewed = Some(now);
        Some(LeaseStep::Hold { name, ttl, about: self.about.clone() })
    }

    /// The step for the last event.
    pub(super) fn release(self) -> LeaseStep {
        LeaseStep::Release { name: self.guard.name.clone() }
    }
}
