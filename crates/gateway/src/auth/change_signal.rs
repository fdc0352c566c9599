//! Signals open sockets to check their grants again.

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
