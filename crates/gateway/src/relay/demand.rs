//! Subscribes to the channels that the hub wants, in batches, and gives up channels without readers.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crewcast_events::{Channel, Owner};
use tokio::{sync::mpsc, time::Instant};

use super::{LINGER, Relay, Sequencer, lease_expiry::LeaseCheck};
use crate::{
    broker::BrokerError,
    hub::{ChannelState, Demand},
};

/// Maximum number of channels in one SUBSCRIBE.
const BATCH: usize = 1000;
/// How long a batch that the broker refused waits for its next attempt.
const RETRY: Duration = Duration::from_millis(250);

/// Serves the hub's demands, one batch at a time: giving a channel up and wanting it again cannot overtake each other.
pub(super) async fn serve(relay: Arc<Relay>, mut demands: mpsc::UnboundedReceiver<Demand>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut lingering: std::collections::VecDeque<(Instant, Channel)> = Default::default();
    let mut retry: Vec<Channel> = Vec::new();
    loop {
        let lingers_until = lingering.front().map(|(until, _)| *until);
        tokio::select! {
            received = demands.recv_many(&mut batch, BATCH) => if received == 0 { return },
            () = sleep_until(lingers_until) => {}
            () = tokio::time::sleep(RETRY), if !retry.is_empty() => {}
        }
        let mut wanted = std::mem::take(&mut retry);
        for demand in batch.drain(..) {
            match demand {
                Demand::Wanted(channel_state) => wanted.push(relay.add_sequencer(channel_state)),
                Demand::Idle(channel) => lingering.push_back((Instant::now() + LINGER, channel)),
            }
        }
        give_up_idle(&relay, &mut lingering).await;
        // A channel that waited for the broker may have been given up meanwhile.
        wanted.retain(|channel| relay.sequencers.contains_key(channel));
        for chunk in wanted.chunks(BATCH) {
            if let Err(error) = open_sequencers(&relay, chunk).await {
                tracing::debug!(%error, channels = chunk.len(), "could not subscribe to channels; trying again");
                retry.extend_from_slice(chunk);
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Subscribes to channels and opens each at its position after the confirmation.
async fn open_sequencers(relay: &Arc<Relay>, channels: &[Channel]) -> Result<(), BrokerError> {
    relay.broker.pubsub.subscribe(channels).await?;
    let snapshots = relay.broker.log.snapshots(channels).await?;
    if snapshots.iter().any(|snapshot| snapshot.retained.is_some()) {
        // The barrier ensures that what was published before the retained values were read has reached the sequencers,
        // which then do not repeat it.
        relay.broker.pubsub.barrier().await?;
    }
    for (channel, snapshot) in channels.iter().zip(snapshots) {
        let Some(mut sequencer) = relay.sequencers.get_mut(channel) else { continue };
        let first = relay.sightings.get().map(|sightings| sightings.first_events(channel)).unwrap_or_default();
        let backfill = sequencer.open_behind(first, snapshot);
        let pending = sequencer.pending(backfill);
        drop(sequencer);
        relay.backfill(pending);
    }
    Ok(())
}

async fn give_up_idle(relay: &Relay, lingering: &mut std::collections::VecDeque<(Instant, Channel)>) {
    let mut idle = Vec::new();
    while let Some((until, channel)) = lingering.front() {
        if *until > Instant::now() || idle.len() == BATCH {
            break;
        }
        if relay.hub.forget_if_idle(channel) {
            relay.sequencers.remove(channel);
            idle.push(channel.clone());
        }
        lingering.pop_front();
    }
    if !idle.is_empty()
        && let Err(error) = relay.broker.pubsub.unsubscribe(&idle).await
    {
        // The broker forgets them with its link at the latest.
        tracing::debug!(%error, "could not unsubscribe from channels");
    }
}

impl Relay {
    fn add_sequencer(&self, channel_state: Arc<ChannelState>) -> Channel {
        let channel = channel_state.channel().clone();
        let retain = self.retains(&channel);
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let is_watched = self.namespaces.of(&channel).is_some_and(|rules| !rules.lost_after.is_zero());
        let mut sequencer = Sequencer::new(channel_state, retain, serial);
        sequencer.lease_check = LeaseCheck::new(is_watched);
        let is_crews = self.namespaces.of(&channel).is_some_and(|rules| rules.owner == Some(Owner::Crew));
        sequencer.named_run = is_crews.then(Box::default);
        sequencer.org = self.usage.get().and_then(|usage| usage.org_of(&channel));
        self.sequencers.insert(channel.clone(), sequencer);
        channel
    }
}
