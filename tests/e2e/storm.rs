//! The storm: replicas have died, and all their clients come to fresh ones at once, each behind an event of its own.

use std::time::{Duration, Instant};

use crewcast_events::{Body, Channel, EventId, Keys, Namespaces};
use crewcast_publisher::{Append, Entry, Once, RedisTransport, Transport, pool};
use futures_util::{StreamExt, future::join_all};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    PATIENCE,
    gateway::{self, Gateway},
    redis::RedisServer,
    seed,
    socket::connect,
    token::token,
};

const CHANNELS: usize = 50;
const REPLICAS: usize = 2;
const CLIENTS: usize = 5000;
/// Events of each channel before the storm, and during it.
const BEFORE: usize = 300;
const DURING: usize = 20;
/// Clients have seen all but the last so many, or fewer.
const SPREAD: usize = 100;

fn crew(n: usize) -> Channel {
    Channel::new("graph", &format!("c{n}")).unwrap()
}

/// Appends events, each batch with one call of the script.
async fn append(transport: &RedisTransport, channel: &Channel, events: usize) -> Vec<EventId> {
    let event = format!(r#"{{"type":"step","filler":"{}"}}"#, "x".repeat(200));
    let entries = (0..events).map(|_| Entry::new(Body::parse(event.clone()).unwrap())).collect();
    let append = Append { channel: channel.clone(), entries, once: Once::No };
    transport.append(&append).await.unwrap().into_iter().map(|id| id.expect("a logged event")).collect()
}

/// Scripts that Redis has run so far: calls without those for which it did not know the script yet.
fn scripts_run(redis: &RedisServer) -> usize {
    let stats: String = redis.run(&[b"INFO", b"commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:")).unwrap_or_default();
    let field = |name: &str| {
        let value = line.split(',').find_map(|field| field.strip_prefix(name));
        value.map_or(0, |value| value.parse::<usize>().unwrap())
    };
    field("calls=") - field("failed_calls=")
}

/// Reads from behind `seen` on until `last`; every event must continue the one before.
async fn catch_up(url: String, token: String, mut seen: EventId, last: u64) {
    let mut socket = connect(&format!("{url}?since={seen}"), Some(&token)).await.inner;
    while seen.offset() < last {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message in time");
        let Message::Text(text) = message.expect("no end").expect("no error") else { continue };
        match EventId::of_message(text.as_bytes()) {
            Some(id) => {
                assert!(id.continues(Some(seen)), "{id} behind {seen}");
                seen = id;
            }
            None => assert!(!text.contains(r#""reset""#), "{text}"),
        }
    }
}

/// Publishes into every channel while clients come back; so many calls of the script it was.
async fn publish_meanwhile(transport: &RedisTransport) -> usize {
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..DURING {
        pace.tick().await;
        join_all((0..CHANNELS).map(|n| async move { append(transport, &crew(n), 1).await })).await;
    }
    DURING * CHANNELS
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_read_once_by_each_replica_whatever_the_number_of_clients_who_come_back() {
    let mut random = fastrand::Rng::with_seed(seed());
    let redis = RedisServer::start();
    let transport =
        RedisTransport::new(pool(&redis.url(), 2).unwrap(), Keys::default(), String::new(), Namespaces::default());
    let mut ids = Vec::new();
    for n in 0..CHANNELS {
        let mut all = Vec::new();
        for _ in 0..BEFORE / 100 {
            all.extend(append(&transport, &crew(n), 100).await);
        }
        ids.push(all);
    }
    let settings = [
        ("CREWCAST_LIMITS__PER_USER", "0"),
        ("CREWCAST_LOG__LEVEL", "info"),
        // The lease of the replica that captures is a script, too.
        ("CREWCAST_NAMESPACES__MISSION__CAPTURE_LIVE", "false"),
    ];
    let replicas = [gateway::on(&redis, &settings).await, gateway::on(&redis, &settings).await];
    let crews: Vec<String> = (0..CHANNELS).map(|n| format!("c{n}")).collect();
    let token = token(json!({ "crews": crews }));

    let before = scripts_run(&redis);
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let (channel, replica) = (n % CHANNELS, n / CHANNELS % REPLICAS);
        let seen = ids[channel][BEFORE - 1 - random.usize(..SPREAD)];
        let url = replicas[replica].ws(&format!("/ws/graph/c{channel}"));
        clients.spawn(catch_up(url, token.clone(), seen, (BEFORE + DURING) as u64));
    }
    let appends = publish_meanwhile(&transport).await;
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let took = began.elapsed();
    let reads = scripts_run(&redis) - before - appends;
    let counted = join_all(replicas.iter().map(reads_of_the_log)).await.into_iter().sum::<f64>();
    println!(
        "{CLIENTS} clients of {CHANNELS} channels at {REPLICAS} replicas: all caught up after {:.1} s, \
         {reads} reads of logs ({counted} by the replicas' count)",
        took.as_secs_f64()
    );
    // A read begins 128 events before what the first client has seen: no other of this test stands further back.
    assert!(counted <= (CHANNELS * REPLICAS) as f64, "{counted} reads");
    // Beside those a relay may look into the log when it hears of a head before the event itself has arrived.
    assert!(reads <= CHANNELS * REPLICAS + CHANNELS / 5, "{reads} reads");
}

async fn reads_of_the_log(gateway: &Gateway) -> f64 {
    gateway.metric("crewcast_history_reads_total", r#"source="log""#).await
}
