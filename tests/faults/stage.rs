//! Replicas behind a load balancer, with readers and a producer.

use std::time::{Duration, Instant};

use crewcast_events::{EventId, Keys, Namespaces};
use crewcast_test_servers::{Proxy, RedisServer, free_port};
use serde_json::Value;

use crate::{
    producer::Producer,
    reader::{Kind, Reader},
    support::{balancer::Balancer, gateway::Gateway},
    verdict::Verdict,
};

/// The channels that are published to and read.
pub(crate) const CHANNELS: [&str; 4] = ["run:r1", "graph:abc", "run:r2", "graph:def"];
/// The time after which a test that waits for something fails. Longer than every timeout of the product.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A broker under test.
pub(crate) trait Broker {
    /// The URL for gateways and producers.
    fn url(&self) -> String;
    /// The events in a channel's log, oldest first.
    fn log(&self, channel: &str) -> Vec<String>;
}

impl Broker for RedisServer {
    fn url(&self) -> String {
        RedisServer::url(self)
    }

    fn log(&self, channel: &str) -> Vec<String> {
        let key = Keys::default().log(&channel.parse().unwrap());
        self.run(&[b"LRANGE", key.as_bytes(), b"0", b"-1"])
    }
}

/// The settings of a stage.
#[derive(Clone)]
pub(crate) struct Setup {
    pub replicas: usize,
    pub readers: usize,
    /// The time between two events of a channel.
    pub pace: Duration,
    /// The retention of runs and graphs, in events.
    pub log_length: u32,
    pub log_age: Duration,
    /// Whether the broker keeps what it has confirmed. If not, readers get what its log holds in the end.
    pub log_survives: bool,
    /// Further settings of every replica.
    pub settings: Vec<(&'static str, String)>,
    /// Whether each replica and the producer connect through a proxy. The broker must then be a single Redis.
    pub proxied: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            replicas: 3,
            readers: 12,
            pace: Duration::from_millis(10),
            log_length: 100_000,
            log_age: Duration::from_secs(3600),
            log_survives: true,
            settings: Vec::new(),
            proxied: false,
        }
    }
}

/// A replica that can be replaced by another on the same address.
pub(crate) struct Replica {
    pub gateway: Gateway,
    pub proxy: Option<Proxy>,
    settings: Vec<(&'static str, String)>,
}

impl Replica {
    async fn start(broker: &dyn Broker, setup: &Setup) -> Self {
        let proxy = link(broker, setup).await;
        let url = proxy.as_ref().map_or(broker.url(), Proxy::url);
        let (length, age) = (setup.log_length.to_string(), format!("{}s", setup.log_age.as_secs()));
        let mut settings = vec![
            ("CREWCAST_BROKER__URL", url),
            ("CREWCAST_LISTEN", format!("127.0.0.1:{}", free_port())),
            ("CREWCAST_LOG__LEVEL", "info".to_owned()),
            ("CREWCAST_NAMESPACES__RUN__LOG__LENGTH", length.clone()),
            ("CREWCAST_NAMESPACES__GRAPH__LOG__LENGTH", length),
            ("CREWCAST_NAMESPACES__RUN__LOG__AGE", age.clone()),
            ("CREWCAST_NAMESPACES__GRAPH__LOG__AGE", age),
        ];
        settings.extend(setup.settings.iter().cloned());
        Self { gateway: serve(&settings).await, proxy, settings }
    }

    /// Starts another replica on the same address after this one has exited, and waits until it is ready.
    pub(crate) async fn succeed(&mut self) {
        self.gateway = serve(&self.settings).await;
    }

    /// How often the replica has reconnected to the broker.
    pub(crate) async fn reconnects(&self) -> f64 {
        self.gateway.metric("crewcast_broker_reconnects_total", "").await
    }
}

/// The proxy in front of the broker, if there is one.
async fn link(broker: &dyn Broker, setup: &Setup) -> Option<Proxy> {
    match setup.proxied {
        true => Some(Proxy::start(broker.url().strip_prefix("redis://").expect("one Redis")).await),
        false => None,
    }
}

async fn serve(settings: &[(&'static str, String)]) -> Gateway {
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    Gateway::start(&settings).await
}

pub(crate) struct Stage {
    pub replicas: Vec<Replica>,
    pub balancer: Balancer,
    pub readers: Vec<Reader>,
    pub producer: Producer,
    pub producer_link: Option<Proxy>,
    log_survives: bool,
}

impl Stage {
    /// Sets up everything and waits until every reader receives events.
    pub(crate) async fn start(broker: &dyn Broker, setup: Setup) -> Self {
        let mut replicas = Vec::new();
        for _ in 0..setup.replicas {
            replicas.push(Replica::start(broker, &setup).await);
        }
        let addresses: Vec<String> = replicas.iter().map(|replica| replica.gateway.public.clone()).collect();
        let balancer = Balancer::over(&addresses).await;
        let mut readers = Vec::new();
        for n in 0..setup.readers {
            let kind = if n / CHANNELS.len() % 3 == 2 { Kind::Plain } else { Kind::Client };
            readers.push(Reader::start(kind, CHANNELS[n % CHANNELS.len()], &balancer.address));
        }
        let mut namespaces = Namespaces::default();
        for name in ["run", "graph"] {
            let log = &mut namespaces.0.get_mut(name).unwrap().log;
            (log.length, log.age) = (setup.log_length, setup.log_age);
        }
        let producer_link = link(broker, &setup).await;
        let url = producer_link.as_ref().map_or(broker.url(), Proxy::url);
        let producer = Producer::start(&url, namespaces, setup.pace).await;
        let log_survives = setup.log_survives;
        let stage = Self { replicas, balancer, readers, producer, producer_link, log_survives };
        stage.flow(20).await;
        for replica in &stage.replicas {
            assert!(replica.gateway.metric("crewcast_connections", "").await > 0.0, "a replica has no readers");
        }
        stage
    }

    /// Waits until every reader has received this many more events.
    pub(crate) async fn flow(&self, more: usize) {
        let due: Vec<usize> = self.readers.iter().map(|reader| reader.count() + more).collect();
        let all_had = || self.readers.iter().zip(&due).all(|(reader, due)| reader.count() >= *due);
        self.until("events flow", all_had).await;
    }

    /// Waits until `condition` holds.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        self.until_async(what, async || condition()).await;
    }

    /// Like [`Stage::until`], for an asynchronous condition.
    pub(crate) async fn until_async(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !condition().await {
            assert!(began.elapsed() < DEADLINE, "did not happen in time: {what}\n{}", self.state());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends new connections to all replicas but one.
    pub(crate) fn pass_over(&self, replica: usize) {
        let others = self.replicas.iter().enumerate().filter(|(n, _)| *n != replica);
        self.balancer.spread_over(&others.map(|(_, other)| other.gateway.public.clone()).collect::<Vec<_>>());
    }

    /// Sends new connections to all replicas.
    pub(crate) fn pass_to_all(&self) {
        self.pass_over(self.replicas.len());
    }

    /// Stops the producer, waits until every reader has its last event, and prints the verdict.
    pub(crate) async fn finish(&self, broker: &dyn Broker, fault: &str) -> Verdict {
        self.settle(broker).await;
        let verdict = Verdict::of(fault, self.replicas.len(), &self.readers, self.producer.last());
        verdict.print();
        verdict
    }

    /// Stops the producer, waits until every reader has its last event, and checks the log.
    pub(crate) async fn settle(&self, broker: &dyn Broker) {
        let last = self.producer.pause();
        self.caught_up(last).await;
        // One more event: if the last had come twice, the repeat would have been counted before it.
        self.producer.one_more();
        self.producer.close(self.log_survives).await;
        let last = self.producer.last();
        self.caught_up(last).await;
        for channel in CHANNELS {
            assert_is_whole(channel, &broker.log(channel), last);
        }
    }

    async fn caught_up(&self, last: u64) {
        self.until(&format!("every reader has event {last}"), || self.readers.iter().all(|r| r.last() >= last)).await;
    }

    /// The state of all readers, for the message of a failure.
    fn state(&self) -> String {
        let mut lines = vec![format!("the producer is at {}", self.producer.last())];
        for reader in &self.readers {
            let seen = reader.seen();
            lines.push(format!(
                "{:?} {}: at {:?}, {} events, sockets {}, cuts {:?}, resets {:?}, is reading: {}",
                reader.kind,
                reader.channel,
                seen.last_id,
                seen.events,
                seen.connected.len(),
                seen.cuts,
                seen.resets,
                reader.is_reading()
            ));
        }
        for replica in &self.replicas {
            let log = replica.gateway.log();
            lines.push(format!("replica {}:", replica.gateway.public));
            lines.extend(log.iter().rev().take(12).rev().cloned());
        }
        lines.join("\n")
    }
}

/// The number of a logged event.
fn number(message: &str) -> u64 {
    let event: Value = serde_json::from_str(message).unwrap();
    event["n"].as_u64().expect("an event of the producer")
}

/// Checks that the log ends with the last event and has each event once and in order.
fn assert_is_whole(channel: &str, log: &[String], last: u64) {
    let mut before: Option<EventId> = None;
    for (expected, message) in (last + 1 - log.len() as u64..).zip(log) {
        assert_eq!(number(message), expected, "{channel}: an event is missing, repeated or out of order in the log");
        let id = EventId::of_message(message.as_bytes()).unwrap();
        assert!(before.is_none() || id.continues(before), "{channel}: {id} after {before:?}");
        before = Some(id);
    }
}
