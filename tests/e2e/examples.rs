//! The examples of `crates/cli/examples`, run unchanged.

use crewcast_client::{Client, Start};
use crewcast_events::Channel;
use crewcast_publisher::Publisher;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

use crate::support::{
    PATIENCE,
    gateway::{self, Gateway},
    http::publish,
    socket::{Socket, connect},
    token::token,
};

#[path = "../../crates/cli/examples/monitor.rs"]
#[allow(dead_code)]
mod monitor;
#[path = "../../crates/cli/examples/orchestrator.rs"]
#[allow(dead_code)]
mod orchestrator;

/// An event of the stream catalog.
fn event(stream: &str, kind: &str, data: Value) -> Value {
    let timestamp = "2026-03-01T12:00:00Z";
    json!({ "type": kind, "stream_id": stream, "execution_id": "e1", "timestamp": timestamp, "data": data })
}

async fn publish_all(gateway: &Gateway, stream: &str, events: &[(&str, Value)]) {
    let publisher = token(json!({ "org": null, "publish": ["stream:*"] }));
    for (kind, data) in events {
        publish(gateway, &publisher, &format!("stream:{stream}"), event(stream, kind, data.clone())).await;
    }
}

/// A socket that reads one stream from the start.
async fn reader(gateway: &Gateway, stream: &str) -> Socket {
    let claims = json!({ "streams": [stream] });
    let mut socket = connect(&gateway.ws("/ws/stream"), Some(&token(claims))).await;
    socket
        .send(&json!({ "action": "subscribe", "channel": format!("stream:{stream}"), "since": "0" }).to_string())
        .await;
    assert_eq!(socket.json().await["type"], "subscribed");
    socket
}

#[tokio::test]
async fn the_monitor_alerts_only_on_failures_and_violations() {
    let gateway = gateway::memory(&[]).await;
    let claims = json!({ "streams": ["support", "billing"] });
    let client = Client::builder(gateway.url("")).token(token(claims)).build().unwrap();
    let channels: Vec<Channel> = ["stream:support", "stream:billing"].map(|name| name.parse().unwrap()).into();
    let (alerts, mut heard) = mpsc::channel(64);
    let watching =
        tokio::spawn(async move { monitor::watch(&client, channels, |alert| _ = alerts.try_send(alert)).await });
    // The monitor starts live, and only the monitor knows when it is open.
    while heard.is_empty() {
        publish_all(&gateway, "support", &[("execution_failed", json!({ "error": "empty" }))]).await;
        if let Ok(first) = timeout(std::time::Duration::from_millis(50), heard.recv()).await {
            assert_eq!(first.unwrap(), "stream:support e1 failed: empty");
            break;
        }
    }
    publish_all(
        &gateway,
        "billing",
        &[
            ("execution_started", json!({ "input_data": {} })),
            ("constraint_violation", json!({ "constraint": "max_refund", "message": "above 100" })),
            ("execution_completed", json!({ "output": {} })),
            ("execution_failed", json!({ "error": "last" })),
        ],
    )
    .await;
    let mut of_billing = Vec::new();
    while of_billing.len() < 2 {
        let alert = timeout(PATIENCE, heard.recv()).await.unwrap().unwrap();
        of_billing.extend(alert.starts_with("stream:billing").then_some(alert));
    }
    assert_eq!(of_billing, ["stream:billing e1 violates max_refund: above 100", "stream:billing e1 failed: last"]);
    watching.abort();
}

#[tokio::test]
async fn the_orchestrator_starts_the_next_agent_with_the_result_of_the_last() {
    let gateway = gateway::memory(&[]).await;
    let claims = json!({ "org": null, "streams": ["research", "writing", "review"], "publish": ["stream:*"] });
    let token = token(claims);
    let client = Client::builder(gateway.url("")).token(&token).build().unwrap();
    let publisher = Publisher::builder().connect_http(&gateway.url(""), &token).unwrap();
    let stages = ["research", "writing", "review"].map(str::to_owned);
    let ours = publisher.clone();
    let working = tokio::spawn(async move {
        orchestrator::orchestrate(&client, &ours, &stages, Start::Beginning).await.map_err(|error| error.to_string())
    });
    let facts = json!({ "facts": [1, 2] });
    let started = json!({ "input_data": {} });
    publish_all(
        &gateway,
        "research",
        &[("execution_started", started), ("execution_completed", json!({ "output": facts }))],
    )
    .await;
    let begun = reader(&gateway, "writing").await.json().await;
    assert_eq!((&begun["event"]["type"], &begun["event"]["execution_id"]), (&json!("execution_started"), &json!("e1")));
    assert_eq!(begun["event"]["data"]["input_data"], facts);
    publish_all(&gateway, "writing", &[("execution_completed", json!({ "output": "a draft" }))]).await;
    let begun = reader(&gateway, "review").await.json().await;
    assert_eq!(begun["event"]["data"]["input_data"], "a draft");
    publish_all(&gateway, "review", &[("execution_completed", json!({ "output": "good" }))]).await;
    assert!(reader(&gateway, "research").await.json().await["event"]["type"] == "execution_started");
    assert!(!working.is_finished(), "the last stage must not start or end anything");
    working.abort();
}
