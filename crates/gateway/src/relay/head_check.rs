//! Compares positions with heads, to find losses that no later message would reveal.

use std::{sync::Arc, time::Duration};

use crewcast_events::Channel;
use tokio::time::Instant;

use super::{LinkState, Relay};
use crate::broker::Snapshot;

/// Time from a channel's last event to its first comparison (spec: the end of a burst can be lost).
pub(super) const AFTER_LAST_EVENT: Duration = Duration::from_secs(2);
/// Longest wait. Each comparison that finds nothing doubles the wait for the next, up to this.
const AT_MOST: Duration = Duration::from_secs(300);
/// How often the schedule runs.
const TICK: Duration = Duration::from_millis(500);
/// Channels compared in one batch, and the pause between two batches.
const BATCH: usize = 500;
const PACE: Duration = Duration::from_millis(5);
/// How long a batch whose heads could not be read waits for its next attempt.
const RETRY: Duration = Duration::from_millis(250);

/// Compares each sequencer with its head when it is due. Never returns.
pub(super) async fn check_on_schedule(relay: Arc<Relay>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = Instant::now();
        let mut due = Vec::new();
        for mut sequencer in relay.sequencers.iter_mut() {
            if sequencer.is_live() && sequencer.check.due <= now {
                let quiet = sequencer.check.quiet.min(16);
                sequencer.check.due = now + (AFTER_LAST_EVENT * 2u32.pow(quiet)).min(AT_MOST);
                sequencer.check.quiet = quiet + 1;
                due.push(sequencer.channel().clone());
            }
        }
        if relay.hub.is_over_budget() {
            // Trim the rings of quiet channels in favour of those that are read.
            let quiet = relay.sequencers.iter().filter(|sequencer| sequencer.check.quiet > 0);
            quiet.for_each(|sequencer| sequencer.channel_state().trim());
        }
        relay.compare(&due).await;
    }
}

impl Relay {
    /// Compares these channels (`None`: all) with their heads, in paced batches: each may have missed something.
    pub(super) fn check_soon(&self, channels: Option<Vec<Channel>>) {
        let Some(relay) = self.me.upgrade() else { return };
        self.spawn(async move {
            let mut active = channels.unwrap_or_else(|| {
                relay.sequencers.iter().map(|sequencer| sequencer.key().clone()).collect::<Vec<_>>()
            });
            active.retain(|channel| {
                let Some(mut sequencer) = relay.sequencers.get_mut(channel).filter(|sequencer| !sequencer.is_joining())
                else {
                    return false;
                };
                let live_only = relay.namespaces.of(channel).is_none_or(|n| n.log.length == 0);
                sequencer.link_was_down(live_only);
                sequencer.lease_check.link_was_down();
                true
            });
            relay.compare(&active).await;
        });
    }

    async fn compare(&self, channels: &[Channel]) {
        for (n, batch) in channels.chunks(BATCH).enumerate() {
            if n > 0 {
                tokio::time::sleep(PACE).await;
            }
            let Some(snapshots) = self.heads(batch).await else { return };
            for (channel, snapshot) in batch.iter().zip(snapshots) {
                self.compare_one(channel, &snapshot);
            }
        }
    }

    /// Reads the heads of a batch, and retries while the link is up. `None` once it is down: a reconnect causes a
    /// comparison of its own.
    async fn heads(&self, batch: &[Channel]) -> Option<Vec<Snapshot>> {
        loop {
            match self.broker.log.snapshots(batch).await {
                Ok(snapshots) => return Some(snapshots),
                Err(error) => tracing::debug!(%error, "could not read the heads; trying again"),
            }
            if *self.link.borrow() != LinkState::Up {
                return None;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn compare_one(&self, channel: &Channel, snapshot: &Snapshot) {
        let Some(mut sequencer) = self.sequencers.get_mut(channel) else { return };
        let behind_head = sequencer.position() != snapshot.head;
        // A position beyond the head comes from a message that was faster than this answer, or from another history:
        // the log decides.
        if behind_head && let Some(backfill) = sequencer.begin_reconcile() {
            let pending = sequencer.pending(backfill);
            drop(sequencer);
            self.backfill(pending);
        }
    }
}
