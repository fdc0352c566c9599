//! Tells open sockets that what they may read may have changed.

use tokio::sync::watch;

/// Counts changes of the directory's view and of the revocations.
pub(super) struct ChangeSignal(watch::Sender<u64>);

impl ChangeSignal {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub(super) fn count(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    #[cfg(test)]
    pub(super) fn so_far(&self) -> u64 {
        *self.0.borrow()
    }
}
