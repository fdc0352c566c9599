//! Reads the log for a line that cannot go on alone, until it can.

use std::{sync::Arc, time::Duration};

use super::{
    Relay,
    line::{Need, Unsettled},
};

/// Entries of one read.
const PAGE: usize = 512;
/// Waits between failed reads: doubling from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

impl Relay {
    /// Spawns the reading that a line asked for. A line asks for one thing at a time, so that each channel
    /// is read once, however many sockets wait.
    pub(super) fn settle(&self, unsettled: Unsettled) {
        if unsettled.need != Need::Nothing
            && let Some(relay) = self.me.upgrade()
        {
            self.spawn(read_until_settled(relay, unsettled));
        }
    }
}

async fn read_until_settled(relay: Arc<Relay>, mut unsettled: Unsettled) {
    let mut wait = BACKOFF.0;
    while let Need::Behind(offset) | Need::Verify(offset) = unsettled.need {
        let channel = &unsettled.channel;
        let page = match relay.broker.history(channel, offset, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!(%channel, %error, "the log could not be read; trying again");
                tokio::time::sleep(wait / 2 + wait.mul_f64(fastrand::f64() / 2.0)).await;
                wait = (wait * 2).min(BACKOFF.1);
                continue;
            }
        };
        wait = BACKOFF.0;
        let Some(mut line) = relay.lines.get_mut(&unsettled.channel) else { return };
        unsettled.need = line.take(&unsettled, &page);
    }
}
