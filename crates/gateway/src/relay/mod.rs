//! Turns broker messages into one history per channel.
//!
//! Each channel has a `Sequencer`, a state machine without I/O. It forwards a message that continues the channel's
//! position, drops one that the channel already holds, and holds messages back while it is reconciled with the log. The
//! relay reads the log for it, once per channel and replica, whatever the number of sockets.
//!
//! - `sequencer.rs` with `reorder_buffer.rs`: the rule, and the messages that are held back
//! - `demand.rs`: subscribes to what the hub wants, in batches; idle channels linger and are given up
//! - `backfill.rs`: holes, repeats and rewritten histories are reconciled with the log
//! - `lease_expiry.rs`: a lease that is no longer renewed is reported on its channel
//! - `named_run.rs`: a run that a crew's event names is reported to the adoption
//! - `head_check.rs`: compares positions with the heads, after a reconnect and on a schedule

mod backfill;
mod demand;
mod head_check;
mod lease_expiry;
mod named_run;
mod reorder_buffer;
mod sequencer;

use std::{
    sync::{Arc, OnceLock, Weak, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{Channel, Event, Namespaces};
use dashmap::DashMap;
use tokio::sync::{mpsc, watch as state};
use tokio::{runtime::Handle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    broker::{Broker, Link, Sink, captured::is_not_shown},
    hub::{Demand, Hub},
    registry::Control,
    stats::UsageCounters,
    telemetry::metrics::{Metric, counter},
};
use sequencer::{Accepted, Retain, Sequencer};

/// How long a channel without readers stays subscribed, so that readers that come and go cost nothing.
const LINGER: Duration = Duration::from_secs(10);

/// The broker link as connections see it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum LinkState {
    /// Events arrive.
    Up,
    /// No events arrive since this moment.
    Down(Instant),
}

/// Acts on control messages and on a restored link: the auth side.
pub(crate) trait ControlSink: Send + Sync + 'static {
    /// Takes a control message, which every replica receives.
    fn on_control(&self, control: &Control);
    /// The link is back. Control messages sent while it was down were missed.
    fn on_link_up(&self);
}

/// Learns from events which ids there are: the adoption side. Does not block.
pub(crate) trait Sightings: Send + Sync + 'static {
    /// An event of a crew names a run.
    fn run_named(&self, crew: &str, run: &str);
    /// A message arrived in a channel that this replica may not read, if the broker overhears them.
    fn overheard(&self, channel: &str, message: &Bytes);
    /// The live events that were overheard in a new channel before this replica subscribed to it. Each is taken once.
    fn first_events(&self, channel: &Channel) -> FirstEvents;
}

/// The first live events of a new channel.
#[derive(Default)]
pub(crate) struct FirstEvents {
    /// Oldest first.
    pub(crate) events: Vec<Event>,
    /// How many more there were.
    pub(crate) missed: u64,
}

/// Takes what the broker delivers and fills the hub's channels.
pub(crate) struct Relay {
    me: Weak<Relay>,
    hub: Arc<Hub>,
    broker: Broker,
    namespaces: Namespaces,
    sequencers: DashMap<Channel, Sequencer>,
    serials: AtomicU64,
    message_limit: usize,
    link: state::Sender<LinkState>,
    control: OnceLock<Arc<dyn ControlSink>>,
    sightings: OnceLock<Arc<dyn Sightings>>,
    usage: OnceLock<Arc<UsageCounters>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Relay {
    /// Starts a relay that serves `demands` until [`Relay::stop`].
    pub(crate) fn start(
        hub: Arc<Hub>,
        demands: mpsc::UnboundedReceiver<Demand>,
        broker: Broker,
        namespaces: Namespaces,
        message_limit: usize,
    ) -> Arc<Self> {
        let relay = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            hub,
            broker,
            namespaces,
            sequencers: DashMap::new(),
            serials: AtomicU64::new(0),
            message_limit,
            link: state::Sender::new(LinkState::Down(Instant::now())),
            control: OnceLock::new(),
            sightings: OnceLock::new(),
            usage: OnceLock::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        relay.spawn(demand::serve(relay.clone(), demands));
        relay.spawn(head_check::check_on_schedule(relay.clone()));
        relay.spawn(lease_expiry::publish_on_schedule(relay.clone()));
        for _ in 0..Handle::current().metrics().num_workers() {
            relay.spawn(relay.hub.fanout().clone().serve());
        }
        relay
    }

    /// Sets the sink for control messages. Call it once, before the broker starts.
    pub(crate) fn set_control(&self, control: Arc<dyn ControlSink>) {
        let _ = self.control.set(control);
    }

    /// Sets who learns which ids there are. Call it once, before the broker starts.
    pub(crate) fn set_sightings(&self, sightings: Arc<dyn Sightings>) {
        let _ = self.sightings.set(sightings);
    }

    /// Sets the counters for received and rejected events. Call it once, before the broker starts.
    pub(crate) fn set_usage(&self, usage: Arc<UsageCounters>) {
        let _ = self.usage.set(usage);
    }

    /// Watches the link's state.
    pub(crate) fn link_state(&self) -> state::Receiver<LinkState> {
        self.link.subscribe()
    }

    /// Stops the relay's tasks and waits for them.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    fn retains(&self, channel: &Channel) -> Retain {
        let namespace = self.namespaces.of(channel).filter(|namespace| namespace.retain);
        namespace.map_or(Retain::default(), |namespace| Retain { logged: true, live: namespace.capture_live })
    }

    fn reject(&self, channel: &str, reason: &'static str) {
        counter(Metric::EventsRejected, &[("reason", reason)]).increment(1);
        if let Some(usage) = self.usage.get() {
            usage.rejected();
        }
        // Once a minute, and with the channel as the only detail: the payload may contain anything.
        crate::util::log_throttle::once_a_minute(reason, || match reason {
            NOT_SHOWN => tracing::warn!(channel, reason, "no message of the dialect tracking has an event's type"),
            _ => tracing::warn!(channel, reason, "dropped a message that is not a valid event"),
        });
    }
}

/// A live event that the dialect of its namespace does not send. Sockets of other dialects get it.
const NOT_SHOWN: &str = "not_shown";

impl Sink for Relay {
    fn message(&self, channel: &str, payload: Bytes) {
        if payload.len() > self.message_limit {
            return self.reject(channel, "too_large");
        }
        let event = match Event::parse(payload) {
            Ok(event) => event,
            Err(rejected) => return self.reject(channel, rejected.label()),
        };
        let Some(mut sequencer) = self.sequencers.get_mut(channel) else { return };
        let namespace = channel.split(':').next().unwrap_or_default();
        if event.id().is_none() && is_not_shown(namespace, &event.kind()) {
            self.reject(channel, NOT_SHOWN);
        }
        let now = sequencer.count_received();
        if let Some(sightings) = self.sightings.get()
            && let Some((crew, run)) = sequencer.newly_named_run(&event, now)
        {
            sightings.run_named(crew, run);
        }
        if let Some(usage) = self.usage.get() {
            usage.received(&sequencer.org);
        }
        if event.id().is_some() {
            sequencer.lease_check.heard();
        }
        if let Accepted::NeedsLog(backfill) = sequencer.accept(event) {
            let pending = sequencer.pending(backfill);
            drop(sequencer);
            self.backfill(pending);
        }
    }

    fn overheard(&self, channel: &str, payload: &Bytes) {
        if payload.len() <= self.message_limit
            && let Some(sightings) = self.sightings.get()
        {
            sightings.overheard(channel, payload);
        }
    }

    fn control(&self, payload: Bytes) {
        match serde_json::from_slice::<Control>(&payload) {
            Ok(control) => {
                if let Some(sink) = self.control.get() {
                    sink.on_control(&control);
                }
            }
            Err(_) => self.reject("control", "bad_control"),
        }
    }

    fn link(&self, link: Link) {
        let next = match link {
            Link::Up => LinkState::Up,
            Link::Down => LinkState::Down(Instant::now()),
        };
        let was = self.link.send_replace(next);
        match (was, next) {
            (LinkState::Down(_), LinkState::Up) => {
                tracing::info!("the broker link is up");
                if let Some(sink) = self.control.get() {
                    sink.on_link_up();
                }
                self.check_soon(None);
            }
            (LinkState::Up, LinkState::Down(_)) => tracing::warn!("the broker link is down; sockets wait for it"),
            _ => {}
        }
    }

    fn missed(&self, channels: &[Channel]) {
        self.check_soon(Some(channels.to_vec()));
    }
}

#[cfg(test)]
mod tests;
