//! Reads the log for a sequencer that needs it, until the sequencer is live again.

use std::{sync::Arc, time::Duration};

use super::{
    Relay,
    sequencer::{Backfill, PendingBackfill},
};

/// Entries of one read.
const PAGE: usize = 512;
/// Waits between failed reads: doubling from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

impl Relay {
    /// Spawns the reads that a sequencer asked for. A sequencer asks for one read at a time: each channel is read once,
    /// whatever the number of waiting sockets.
    pub(super) fn backfill(&self, pending: PendingBackfill) {
        if pending.backfill != Backfill::Nothing
            && let Some(relay) = self.me.upgrade()
        {
            self.spawn(backfill_until_live(relay, pending));
        }
    }
}

async fn backfill_until_live(relay: Arc<Relay>, mut pending: PendingBackfill) {
    let mut wait = BACKOFF.0;
    while let Backfill::After(offset) | Backfill::Verify(offset) = pending.backfill {
        let channel = &pending.channel;
        let page = match relay.broker.log.history(channel, offset, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!(%channel, %error, "could not read the log; trying again");
                tokio::time::sleep(wait / 2 + wait.mul_f64(fastrand::f64() / 2.0)).await;
                wait = (wait * 2).min(BACKOFF.1);
                continue;
            }
        };
        wait = BACKOFF.0;
        let Some(mut sequencer) = relay.sequencers.get_mut(&pending.channel) else { return };
        pending.backfill = sequencer.take(&pending, &page);
    }
}
