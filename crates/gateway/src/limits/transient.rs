//! Limits on short-lived resources: sockets that are being refused, and request bodies.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ConnectionLimits;

/// Refused sockets that may wait at the same time to take their close frame.
pub(crate) const MAX_REFUSALS: usize = 1024;
/// Bytes of request bodies that are in memory at the same time.
pub(crate) const BODY_BYTES: usize = 256 << 20;

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

/// Holds a share of a limit until dropped.
#[derive(Debug)]
#[must_use = "dropping it returns the permit"]
pub(crate) struct BodyPermit(OwnedSemaphorePermit);

impl BodyPermit {
    /// Adds a permit of the same limit.
    pub(crate) fn add(&mut self, more: BodyPermit) {
        self.0.merge(more.0);
    }
}

impl ConnectionLimits {
    /// A permit to wait for one refused socket; `None` if [`MAX_REFUSALS`] are waiting.
    pub(crate) fn refuse(&self) -> Option<BodyPermit> {
        self.transient.refusals.clone().try_acquire_owned().ok().map(BodyPermit)
    }

    /// A permit for this many bytes of a request body; `None` if [`BODY_BYTES`] would be exceeded.
    pub(crate) fn body(&self, bytes: usize) -> Option<BodyPermit> {
        let bytes = u32::try_from(bytes).ok()?;
        self.transient.bodies.clone().try_acquire_many_owned(bytes).ok().map(BodyPermit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn limits_are_enforced_and_permits_are_returned() {
        let limits = ConnectionLimits::new(&config::Limits::default(), 1024);
        let mut refused: Vec<_> = (0..MAX_REFUSALS).map(|_| limits.refuse().expect("a permit is free")).collect();
        assert!(limits.clone().refuse().is_none());
        refused.pop();
        assert!(limits.refuse().is_some());
        let mut permit = limits.body(BODY_BYTES - 10).expect("a permit is free");
        assert!(limits.body(11).is_none());
        permit.add(limits.body(10).expect("a permit is free"));
        assert!(limits.clone().body(1).is_none());
        drop(permit);
        assert!(limits.body(BODY_BYTES).is_some());
    }
}
