//! The subscribing side of a replica: one connection to each server, and each channel on the connection of the server
//! that holds it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use crewcast_events::Channel;
use crewcast_store::{RedisClient, Server, Sharded, Topology};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::{
    away,
    delivery::Delivery,
    errors,
    node_subscription::{NodeState, NodeSubscription, Role, backoff},
    placement::{PendingChanges, Placement, Running, all_served},
};
use crate::{
    broker::BrokerError,
    telemetry::metrics::{Metric, counter, gauge},
};

/// How long a call waits for a link that is down.
const AWAY: Duration = Duration::from_secs(1);
/// How often a Cluster's topology is read if nothing makes it doubtful: its servers report when a slot moves.
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// How often Sentinels are asked: a master that was deposed while it hung believes in itself for a while when it
/// resumes.
const REFRESH_MASTER_EVERY: Duration = Duration::from_secs(1);
/// Pause between two attempts while the topology is in doubt.
const REFRESH_PAUSE: Duration = Duration::from_millis(20);
/// After this many attempts without success, the pause no longer grows: about 200 ms.
const MAX_BACKOFF_STEP: u32 = 3;

/// The subscriptions at all servers, and the channels wanted from them.
pub(super) struct NodeSubscriptions {
    redis: RedisClient,
    replica: String,
    patterns: Vec<String>,
    may_shard: bool,
    delivery: Arc<Delivery>,
    placement: Mutex<Placement>,
    state: watch::Sender<SubscriberState>,
    changed: Arc<Notify>,
    tasks: TaskTracker,
}

#[derive(Clone, Debug)]
enum SubscriberState {
    Starting,
    Up,
    Down(BrokerError),
}

impl NodeSubscriptions {
    pub(super) fn new(
        redis: RedisClient,
        sharded: Sharded,
        replica: &str,
        patterns: Vec<String>,
        delivery: Arc<Delivery>,
    ) -> Self {
        // A prefix puts a channel's name into another slot than its keys: then publishers do not shard either.
        let may_shard = sharded == Sharded::Auto && redis.is_cluster() && delivery.names.prefix.is_empty();
        Self {
            redis,
            replica: replica.to_owned(),
            patterns,
            may_shard,
            delivery,
            placement: Mutex::default(),
            state: watch::Sender::new(SubscriberState::Starting),
            changed: Arc::new(Notify::new()),
            tasks: TaskTracker::new(),
        }
    }

    /// Maintains the connections until the future is dropped; then call [`NodeSubscriptions::close`].
    pub(super) async fn run(&self) {
        let mut attempts = 0;
        let mut refresh_at = Instant::now();
        let mut schedule = interval(if self.redis.masters_only() { REFRESH_MASTER_EVERY } else { REFRESH_EVERY });
        schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut must_refresh = true;
        loop {
            must_refresh |= self.gather_moved();
            if must_refresh && Instant::now() >= refresh_at {
                must_refresh = !self.refresh().await;
                refresh_at = Instant::now() + REFRESH_PAUSE + backoff(attempts);
                attempts = (attempts + 1).min(MAX_BACKOFF_STEP);
            }
            must_refresh |= !self.judge();
            if !must_refresh {
                attempts = 0;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(refresh_at), if must_refresh => {}
                _ = schedule.tick(), if self.redis.may_change() => must_refresh = true,
            }
        }
    }

    /// Stops delivery and makes every call fail.
    pub(super) async fn close(&self) {
        self.delivery.close();
        self.placement.lock().links.clear();
        self.state.send_replace(SubscriberState::Down(BrokerError::Unavailable("the broker is closed".to_owned())));
        // Pending calls end with the node subscriptions.
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits for the first attempt to connect.
    pub(super) async fn started(&self) -> Result<(), BrokerError> {
        let mut state = self.state.subscribe();
        let first = state.wait_for(|state| !matches!(state, SubscriberState::Starting)).await;
        match first.as_deref() {
            Ok(SubscriberState::Up) => Ok(()),
            Ok(SubscriberState::Down(error)) => Err(error.clone()),
            _ => Err(away()),
        }
    }

    pub(super) async fn subscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        let served = async {
            loop {
                let changes = self.placement.lock().add(channels, &self.delivery.names);
                // The topology does not say yet where the channels belong.
                let Some(changes) = changes else { return std::future::pending().await };
                if all_served(&changes).await {
                    return;
                }
                // A new node subscription has replaced one of these.
            }
        };
        let mut state = self.state.subscribe();
        let given_up = async {
            let _ = state.wait_for(|state| !matches!(state, SubscriberState::Up)).await;
            sleep(AWAY).await;
        };
        tokio::select! {
            biased;
            () = served => Ok(()),
            () = given_up => Err(self.why_away()),
        }
    }

    pub(super) async fn unsubscribe(&self, channels: &[Channel]) {
        let changes = self.placement.lock().remove(channels, &self.delivery.names);
        let mut state = self.state.subscribe();
        // When the link goes down, every subscription ends.
        let lost = async {
            let _ = state.wait_for(|state| !matches!(state, SubscriberState::Up)).await;
        };
        tokio::select! {
            biased;
            _ = all_served(&changes) => {}
            () = lost => {}
        }
    }

    /// Waits until everything that was published at the channels' own servers before has been delivered.
    ///
    /// What was published at another server of a Cluster with a plain PUBLISH may still be on its way between the
    /// servers.
    pub(super) async fn barrier(&self) -> Result<(), BrokerError> {
        let links = self.links();
        if links.is_empty() {
            return Err(self.why_away());
        }
        try_join_all(links.iter().map(|link| link.barrier())).await.map(drop)
    }

    /// The probe's channel on each server, and whether it is sharded.
    pub(super) fn probes(&self) -> Result<Vec<(String, bool)>, BrokerError> {
        let links = self.links();
        let probes: Option<Vec<_>> = links.iter().map(|link| link.probe()).collect();
        probes.filter(|probes| !probes.is_empty()).ok_or_else(|| self.why_away())
    }

    fn links(&self) -> Vec<Arc<NodeSubscription>> {
        self.placement.lock().links.values().map(|running| running.link.clone()).collect()
    }

    fn why_away(&self) -> BrokerError {
        match &*self.state.borrow() {
            SubscriberState::Down(error) => error.clone(),
            SubscriberState::Starting | SubscriberState::Up => away(),
        }
    }

    /// Collects channels that servers gave up, to be placed again. Returns whether there were any.
    fn gather_moved(&self) -> bool {
        let mut any = false;
        for moved in self.links().iter().map(|link| link.take_moved()) {
            any |= moved.probe || !moved.channels.is_empty();
            self.placement.lock().unplaced.extend(moved.channels);
        }
        any
    }

    /// Reads the topology, and adapts connections and channels to it. False if it could not be read, or does not cover
    /// every slot.
    async fn refresh(&self) -> bool {
        let topology = match self.redis.discover().await {
            Ok(topology) => topology,
            Err(error) => {
                let error = errors::of_redis(&error);
                debug!(%error, "could not read the topology");
                if self.links().is_empty() {
                    self.down(error);
                }
                return false;
            }
        };
        let is_whole = topology.is_whole();
        let (moved, changes) = self.place(topology);
        if !moved.is_empty() {
            // Some of their messages may have been missed on the way.
            let delivery = self.delivery.clone();
            self.tasks.spawn(async move {
                // If a node subscription has ended in the meantime, its channels have moved once more.
                all_served(&changes).await;
                delivery.missed(&moved.into_iter().collect::<Vec<_>>());
            });
        }
        is_whole
    }

    /// Keeps one connection to each server, and each channel where it belongs. Returns the channels that moved, and the
    /// changes to be confirmed.
    fn place(&self, topology: Arc<Topology>) -> (HashSet<Channel>, PendingChanges) {
        let mut placement = self.placement.lock();
        let placement = &mut *placement;
        let mut moved = placement.displace(&topology, &self.delivery.names);
        moved.extend(placement.unplaced.drain());
        moved.retain(|channel| placement.channels.contains(channel));
        let mut before = std::mem::take(&mut placement.links);
        for (n, node) in topology.nodes().iter().enumerate() {
            let role = self.role(n == 0);
            let (name, probe) = (node.server.name().to_owned(), self.delivery.names.probe_at(node));
            let running = match before.remove(&name).filter(|running| *running.link.role() == role) {
                Some(running) => {
                    running.link.set_probe(probe);
                    running
                }
                None => {
                    if role.lead.is_some() && matches!(*self.state.borrow(), SubscriberState::Up) {
                        // Control messages are missed until the new lead connection is up.
                        self.down(away());
                    }
                    // A node subscription with another role had channels too.
                    let here = |channel: &&Channel| node.holds(self.delivery.names.slot_of(channel));
                    moved.extend(placement.channels.iter().filter(here).cloned());
                    self.start_link(&node.server, role, probe)
                }
            };
            placement.links.insert(name, running);
        }
        placement.topology = Some(topology);
        let (placed, unplaced) = placement.by_link(moved.iter().cloned(), &self.delivery.names);
        placement.unplaced.extend(unplaced);
        let changes = placed.into_iter().map(|(link, channels)| {
            let change = link.add(&channels);
            (link, change)
        });
        let changes = changes.collect();
        (moved, changes)
    }

    fn start_link(&self, server: &Arc<Server>, role: Role, probe: String) -> Running {
        let link = NodeSubscription::new(
            server.clone(),
            role,
            &self.replica,
            probe,
            self.delivery.clone(),
            self.changed.clone(),
        );
        Running::start(link)
    }

    fn role(&self, is_lead: bool) -> Role {
        Role {
            lead: is_lead.then(|| self.patterns.clone()),
            masters_only: self.redis.masters_only(),
            may_shard: self.may_shard,
        }
    }

    /// Reports the state of all connections together; returns whether nothing is missing.
    fn judge(&self) -> bool {
        let is_whole = self.placement.lock().topology.as_ref().is_some_and(|topology| topology.is_whole());
        let states: Vec<NodeState> = self.links().iter().map(|link| link.state()).collect();
        let down = states.iter().find_map(|state| match state {
            NodeState::Down(error) => Some(error.clone()),
            NodeState::Starting | NodeState::Up => None,
        });
        match down {
            Some(error) => self.down(error),
            None if !is_whole && !states.is_empty() => self.down(away()),
            None if !states.is_empty() && states.iter().all(|state| matches!(state, NodeState::Up)) => {
                self.up();
                return true;
            }
            // A connection that is starting reports its own progress.
            None => return true,
        }
        false
    }

    fn up(&self) {
        if matches!(*self.state.borrow(), SubscriberState::Up) {
            return;
        }
        self.delivery.up();
        gauge(Metric::BrokerUp, &[]).set(1.0);
        let again = matches!(self.state.send_replace(SubscriberState::Up), SubscriberState::Down(_));
        if again {
            counter(Metric::BrokerReconnects, &[]).increment(1);
        }
        info!(again, "the link to Redis is up");
    }

    fn down(&self, error: BrokerError) {
        let was_up = self.delivery.down();
        gauge(Metric::BrokerUp, &[]).set(0.0);
        if was_up || matches!(*self.state.borrow(), SubscriberState::Starting) {
            warn!(%error, "the link to Redis is down; connecting again");
        }
        self.state.send_replace(SubscriberState::Down(error));
    }
}
