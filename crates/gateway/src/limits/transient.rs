//! Bounds on what comes and goes without a place of its own: sockets that are being refused, bodies of requests.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ConnectionLimits;

/// Refused sockets that are waited for at the same time, until they have taken their close frame.
pub const MAX_REFUSALS: usize = 1024;
/// Bytes of request bodies that are in memory at the same time.
pub const BODY_BYTES: usize = 256 << 20;

#[derive(Clone, Debug)]
pub(super) struct TransientLimits {
    refusals: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

impl Default for TransientLimits {
    fn default() -> Self {
        Self { refusals: Arc::new(Semaphore::new(MAX_REFUSALS)), bodies: Arc::new(Semaphore::new(BODY_BYTES)) }
    }
}

/// Holds a part of a bound until dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the room back"]
pub struct BodyPermit(OwnedSemaphorePermit);

impl BodyPermit {
    /// Adds what was taken of the same bound.
    pub fn add(&mut self, more: BodyPermit) {
        self.0.merge(more.0);
    }
}

impl ConnectionLimits {
    /// Room to wait for one refused socket; `None` when [`MAX_REFUSALS`] are waited for.
    pub fn refuse(&self) -> Option<BodyPermit> {
        self.transient.refusals.clone().try_acquire_owned().ok().map(BodyPermit)
    }

    /// Room for so many bytes of a request's body; `None` when [`BODY_BYTES`] do not suffice for them.
    pub fn body(&self, bytes: usize) -> Option<BodyPermit> {
        let bytes = u32::try_from(bytes).ok()?;
        self.transient.bodies.clone().try_acquire_many_owned(bytes).ok().map(BodyPermit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn bounds_bind_and_are_given_back() {
        let limits = ConnectionLimits::new(&config::Limits::default(), 1024);
        let mut refused: Vec<_> = (0..MAX_REFUSALS).map(|_| limits.refuse().expect("room")).collect();
        assert!(limits.clone().refuse().is_none());
        refused.pop();
        assert!(limits.refuse().is_some());
        let mut room = limits.body(BODY_BYTES - 10).expect("room");
        assert!(limits.body(11).is_none());
        room.add(limits.body(10).expect("room"));
        assert!(limits.clone().body(1).is_none());
        drop(room);
        assert!(limits.body(BODY_BYTES).is_some());
    }
}
