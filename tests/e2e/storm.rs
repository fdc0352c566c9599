//! Load that comes all at once: reconnecting clients of dead replicas, each after a different event, and the heads of
//! all channels after a replica has lost its connection.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crewcast_events::{Body, Channel, EventId, Keys, Kind, Namespaces};
use crewcast_publisher::{
    Append, Entry, Once, Ownership, OwnershipMode, OwnershipOutcome, RedisClient, RedisTransport, Transport,
};
use futures_util::{StreamExt, future::join_all, stream};
use serde_json::json;
use tokio::{net::TcpStream, sync::watch, task::JoinSet};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest, handshake::client::Response, http::HeaderValue},
};

use crate::support::{
    PATIENCE, eventually,
    gateway::{self, Gateway},
    publish::until_heard,
    redis::{RedisServer, free_port},
    seed,
    socket::connect,
    token::token,
};

const CHANNELS: usize = 50;
const REPLICAS: usize = 2;
const CLIENTS: usize = 5000;
/// Events of each channel before any client comes, and while clients come, are away, and come back.
const BEFORE: usize = 256;
const MORE: usize = 20;
/// Each client has seen all events except at most this many.
const SPREAD: usize = 100;

const SETTINGS: [(&str, &str); 3] = [
    ("CREWCAST_LIMITS__PER_USER", "0"),
    ("CREWCAST_LOG__LEVEL", "info"),
    // The replica that retains live events renews its lease with a script, too.
    ("CREWCAST_NAMESPACES__MISSION__CAPTURE_LIVE", "false"),
];

fn crew(n: usize) -> Channel {
    Channel::new("graph", &format!("c{n}")).unwrap()
}

pub(crate) fn transport(redis: &RedisServer) -> RedisTransport {
    RedisTransport::new(
        RedisClient::new(&redis.url(), &Default::default(), 2, "test").unwrap(),
        Keys::default(),
        String::new(),
        Namespaces::default(),
    )
}

/// Appends events, one call of the script for each batch.
async fn append(transport: &RedisTransport, channel: Channel, events: usize) -> Vec<EventId> {
    let event = format!(r#"{{"type":"step","filler":"{}"}}"#, "x".repeat(200));
    let entries = (0..events).map(|_| Entry::new(Body::parse(event.clone()).unwrap())).collect();
    let append = Append { channel, entries, once: Once::No };
    transport.append(&append).await.unwrap().into_iter().map(|id| id.expect("a logged event")).collect()
}

/// A field of Redis' statistics on one command, such as `calls`.
pub(crate) fn commandstat(redis: &RedisServer, command: &str, field: &str) -> usize {
    let stats: String = redis.run(&[b"INFO", b"commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_")?.strip_prefix(command)?.strip_prefix(':'));
    let mut fields = line.unwrap_or_default().split(',');
    let value = fields.find_map(|text| text.strip_prefix(field)?.strip_prefix('='));
    value.map_or(0, |value| value.parse().unwrap())
}

/// The number of scripts that Redis has run, without the calls of scripts that it did not know yet.
fn scripts_run(redis: &RedisServer) -> usize {
    commandstat(redis, "evalsha", "calls") - commandstat(redis, "evalsha", "failed_calls")
}

type Connected = tokio_tungstenite::tungstenite::Result<(Ws, Response)>;
type Ws = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The state that all clients share.
struct Crowd {
    /// Whether a replica is up. All clients learn that at the same moment.
    replicas_are_up: watch::Sender<bool>,
    /// Clients that have seen every event that was there before they came.
    arrived: AtomicUsize,
    /// Sockets that ended.
    lost: AtomicUsize,
}

impl Default for Crowd {
    fn default() -> Self {
        Self { replicas_are_up: watch::Sender::new(true), arrived: AtomicUsize::new(0), lost: AtomicUsize::new(0) }
    }
}

/// One client. It reconnects whenever its socket ends, from the id that it `has` until the `last`.
struct Follower {
    url: String,
    token: String,
    has: EventId,
    crowd: Arc<Crowd>,
}

impl Follower {
    /// Returns the open socket. The caller keeps it, because a channel without readers would be unsubscribed too early.
    async fn follow(mut self, last: u64) -> Option<Ws> {
        let mut up = self.crowd.replicas_are_up.subscribe();
        let mut open = None;
        while self.has.offset() < last {
            up.wait_for(|up| *up).await.unwrap();
            // A replica may refuse some of five thousand simultaneous clients at first.
            match self.connect().await {
                Ok((socket, _)) => open = self.read(socket, last).await,
                Err(_) => tokio::time::sleep(Duration::from_millis(fastrand::u64(20..100))).await,
            }
        }
        open
    }

    fn connect(&self) -> impl Future<Output = Connected> + use<> {
        let mut request = format!("{}?since={}", self.url, self.has).into_client_request().unwrap();
        let bearer = HeaderValue::from_str(&format!("Bearer {}", self.token)).unwrap();
        request.headers_mut().insert("authorization", bearer);
        connect_async(request)
    }

    /// Reads until the socket ends or the last event is there. Each event must continue the one before.
    async fn read(&mut self, mut socket: Ws, last: u64) -> Option<Ws> {
        while self.has.offset() < last {
            let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message in time");
            let Some(Ok(message)) = message else {
                self.crowd.lost.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            let Message::Text(text) = message else { continue };
            let Some(id) = EventId::of_message(text.as_bytes()) else {
                assert!(!text.contains(r#""reset""#), "{text}");
                continue;
            };
            assert!(id.continues(Some(self.has)), "{id} after {}", self.has);
            self.has = id;
            if id.offset() == BEFORE as u64 {
                self.crowd.arrived.fetch_add(1, Ordering::Relaxed);
            }
        }
        Some(socket)
    }
}

/// Appends this many events to every channel, one after another. Runs on a separate thread, because five thousand
/// clients would delay the answers of Redis.
async fn publish(redis: &RedisServer, events: usize) {
    let transport = transport(redis);
    let publishing = async move {
        for _ in 0..events {
            join_all((0..CHANNELS).map(|n| append(&transport, crew(n), 1))).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::spawn_blocking(move || own.block_on(publishing)).await.unwrap();
}

/// The reads of logs since `before`, without the appends in the meantime.
async fn reads(redis: &RedisServer, replicas: &[Gateway], before: usize, appended: usize) -> usize {
    let reads = scripts_run(redis) - before - appended * CHANNELS;
    let mut counted = 0.0;
    for replica in replicas {
        counted += replica.metric("crewcast_history_reads_total", r#"source="log""#).await;
    }
    // A read starts 128 events before the position of the first client, and no other client is further back.
    assert!(counted <= (CHANNELS * REPLICAS) as f64, "{counted} reads");
    // In addition, the relay backfills what is published while it joins a channel, once for all clients.
    assert!(reads <= 2 * CHANNELS * REPLICAS, "{reads} reads");
    reads
}

fn start(redis: &RedisServer, ports: &[u16]) -> Vec<Gateway> {
    let start = |port: &u16| {
        let (url, listen) = (redis.url(), format!("127.0.0.1:{port}"));
        let mut settings = vec![("CREWCAST_BROKER__URL", url.as_str()), ("CREWCAST_LISTEN", listen.as_str())];
        settings.extend(SETTINGS);
        Gateway::spawn(&settings)
    };
    ports.iter().map(start).collect()
}

/// Clients of every channel. Each has seen all events of its log except some of the last.
fn crowd_of_clients(ids: &[Vec<EventId>], ports: [u16; REPLICAS], crowd: &Arc<Crowd>) -> JoinSet<Option<Ws>> {
    let mut random = fastrand::Rng::with_seed(seed());
    let crews: Vec<String> = (0..CHANNELS).map(|n| format!("c{n}")).collect();
    let token = token(json!({ "crews": crews }));
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let (channel, port) = (n % CHANNELS, ports[n / CHANNELS % REPLICAS]);
        let has = ids[channel][BEFORE - 2 - random.usize(..SPREAD)];
        let url = format!("ws://127.0.0.1:{port}/ws/graph/c{channel}");
        let follower = Follower { url, token: token.clone(), has, crowd: crowd.clone() };
        clients.spawn(follower.follow((BEFORE + 3 * MORE) as u64));
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_reads_a_log_once_however_many_clients_reconnect() {
    let redis = RedisServer::start();
    let transport = transport(&redis);
    let mut ids = Vec::new();
    for n in 0..CHANNELS {
        let mut all = append(&transport, crew(n), BEFORE / 2).await;
        all.extend(append(&transport, crew(n), BEFORE / 2).await);
        ids.push(all);
    }
    let ports = [free_port(), free_port()];
    let mut replicas = start(&redis, &ports);
    let crowd = Arc::new(Crowd::default());

    // As from another replica, each client after a different event.
    let (before, began) = (scripts_run(&redis), Instant::now());
    let mut clients = crowd_of_clients(&ids, ports, &crowd);
    publish(&redis, MORE).await;
    eventually("all clients have arrived", || async { crowd.arrived.load(Ordering::Relaxed) == CLIENTS }).await;
    let (took, reads_at_first) = (began.elapsed(), reads(&redis, &replicas, before, MORE).await);
    println!("{CLIENTS} clients arrived within {took:.1?}; {reads_at_first} reads");
    assert_eq!(crowd.lost.load(Ordering::Relaxed), 0);

    // And back again, each after its own last event.
    crowd.replicas_are_up.send_replace(false);
    replicas.iter_mut().for_each(Gateway::kill);
    publish(&redis, MORE).await;
    let before = scripts_run(&redis);
    let replicas = start(&redis, &ports);
    let began = Instant::now();
    crowd.replicas_are_up.send_replace(true);
    publish(&redis, MORE).await;
    let mut sockets = Vec::new();
    while let Some(client) = clients.join_next().await {
        sockets.push(client.unwrap());
    }
    let (took, reads_again) = (began.elapsed(), reads(&redis, &replicas, before, MORE).await);
    println!("{CLIENTS} clients came back within {took:.1?} after kill -9; {reads_again} reads");
    assert_eq!(crowd.lost.load(Ordering::Relaxed), CLIENTS);
}

/// Only the head shows that a channel's last event is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_channels_are_compared_with_their_heads_after_a_reconnect() {
    const MANY: usize = 10_000;
    const MISSED: usize = 100;
    let redis = RedisServer::start();
    let transport = transport(&redis);
    let all = stream::iter(0..MANY).map(|n| {
        let transport = &transport;
        async move {
            let ownership = Ownership { kind: Kind::Crew, id: format!("c{n}"), org: "acme".to_owned(), crew: None };
            assert_eq!(transport.register(&ownership, OwnershipMode::Keep).await.unwrap(), OwnershipOutcome::Done);
            append(transport, crew(n), 1).await;
        }
    });
    all.buffer_unordered(100).count().await;
    let gateway = gateway::on(&redis, &SETTINGS).await;
    let mut socket = connect(&gateway.ws("/ws/graph"), Some(&token(json!({ "crews": "*" })))).await;
    let heard = || redis.run::<Vec<String>>(&[b"PUBSUB", b"CHANNELS", b"graph:*"]).len() == MANY;
    eventually("every channel is subscribed", || async { heard() }).await;
    // The last channel is open when it delivers.
    for n in (0..MANY).step_by(1000) {
        until_heard(&redis, crew(n).as_str(), &mut socket).await;
    }

    // While the replica is stopped, its subscriptions end and it misses the events that are published.
    gateway.signal("STOP");
    let killed: usize = redis.run(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]);
    assert_eq!(killed, 1);
    let mut missed = HashSet::new();
    for n in (0..MANY).step_by(MANY / MISSED) {
        missed.insert(append(&transport, crew(n), 1).await[0]);
    }
    let (heads, scripts) = (commandstat(&redis, "mget", "calls"), scripts_run(&redis));
    gateway.signal("CONT");
    let began = Instant::now();
    while !missed.is_empty() {
        let id = EventId::of_message(socket.text().await.as_bytes());
        assert!(id.is_none_or(|id| missed.remove(&id)), "{id:?} was not missed");
    }
    let took = began.elapsed();
    let (heads, scripts) = (commandstat(&redis, "mget", "calls") - heads, scripts_run(&redis) - scripts);
    println!("{MANY} channels compared and {MISSED} repaired in {took:?}: {heads} heads and {scripts} logs were read");
    // One read for each channel, and a second where the scheduled comparison ran at the same moment.
    assert!((MISSED..=2 * MISSED).contains(&scripts), "{scripts} reads");
}
