//! A reader that stops reading while a lot is published.

use std::time::{Duration, Instant};

use crewcast_events::Namespaces;
use crewcast_publisher::Publisher;
use crewcast_test_servers::RedisServer;
use serde_json::json;

use crate::{
    stage::{DEADLINE, Setup, Stage},
    support::{
        socket::{Socket, connect_narrow},
        token::token,
    },
    verdict::{Faults, Ledger, Verdict},
};

const EVENTS: u64 = 5_000;
const BYTES: usize = 10 << 10;
/// How long the reader does not read. Less than `limits.stall`, 60 s, after which its socket is closed.
const STOPPED: Duration = Duration::from_secs(20);
/// How much the replica may grow: a ring of 4 MiB, and memory that the allocator keeps.
const BOUND: usize = 20 << 20;

/// Logs 50 MB to a separate channel.
async fn flood(redis: &RedisServer, log_length: u32) {
    let mut namespaces = Namespaces::default();
    namespaces.0.get_mut("graph").unwrap().log.length = log_length;
    let builder = Publisher::builder().namespaces(namespaces).queue_events(EVENTS as usize).queue_bytes(128 << 20);
    let publisher = builder.connect(&redis.url()).await.unwrap();
    let note = "x".repeat(BYTES);
    for n in 1..=EVENTS {
        publisher.publish("graph:big", &json!({ "type": "step", "n": n, "note": note })).unwrap();
    }
    assert_eq!(publisher.close(DEADLINE).await.events, 0);
}

/// Reads everything and returns what went wrong.
async fn read_all(socket: &mut Socket) -> Faults {
    let mut ledger = Ledger::default();
    while ledger.highest() < EVENTS {
        let event = socket.event().await;
        ledger.event(event["n"].as_u64().unwrap_or_else(|| panic!("not an event of the producer: {event}")));
    }
    ledger.faults()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_with_fifty_megabytes_waiting() {
    let redis = RedisServer::start();
    let setup = Setup { replicas: 2, readers: 8, pace: Duration::from_millis(50), ..Setup::default() };
    let log_length = setup.log_length;
    let stage = Stage::start(&redis, setup).await;
    let gateway = &stage.replicas[0].gateway;
    let mut slow = connect_narrow(&gateway.ws("/ws/graph/big?since=0"), &token(json!({ "crews": ["big"] }))).await;
    let before = gateway.resident();
    let began = Instant::now();
    flood(&redis, log_length).await;
    let mut most = gateway.resident();
    while began.elapsed() < STOPPED {
        most = most.max(gateway.resident());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let while_stopped = most.saturating_sub(before);
    let faults = read_all(&mut slow).await;
    let afterwards = gateway.resident().saturating_sub(before);
    assert!(while_stopped < BOUND, "grew by {while_stopped} bytes while the reader was stopped");
    assert!(afterwards < BOUND, "grew by {afterwards} bytes after the reader had caught up");
    assert_eq!(gateway.metric("crewcast_resets_total", "").await, 0.0);
    assert!(gateway.metric("crewcast_history_reads_total", "log").await > 0.0, "the reader never fell behind the ring");
    stage.settle(&redis).await;
    let grew = while_stopped.max(afterwards) >> 20;
    let fault = format!("a reader stopped for 20 s, 50 MB waiting: the replica grew by {grew} MiB");
    let mut verdict = Verdict::of(&fault, stage.replicas.len(), &stage.readers, stage.producer.last());
    verdict.readers.push(("the stopped reader".to_owned(), faults));
    verdict.print();
    verdict.assert_whole();
}
