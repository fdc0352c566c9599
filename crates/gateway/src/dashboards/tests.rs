//! Dashboards with a paused clock: one read per interval, however many sockets watch.

use std::sync::atomic::Ordering;

use crewcast_events::Namespaces;
use serde_json::{Value, json};

use super::*;
use crate::testing::{FaultyBroker, append_state};
use crewcast_websocket::frame::payload_of;

const SECOND: Duration = Duration::from_secs(1);

fn dashboards() -> (Arc<FaultyBroker>, Arc<Dashboards>) {
    let broker = Arc::new(FaultyBroker::new(Namespaces::default()));
    let channel_reads = ChannelReads::new(broker.clone());
    (broker.clone(), Dashboards::new(channel_reads, broker, config::Forge::default()))
}

async fn next(watching: DashboardWatch) -> (DashboardWatch, Value) {
    let (watching, frame) = watching.next().await.expect("there are more");
    (watching, serde_json::from_slice(payload_of(&frame)).unwrap())
}

#[tokio::test(start_paused = true)]
async fn fifty_dashboards_cost_as_much_as_one() {
    let (broker, dashboards) = dashboards();
    let reads = || broker.state_reads.load(Ordering::Relaxed);
    let (mut first, empty) = next(dashboards.watch(Dashboard::Dashboard, "acme".into())).await;
    assert_eq!(
        empty["data"],
        json!({ "agents": { "total": 0, "by_status": {} }, "tasks": { "total": 0, "by_status": {}, "progress": {} },
                "knowledge": { "nodes": 0, "edges": 0 }, "metrics": {}, "events": [] })
    );
    assert_eq!((&empty["type"], reads()), (&json!("dashboard"), 4));
    for round in 1..=3 {
        let began = tokio::time::Instant::now();
        let others: Vec<_> =
            (0..49).map(|_| tokio::spawn(next(dashboards.watch(Dashboard::Dashboard, "acme".into())))).collect();
        for other in others {
            assert!(other.await.unwrap().1["type"] == "dashboard");
        }
        assert_eq!(reads(), 4 * round, "new watchers get the last document");
        first = next(first).await.0;
        assert_eq!(began.elapsed(), 10 * SECOND);
    }
    assert_eq!(reads(), 16);
    drop(first);
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!((reads(), dashboards.shown.len()), (16, 0), "an unwatched dashboard is neither read nor kept");
    next(dashboards.watch(Dashboard::Dashboard, "acme".into())).await;
    assert_eq!(reads(), 20, "a new watcher starts it again");
}

#[tokio::test(start_paused = true)]
async fn the_dashboard_counts_documents_and_shows_the_last_events() {
    let (broker, dashboards) = dashboards();
    for (channel, kind, key, document) in [
        ("agents:acme", "agent_created", "a1", r#"{"status":"idle"}"#),
        ("agents:acme", "agent_created", "a2", r#"{"status":"busy"}"#),
        ("agents:acme", "agent_created", "a3", r#"{"status":"busy"}"#),
        ("agents:acme", "agent_created", "a4", "[]"),
        ("tasks:acme", "task_progress", "t1", r#"{"status":"running","percentage":62.5}"#),
        ("tasks:acme", "task_started", "t2", r#"{"status":"running"}"#),
        ("knowledge:acme", "knowledge_updated", "counts", r#"{"nodes":120,"edges":300,"timestamp":"x"}"#),
        ("metrics:acme", "system_metrics", "system", r#"{ "cpu":1.50 }"#),
        ("agents:zeta", "agent_created", "z1", r#"{"status":"foreign"}"#),
    ] {
        append_state(&*broker, channel, &format!(r#"{{"type":"{kind}","of":"{key}"}}"#), key, document).await;
    }
    let (_, message) = next(dashboards.watch(Dashboard::Dashboard, "acme".into())).await;
    let data = &message["data"];
    assert_eq!(data["agents"], json!({ "total": 4, "by_status": { "busy": 2, "idle": 1, "unknown": 1 } }));
    assert_eq!(data["tasks"], json!({ "total": 2, "by_status": { "running": 2 }, "progress": { "t1": 62.5 } }));
    assert_eq!(
        (&data["knowledge"], &data["metrics"]["system"]["cpu"]),
        (&json!({"nodes":120,"edges":300}), &json!(1.5))
    );
    let events: Vec<&str> = data["events"].as_array().unwrap().iter().map(|e| e["of"].as_str().unwrap()).collect();
    assert_eq!(events, ["a1", "a2", "a3", "a4", "t1", "t2", "counts", "system"]);
}

#[tokio::test(start_paused = true)]
async fn metrics_are_the_newest_of_each_set_as_written() {
    let (broker, dashboards) = dashboards();
    let (watching, empty) = next(dashboards.watch(Dashboard::Metrics, "acme".into())).await;
    assert_eq!((&empty["type"], &empty["data"]), (&json!("metrics"), &json!({})));
    for (key, figures) in [("tasks", "{}"), ("system", r#"{"cpu":1}"#), ("system", r#"{ "cpu":2.50 }"#), ("x", "1")] {
        append_state(&*broker, "metrics:acme", r#"{"type":"system_metrics"}"#, key, figures).await;
    }
    let began = tokio::time::Instant::now();
    let (_, frame) = watching.next().await.unwrap();
    assert_eq!(began.elapsed(), 5 * SECOND);
    let text = String::from_utf8(payload_of(&frame).to_vec()).unwrap();
    let expected = r#"{"type":"metrics","data":{"system":{ "cpu":2.50 },"tasks":{},"x":1},"timestamp":""#;
    assert!(text.starts_with(expected), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_down_is_asked_until_it_answers() {
    let (broker, dashboards) = dashboards();
    broker.calls_left.store(0, Ordering::Relaxed);
    let waiting = tokio::spawn(next(dashboards.watch(Dashboard::Metrics, "acme".into())));
    tokio::time::sleep(SECOND).await;
    assert!(!waiting.is_finished());
    broker.calls_left.store(usize::MAX, Ordering::Relaxed);
    let began = tokio::time::Instant::now();
    assert_eq!(waiting.await.unwrap().1["type"], "metrics");
    assert!(began.elapsed() <= RETRY);
}
