//! The broker on Redis (6.2 or later, for RESP3 and GETDEL): one server, the master of a Sentinel group, a Cluster.
//!
//! A replica holds one subscribing connection to each server (`node_subscription.rs`, kept by `subscriber.rs`) and a
//! pool of connections for commands. Publishing uses the transport of crewcast-store, so gateways and producers share
//! one script and one view of the topology.

mod active_connection;
mod delivery;
pub(crate) mod errors;
mod history;
mod live_retention;
mod node_subscription;
mod placement;
mod probe;
mod state;
mod subscriber;
mod subscription_set;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use crewcast_events::{Channel, EventId, Keys, Namespace, Namespaces, Owner};
use crewcast_store::{
    Append, AppendError, Ownership, OwnershipMode, OwnershipOutcome, RedisClient, RedisTransport, Renewal, Transport,
};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::{
    delivery::{Delivery, Names},
    live_retention::Capture,
    subscriber::NodeSubscriptions,
};
use super::{BrokerError, ExpiredLease, Live, LogStore, Page, PubSub, Sink, Snapshot, StateDocuments};
use crate::config::BrokerConfig;

/// Connections for commands to each server. Each serves one operation at a time.
const POOL_SIZE: usize = 16;
/// What they are called in `CLIENT LIST`.
const POOL_NAME: &str = "crewcast-cmd";

/// The configured Redis, over at most `connections` to each of its servers. Nothing is connected yet.
///
/// # Errors
/// [`BrokerError::Protocol`] when `broker.url` is invalid. The error does not repeat it: it may hold a password.
pub fn connect(config: &BrokerConfig, connections: usize) -> Result<RedisClient, BrokerError> {
    RedisClient::new(config.url.expose(), &config.tls, connections, POOL_NAME)
        .map_err(|error| BrokerError::Protocol(format!("broker.url {error}")))
}

fn away() -> BrokerError {
    BrokerError::Unavailable("the link to Redis is down".to_owned())
}

/// The broker on Redis.
pub struct RedisBroker {
    redis: RedisClient,
    keys: Keys,
    namespaces: Namespaces,
    /// Gone when the broker is closed, and its connection with it.
    transport: Mutex<Option<Arc<RedisTransport>>>,
    delivery: Arc<Delivery>,
    subscriber: Arc<NodeSubscriptions>,
    capture: Option<Arc<Capture>>,
    tasks: TaskTracker,
    ending: CancellationToken,
    /// Ends the tasks of a broker that is dropped without having been closed.
    _guard: DropGuard,
}

impl RedisBroker {
    /// A broker that connects when it is started. `replica` names this process among the others.
    ///
    /// # Errors
    /// [`BrokerError::Protocol`] when `broker.url` is invalid.
    pub fn new(config: &BrokerConfig, namespaces: Namespaces, replica: String) -> Result<Arc<Self>, BrokerError> {
        Self::hearing(config, namespaces, replica, |_| false)
    }

    /// A broker that overhears every message of an id in the directory ([`Sink::overheard`]).
    ///
    /// # Errors
    /// As [`RedisBroker::new`].
    pub(crate) fn overhearing(
        config: &BrokerConfig,
        namespaces: Namespaces,
        replica: String,
    ) -> Result<Arc<Self>, BrokerError> {
        Self::hearing(config, namespaces, replica, |rules| rules.owner.and_then(Owner::kind).is_some())
    }

    fn hearing(
        config: &BrokerConfig,
        namespaces: Namespaces,
        replica: String,
        overhears: impl Fn(&Namespace) -> bool,
    ) -> Result<Arc<Self>, BrokerError> {
        let redis = connect(config, POOL_SIZE)?;
        let keys = Keys::new(&config.key_prefix);
        let names = Names::new(&keys, &config.channel_prefix, &replica);
        let capture = Capture::new(redis.clone(), keys.clone(), &replica, &namespaces).map(Arc::new);
        let is_heard = |(name, rules): &(&String, &Namespace)| {
            overhears(rules) || capture.as_ref().is_some_and(|capture| capture.hears(name))
        };
        let patterns = namespaces.0.iter().filter(is_heard).map(|(name, _)| names.pattern(name)).collect();
        let delivery = Arc::new(Delivery::new(names, capture.clone()));
        let subscriber =
            Arc::new(NodeSubscriptions::new(redis.clone(), config.sharded, &replica, patterns, delivery.clone()));
        // The transport pipelines on one connection: publishing does not wait for those who read logs.
        let transport =
            RedisTransport::new(redis.clone(), keys.clone(), config.channel_prefix.clone(), namespaces.clone())
                .sharded(config.sharded)
                // Requests are held to `limits.message` before they come here.
                .max_event_bytes(usize::MAX);
        let ending = CancellationToken::new();
        Ok(Arc::new(Self {
            redis,
            keys,
            namespaces,
            transport: Mutex::new(Some(Arc::new(transport))),
            delivery,
            subscriber,
            capture,
            tasks: TaskTracker::new(),
            _guard: ending.clone().drop_guard(),
            ending,
        }))
    }

    /// The connections for commands.
    pub(crate) fn redis(&self) -> &RedisClient {
        &self.redis
    }

    /// The names of the keys.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    fn transport(&self) -> Result<Arc<RedisTransport>, AppendError> {
        self.transport.lock().clone().ok_or_else(|| AppendError::Unavailable("the broker is closed".to_owned()))
    }
}

#[async_trait]
impl Transport for RedisBroker {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        self.transport()?.append(append).await
    }

    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError> {
        self.transport()?.publish_live(channel, message).await
    }

    async fn register(&self, ownership: &Ownership, mode: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        self.transport()?.register(ownership, mode).await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<(), AppendError> {
        self.transport()?.renew(renewals).await
    }
}

#[async_trait]
impl PubSub for RedisBroker {
    async fn start(&self, sink: Arc<dyn Sink>) -> Result<(), BrokerError> {
        self.delivery.set_sink(sink);
        let (subscriber, ending) = (self.subscriber.clone(), self.ending.clone());
        self.tasks.spawn(async move {
            ending.run_until_cancelled(subscriber.run()).await;
            subscriber.close().await;
        });
        if let Some(capture) = self.capture.clone() {
            let ending = self.ending.clone();
            self.tasks.spawn(async move {
                ending.run_until_cancelled(capture.run()).await;
                capture.farewell().await;
            });
        }
        self.subscriber.started().await
    }

    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        self.subscriber.subscribe(channels).await
    }

    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        self.subscriber.unsubscribe(channels).await;
        Ok(())
    }

    async fn barrier(&self) -> Result<(), BrokerError> {
        self.subscriber.barrier().await
    }

    async fn probe(&self) -> Result<Duration, BrokerError> {
        let start = Instant::now();
        // One through each server: what one of them does not deliver is missing.
        try_join_all(self.subscriber.probes()?.iter().map(async |(name, is_sharded)| {
            let mut probe = self.delivery.probes.begin();
            let mut publish = redis::cmd(if *is_sharded { "SPUBLISH" } else { "PUBLISH" });
            publish.arg(name).arg(&probe.nonce);
            publish.exec_async(&mut self.redis.pooled()).await.map_err(|error| errors::of_redis(&error))?;
            match probe.back().await {
                true => Ok(()),
                false => Err(BrokerError::Unavailable("a probe did not come back".to_owned())),
            }
        }))
        .await?;
        Ok(start.elapsed())
    }

    async fn close(&self) {
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.transport.lock().take();
        self.redis.close();
    }
}

#[async_trait]
impl LogStore for RedisBroker {
    async fn snapshots(&self, channels: &[Channel]) -> Result<Vec<Snapshot>, BrokerError> {
        history::snapshots(&self.redis, &self.keys, &self.namespaces, channels).await
    }

    async fn history(&self, channel: &Channel, offset: u64, limit: usize) -> Result<Page, BrokerError> {
        history::history(&self.redis, &self.keys, channel, offset, limit).await
    }

    async fn state(&self, channel: &Channel, within: Option<Duration>) -> Result<StateDocuments, BrokerError> {
        state::state(&self.redis, &self.keys, channel, within).await
    }

    async fn live(&self, channel: &Channel, name: &str) -> Result<Live, BrokerError> {
        live_retention::live(&self.redis, &self.keys, channel, name).await
    }

    async fn next_lease_expiry(&self, channels: &[Channel]) -> Result<Vec<Option<Duration>>, BrokerError> {
        state::next_lease_expiry(&self.redis, &self.keys, channels).await
    }

    async fn expired_leases(&self, channel: &Channel) -> Result<Vec<ExpiredLease>, BrokerError> {
        state::expired_leases(&self.redis, &self.keys, channel).await
    }
}
