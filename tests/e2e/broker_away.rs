//! A Redis that goes down, comes back, cuts its subscribers, or loses its data.

use std::time::Duration;

use crewcast_publisher::Publisher;
use serde_json::{Value, json};

use crate::support::{
    PATIENCE, eventually,
    gateway::{self, Gateway},
    redis::RedisServer,
    socket::{Socket, connect},
    token::token,
};

fn reader() -> String {
    token(json!({ "crews": ["abc", "new"], "runs": ["r1", "r2"] }))
}

async fn open(gateway: &Gateway, path: &str) -> Socket {
    connect(&gateway.ws(path), Some(&reader())).await
}

async fn publisher(redis: &RedisServer) -> Publisher {
    Publisher::connect(&redis.url()).await.unwrap()
}

/// Publishes logged events with these numbers.
fn publish(publisher: &Publisher, channel: &str, numbers: std::ops::Range<u64>) {
    for n in numbers {
        publisher.publish(channel, &json!({ "type": "step", "n": n })).unwrap();
    }
}

/// The numbers of the next events.
async fn numbers(socket: &mut Socket, count: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    for _ in 0..count {
        seen.push(socket.event().await["n"].as_u64().unwrap());
    }
    seen
}

fn range(numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.collect()
}

/// Reads until the gateway sends a message of this kind. An event before it is an error.
async fn word(socket: &mut Socket, kind: &str) -> Value {
    loop {
        let message = socket.json().await;
        assert_eq!(message["source"], "gateway", "{message}");
        if message["type"] == kind {
            return message;
        }
    }
}

fn broker(state: &str) -> Value {
    json!({ "type": "broker", "source": "gateway", "state": state })
}

/// Waits until the channel is subscribed and a live event arrives.
async fn hears_live(redis: &RedisServer, channel: &str, socket: &mut Socket) {
    eventually("the channel is subscribed", || async { redis.publish(channel, br#"{"type":"live"}"#) > 0 }).await;
    assert_eq!(socket.event().await["type"], "live");
}

/// The number of subscriptions to the channel in Redis.
fn subscribed(redis: &RedisServer, channel: &str) -> i64 {
    let (_, count): (String, i64) = redis.run(&[b"PUBSUB", b"NUMSUB", channel.as_bytes()]);
    count
}

async fn subscribed_to(redis: &RedisServer, channel: &str) {
    eventually("the channel is subscribed", || async { subscribed(redis, channel) > 0 }).await;
}

/// Cuts the connection of every subscriber.
fn cut_subscribers(redis: &RedisServer) {
    let cut: i64 = redis.run(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]);
    assert!(cut > 0, "there was a subscriber to cut");
}

#[tokio::test]
async fn sockets_survive_a_redis_that_is_killed_and_restarted() {
    let mut redis = RedisServer::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    let gateway = gateway::on(&redis, &[]).await;
    let producer = publisher(&redis).await;
    let mut one = open(&gateway, "/ws/graph/abc").await;
    let mut all = open(&gateway, "/ws/graph").await;
    let mut run = open(&gateway, "/ws/runs/r1").await;
    for channel in ["graph:abc", "graph:new", "run:r1"] {
        subscribed_to(&redis, channel).await;
    }
    publish(&producer, "graph:abc", 0..5);
    publish(&producer, "run:r1", 0..5);
    for socket in [&mut one, &mut all, &mut run] {
        assert_eq!(numbers(socket, 5).await, range(0..5));
    }

    redis.kill();
    for socket in [&mut one, &mut all, &mut run] {
        assert_eq!(word(socket, "broker").await, broker("down"));
    }
    assert_eq!(gateway.metric("crewcast_broker_up", "").await, 0.0);
    // Opened while the gateway can read neither logs nor ownership.
    let other = token(json!({ "crews": ["late"], "runs": ["r1"] }));
    let mut asked_meanwhile = connect(&gateway.ws("/ws/graph/late"), Some(&other)).await;
    let mut all_meanwhile = connect(&gateway.ws("/ws/graph"), Some(&other)).await;
    let mut run_meanwhile = open(&gateway, "/ws/runs/r1").await;
    for socket in [&mut asked_meanwhile, &mut all_meanwhile, &mut run_meanwhile] {
        assert_eq!(word(socket, "broker").await, broker("down"), "a new socket is told too");
    }

    redis.restart();
    for socket in [&mut one, &mut all, &mut run, &mut asked_meanwhile] {
        assert_eq!(word(socket, "broker").await, broker("up"));
    }
    assert_eq!(numbers(&mut run_meanwhile, 5).await, range(0..5), "the log from before the restart is read");
    publish(&producer, "graph:abc", 5..30);
    publish(&producer, "run:r1", 5..30);
    for socket in [&mut one, &mut all, &mut run, &mut run_meanwhile] {
        assert_eq!(numbers(socket, 25).await, range(5..30), "each once and in order");
    }
    eventually("everything asked for is joined", || async {
        gateway.metric("crewcast_subscriptions", r#"namespace="graph""#).await == 5.0
    })
    .await;
    subscribed_to(&redis, "graph:late").await;
    assert_eq!(word(&mut all_meanwhile, "broker").await, broker("up"));
    publish(&producer, "graph:late", 0..3);
    for socket in [&mut asked_meanwhile, &mut all_meanwhile] {
        assert_eq!(numbers(socket, 3).await, range(0..3));
    }
    assert!(one.is_quiet().await);
    assert!(gateway.metric("crewcast_broker_reconnects_total", "").await >= 1.0);
    assert_eq!(gateway.metric("crewcast_resets_total", "").await, 0.0);
    assert_eq!(gateway.metric("crewcast_connections_closed_total", "").await, 0.0, "none was closed");
}

#[tokio::test]
async fn subscribers_cut_while_events_are_logged_lose_and_duplicate_none() {
    const ROUNDS: u64 = 8;
    const EACH: u64 = 60;
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let producer = publisher(&redis).await;
    let mut sockets = Vec::new();
    for path in ["/ws/graph/abc", "/ws/graph/abc?since=0", "/ws/graph"] {
        sockets.push(open(&gateway, path).await);
    }
    for socket in &mut sockets {
        // Wait until the socket is open. For a reader that starts live, anything published earlier is history.
        let began = std::time::Instant::now();
        while socket.is_quiet().await {
            assert!(began.elapsed() < PATIENCE, "the socket receives nothing");
            producer.publish("graph:abc", &json!({ "type": "warm" })).unwrap();
        }
    }
    let reading: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| {
            tokio::spawn(async move {
                let (mut seen, mut words) = (Vec::new(), Vec::new());
                while seen.len() < (ROUNDS * EACH) as usize {
                    let message = socket.json().await;
                    match message["n"].as_u64() {
                        Some(n) => seen.push(n),
                        None if message["type"] == "warm" => {}
                        None => words.push(message["type"].as_str().unwrap().to_owned()),
                    }
                }
                assert!(socket.is_quiet().await, "an event came again after the last");
                (seen, words)
            })
        })
        .collect();
    for round in 0..ROUNDS {
        for n in round * EACH..(round + 1) * EACH {
            if n % EACH == EACH / 2 {
                cut_subscribers(&redis);
            }
            publish(&producer, "graph:abc", n..n + 1);
            // The pace of the producer, so that the cut falls between events in flight.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let reconnects = || gateway.metric("crewcast_broker_reconnects_total", "");
        eventually("the link is back", || async { reconnects().await > round as f64 }).await;
    }
    for reader in reading {
        let (seen, words) = reader.await.unwrap();
        assert_eq!(seen, range(0..ROUNDS * EACH), "each once and in order");
        assert!(words.iter().all(|word| word == "broker"), "no gap, no reset: {words:?}");
        assert!(words.len() >= 2, "the cuts were told: {words:?}");
    }
    assert!(gateway.metric("crewcast_gaps_repaired_total", "").await >= 1.0, "the cuts cost something");
}

#[tokio::test]
async fn the_lost_end_of_a_burst_is_found_without_another_event() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let mut socket = open(&gateway, "/ws/graph/abc").await;
    subscribed_to(&redis, "graph:abc").await;
    // Logged without a publish, as if Redis had lost the message.
    let id = "1-000000abcdef";
    let message = format!(r#"{{"id":"{id}","type":"step","n":1}}"#);
    redis.run::<i64>(&[b"RPUSH", b"crewcast:{graph:abc}:log", message.as_bytes()]);
    redis.run::<String>(&[b"SET", b"crewcast:{graph:abc}:head", id.as_bytes()]);
    assert_eq!(socket.text().await, message, "the scheduled comparison finds the event");
}

#[tokio::test]
async fn live_events_that_may_be_missing_are_reported_as_a_gap() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let mut live = open(&gateway, "/ws/graph/abc").await;
    let mut logged = open(&gateway, "/ws/graph/new").await;
    hears_live(&redis, "graph:abc", &mut live).await;
    subscribed_to(&redis, "graph:new").await;
    let producer = publisher(&redis).await;
    publish(&producer, "graph:new", 0..1);
    assert_eq!(numbers(&mut logged, 1).await, [0]);

    cut_subscribers(&redis);
    let gap = word(&mut live, "gap").await;
    assert_eq!(gap, json!({ "type": "gap", "source": "gateway", "channel": "graph:abc", "missed": null }));
    subscribed_to(&redis, "graph:new").await;
    publish(&producer, "graph:new", 1..2);
    loop {
        let message = logged.json().await;
        assert_ne!(message["type"], "gap", "no event can be missing here");
        if message["n"] == 1 {
            break;
        }
    }
    assert_eq!(gateway.metric("crewcast_events_missed_total", r#"namespace="graph""#).await, 1.0);
}

#[tokio::test]
async fn a_redis_that_lost_its_data_is_reported_as_a_reset() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let mut socket = open(&gateway, "/ws/graph/abc").await;
    subscribed_to(&redis, "graph:abc").await;
    let producer = publisher(&redis).await;
    publish(&producer, "graph:abc", 0..3);
    assert_eq!(numbers(&mut socket, 3).await, range(0..3));

    redis.run::<String>(&[b"FLUSHALL"]);
    let producer = publisher(&redis).await;
    publish(&producer, "graph:abc", 3..6);
    let reset = word(&mut socket, "reset").await;
    assert_eq!((&reset["channel"], &reset["reason"]), (&json!("graph:abc"), &json!("unknown_id")));
    let first = socket.event().await;
    assert_eq!((&first["n"], &first["id"]), (&json!(3), &reset["from"]));
    assert!(first["id"].as_str().unwrap().starts_with("1-000000"), "a new history: {first}");
    assert_eq!(numbers(&mut socket, 2).await, range(4..6));
    assert_eq!(gateway.metric("crewcast_resets_total", r#"reason="unknown_id""#).await, 1.0);
}

#[tokio::test]
async fn a_redis_that_lost_its_data_is_noticed_without_another_event() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let mut socket = open(&gateway, "/ws/graph/abc").await;
    subscribed_to(&redis, "graph:abc").await;
    let producer = publisher(&redis).await;
    publish(&producer, "graph:abc", 0..3);
    assert_eq!(numbers(&mut socket, 3).await, range(0..3));
    redis.run::<String>(&[b"FLUSHALL"]);
    let reset = word(&mut socket, "reset").await;
    assert_eq!((&reset["reason"], &reset["from"]), (&json!("unknown_id"), &Value::Null));
    let producer = publisher(&redis).await;
    publish(&producer, "graph:abc", 3..5);
    assert_eq!(numbers(&mut socket, 2).await, range(3..5), "the new history is read from its beginning");
}
