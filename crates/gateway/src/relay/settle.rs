//! Reads the log for a line that cannot go on alone, until it can.

use std::{sync::Arc, time::Duration};

use crewcast_events::Channel;

use super::{Relay, line::Need};

/// Entries of one read.
const PAGE: usize = 512;
/// Waits between failed reads: doubling from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

impl Relay {
    /// Settles a line that holds a message it cannot place.
    pub(super) fn settle_soon(&self, channel: Channel) {
        let need = self.lines.get(&channel).map(|line| Need::Behind(line.position().map_or(0, |id| id.offset())));
        self.settle_if_needed(channel, need.unwrap_or(Need::Nothing));
    }

    /// Spawns the reading that a line asked for. A line asks for one thing at a time, so that each channel
    /// is read once, however many sockets wait.
    pub(super) fn settle_if_needed(&self, channel: Channel, need: Need) {
        if need == Need::Nothing {
            return;
        }
        if let Some(relay) = self.me.upgrade() {
            self.spawn(settle(relay, channel, need));
        }
    }
}

async fn settle(relay: Arc<Relay>, channel: Channel, mut need: Need) {
    let mut wait = BACKOFF.0;
    loop {
        let offset = match need {
            Need::Nothing => return,
            Need::Behind(offset) | Need::Verify(offset) => offset,
        };
        let page = match relay.broker.history(&channel, offset, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!(%channel, %error, "the log could not be read; trying again");
                tokio::time::sleep(wait / 2 + wait.mul_f64(fastrand::f64() / 2.0)).await;
                wait = (wait * 2).min(BACKOFF.1);
                continue;
            }
        };
        wait = BACKOFF.0;
        let Some(mut line) = relay.lines.get_mut(&channel) else { return };
        need = match need {
            Need::Nothing => return,
            Need::Behind(_) => line.settle(&page),
            Need::Verify(_) => line.verify(&page),
        };
    }
}
