//! Servers that take over from each other.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use crewcast_events::{Channel, EventId, Namespaces};
use crewcast_publisher::{
    Append, AppendError, Builder, Ownership, OwnershipMode, OwnershipOutcome, Publisher, RedisTransport, Transport,
};
use serde_json::{Value, json};

use super::{RedisServer, eyes, log, until, with_namespaces};

pub(crate) const GRAPH: &str = "graph:a";

/// A master and its replicas. The test chooses the server that is used.
pub(crate) struct Stages {
    pub servers: Vec<RedisServer>,
    pub switch: Switch,
}

#[derive(Clone)]
pub(crate) struct Switch {
    transports: Arc<[RedisTransport]>,
    current: Arc<AtomicUsize>,
    /// How many live messages were published.
    pub live: Arc<AtomicUsize>,
}

impl Switch {
    pub(crate) fn to(&self, server: usize) {
        self.current.store(server, Ordering::SeqCst);
    }

    fn transport(&self) -> &RedisTransport {
        &self.transports[self.current.load(Ordering::SeqCst)]
    }
}

#[async_trait::async_trait]
impl Transport for Switch {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        self.transport().append(append).await
    }

    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError> {
        self.live.fetch_add(1, Ordering::SeqCst);
        self.transport().publish_live(channel, message).await
    }

    async fn register(&self, ownership: &Ownership, mode: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        self.transport().register(ownership, mode).await
    }
}

impl Stages {
    pub(crate) async fn start(replicas: usize) -> Self {
        // Immediately, instead of after five seconds.
        let master = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
        let port = master.port.to_string();
        let mut servers = vec![master];
        for _ in 0..replicas {
            servers.push(RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]));
        }
        let mut namespaces = Namespaces::default();
        namespaces.0.values_mut().for_each(|namespace| namespace.log.length = 100_000);
        let transports = servers.iter().map(|server| with_namespaces(server, namespaces.clone())).collect();
        let switch = Switch { transports, current: Arc::default(), live: Arc::default() };
        Self { servers, switch }
    }

    pub(crate) fn publisher(&self, builder: Builder) -> Publisher {
        builder.with_transport(Arc::new(self.switch.clone()))
    }

    /// Waits until a replica has all events of the master, cuts it off and promotes it.
    pub(crate) async fn cut(&self, server: usize) {
        let head = |messages: Vec<String>| messages.last().cloned();
        until("it is replicated", async || {
            head(log(&self.servers[server], GRAPH).await) == head(log(&self.servers[0], GRAPH).await)
        })
        .await;
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec_async(&mut eyes(&self.servers[server]).await).await.unwrap();
    }

    pub(crate) async fn log(&self, server: usize) -> Vec<String> {
        log(&self.servers[server], GRAPH).await
    }
}

/// Emits events with these numbers.
pub(crate) fn emit(publisher: &Publisher, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        publisher.publish(GRAPH, &json!({"type": "x", "n": n})).unwrap();
    }
}

pub(crate) async fn confirmed(publisher: &Publisher) {
    until("all is confirmed", async || publisher.queued() == 0).await;
}

/// Emits events with these numbers, each in its own batch.
pub(crate) async fn confirm_singly(publisher: &Publisher, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        emit(publisher, [n]);
        confirmed(publisher).await;
    }
}

pub(crate) fn numbers_of(messages: &[String]) -> Vec<u64> {
    messages.iter().map(|message| serde_json::from_str::<Value>(message).unwrap()["n"].as_u64().unwrap()).collect()
}
