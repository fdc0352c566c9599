//! Slow readers are cursors: unread events wait in the log, not in the gateway.

use std::time::{Duration, Instant};

use crewcast_events::{EventId, Namespaces};
use crewcast_publisher::Publisher;
use serde_json::json;

use crate::support::{
    PATIENCE,
    gateway::{self, Gateway},
    publish::until_heard,
    redis::RedisServer,
    socket::{Socket, connect, connect_narrow},
    token::token,
};

const EVENTS: usize = 3000;
const BYTES: usize = 10 << 10;
const SLOW: usize = 4;
const BEGIN: &str = r#"{"type":"begin"}"#;

/// Logs and publishes 30 MB to a channel whose log keeps this many events.
async fn flood(redis: &RedisServer, log_length: u32) {
    let mut namespaces = Namespaces::default();
    namespaces.0.get_mut("graph").unwrap().log.length = log_length;
    let publisher = Publisher::builder()
        .namespaces(namespaces)
        .queue_events(EVENTS + 1)
        .queue_bytes(64 << 20)
        .connect(&redis.url())
        .await
        .unwrap();
    for n in 1..=EVENTS {
        let event = format!(r#"{{"type":"step","n":{n},"filler":"{}"}}"#, "x".repeat(BYTES));
        publisher.publish_raw("graph:abc", event).unwrap();
    }
    assert_eq!(publisher.close(PATIENCE).await.events, 0);
}

async fn next_id(socket: &mut Socket) -> EventId {
    let text = socket.text().await;
    EventId::of_message(text.as_bytes()).unwrap_or_else(|| panic!("not a logged event: {text}"))
}

struct Stalled {
    gateway: Gateway,
    slow: Vec<Socket>,
    /// Resident memory before and after the flood.
    memory: (usize, usize),
}

/// Floods a channel while some of its readers are stopped and one reads.
async fn stalled_readers(redis: &RedisServer, log_length: u32) -> Stalled {
    let gateway = gateway::on(redis, &[("CREWCAST_NAMESPACES__GRAPH__LOG__LENGTH", &log_length.to_string())]).await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut socket = connect_narrow(&gateway.ws("/ws/graph/abc"), &token(json!({ "crews": ["abc"] }))).await;
        until_heard(redis, "graph:abc", &mut socket).await;
        slow.push(socket);
    }
    let mut fast = connect(&gateway.ws("/ws/graph/abc"), Some(&token(json!({ "crews": ["abc"] })))).await;
    until_heard(redis, "graph:abc", &mut fast).await;
    redis.publish("graph:abc", BEGIN.as_bytes());
    for socket in slow.iter_mut().chain([&mut fast]) {
        while socket.text().await != BEGIN {}
    }
    let before = gateway.resident();

    let reading = async {
        let mut last = None;
        for _ in 0..EVENTS {
            let id = next_id(&mut fast).await;
            assert!(id.continues(last), "{id} after {last:?}");
            last = Some(id);
        }
        Instant::now()
    };
    let publishing = async {
        flood(redis, log_length).await;
        Instant::now()
    };
    let (read, published) = tokio::join!(reading, publishing);
    let late = read.saturating_duration_since(published);
    assert!(late < Duration::from_secs(1), "a reader that reads was {late:?} late");
    let memory = (before, gateway.resident());
    Stalled { gateway, slow, memory }
}

#[tokio::test]
async fn readers_that_stop_cost_no_memory_and_catch_up_in_order() {
    let redis = RedisServer::start();
    let mut stalled = stalled_readers(&redis, 10_000).await;
    let grown = |now: usize| now.saturating_sub(stalled.memory.0);
    println!("grown by {} KiB for {SLOW} readers of {} MB", grown(stalled.memory.1) >> 10, EVENTS * BYTES / 1_000_000);
    // The unread events of a single reader would be more.
    assert!(grown(stalled.memory.1) < EVENTS * BYTES / 2, "grown by {} bytes", grown(stalled.memory.1));
    let reading = stalled.slow.iter_mut().map(|socket| async move {
        let mut last = None;
        for _ in 0..EVENTS {
            let id = next_id(socket).await;
            assert!(id.continues(last), "{id} after {last:?}");
            last = Some(id);
        }
    });
    futures_util::future::join_all(reading).await;
    let after = grown(stalled.gateway.resident());
    assert!(after < EVENTS * BYTES, "grown by {after} bytes");
    assert!(
        stalled.gateway.metric("crewcast_history_reads_total", "log").await > 0.0,
        "no reader fell behind the ring"
    );
    assert_eq!(stalled.gateway.metric("crewcast_resets_total", "").await, 0.0);
    // The readers are live again.
    for socket in &mut stalled.slow {
        until_heard(&redis, "graph:abc", socket).await;
    }
}

#[tokio::test]
async fn a_reader_that_returns_after_its_log_was_trimmed_is_told() {
    const LOG: usize = 600;
    let redis = RedisServer::start();
    let mut stalled = stalled_readers(&redis, LOG as u32).await;
    for socket in &mut stalled.slow {
        let mut last: Option<EventId> = None;
        let reset = loop {
            let text = socket.text().await;
            let Some(id) = EventId::of_message(text.as_bytes()) else { break text };
            assert!(id.continues(last), "{id} after {last:?}");
            last = Some(id);
        };
        let reset: serde_json::Value = serde_json::from_str(&reset).unwrap();
        assert_eq!((&reset["type"], &reset["reason"]), (&json!("reset"), &json!("trimmed")));
        let first = next_id(socket).await;
        assert_eq!(reset["from"], first.to_string());
        assert_eq!(first.offset() as usize, EVENTS - LOG + 1);
        let mut last = first;
        while (last.offset() as usize) < EVENTS {
            let id = next_id(socket).await;
            assert!(id.continues(Some(last)), "{id} after {last}");
            last = id;
        }
    }
    assert_eq!(stalled.gateway.metric("crewcast_resets_total", "trimmed").await, SLOW as f64);
}
