//! Probes: published by this replica, and received by its own subscription.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Maximum time for a probe to come back.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The probes that are on their way, by nonce.
#[derive(Default)]
pub(super) struct Probes {
    waiting: Mutex<HashMap<String, oneshot::Sender<()>>>,
}

/// One probe. Removed when it is dropped.
pub(super) struct Probe<'a> {
    probes: &'a Probes,
    pub(super) nonce: String,
    back: oneshot::Receiver<()>,
}

impl Probes {
    pub(super) fn begin(&self) -> Probe<'_> {
        let nonce = format!("{:032x}", fastrand::u128(..));
        let (sender, back) = oneshot::channel();
        self.waiting.lock().insert(nonce.clone(), sender);
        Probe { probes: self, nonce, back }
    }

    pub(super) fn came_back(&self, payload: &[u8]) {
        let waiting = std::str::from_utf8(payload).ok().and_then(|nonce| self.waiting.lock().remove(nonce));
        if let Some(sender) = waiting {
            // The receiver is gone if the probe was dropped.
            let _ = sender.send(());
        }
    }
}

impl Probe<'_> {
    /// Waits until the probe has come back; false if it did not in time.
    pub(super) async fn back(&mut self) -> bool {
        tokio::time::timeout(PROBE_TIMEOUT, &mut self.back).await.is_ok_and(|back| back.is_ok())
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.probes.waiting.lock().remove(&self.nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_its_own_nonce_brings_a_probe_back() {
        let probes = Probes::default();
        let (mut lost, mut found) = (probes.begin(), probes.begin());
        probes.came_back(b"another's");
        probes.came_back(found.nonce.as_bytes());
        assert!(found.back().await);
        assert!(!lost.back().await, "after the timeout");
        drop((lost, found));
        assert!(probes.waiting.lock().is_empty());
    }
}
