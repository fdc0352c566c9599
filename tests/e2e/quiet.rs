//! A log that expires while its readers sleep. The stored head shows that nothing is missing.

use crewcast_events::Keys;
use serde_json::{Value, json};

use crate::support::{
    eventually,
    gateway::{self, Gateway},
    publish::logged,
    redis::RedisServer,
    socket::{Socket, connect},
    token::token,
};

/// The next event. No reset may come before it.
async fn next_without_reset(socket: &mut Socket) -> Value {
    loop {
        let message = socket.json().await;
        if message["source"] != "gateway" {
            return message;
        }
        assert!(message["type"] != "reset" && message["type"] != "gap", "{message}");
    }
}

async fn resume(gateway: &Gateway, since: &str) -> Socket {
    let token = token(json!({ "crews": ["abc"] }));
    connect(&gateway.ws(&format!("/ws/graph/abc?since={since}")), Some(&token)).await
}

#[tokio::test]
async fn a_log_that_expired_resets_no_reader_that_missed_nothing() {
    let redis = RedisServer::start();
    let age = [("CREWCAST_NAMESPACES__GRAPH__LOG__AGE", "1s")];
    let gateway = gateway::on(&redis, &age).await;
    let mut awake = resume(&gateway, "0").await;
    let first = logged(&gateway, "graph:abc", r#"{"type":"step"}"#).await;
    let last = logged(&gateway, "graph:abc", r#"{"type":"step"}"#).await;
    for id in [&first, &last] {
        assert_eq!(next_without_reset(&mut awake).await["id"], **id);
    }

    let log = Keys::new("crewcast").log(&"graph:abc".parse().unwrap());
    eventually("the log has expired", async || redis.run::<i64>(&[b"EXISTS", log.as_bytes()]) == 0).await;
    // After a reconnect, all positions are compared with the heads.
    let reconnects = gateway.metric("crewcast_broker_reconnects_total", "").await;
    redis.run::<i64>(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]);
    let is_back =
        async || gateway.metric("crewcast_broker_reconnects_total", "").await > reconnects && gateway.is_ready().await;
    eventually("the link is back", is_back).await;
    let mut back = resume(&gateway, &last).await;
    let newcomer = gateway::on(&redis, &age).await;
    let mut elsewhere = resume(&newcomer, &last).await;
    let mut late = resume(&newcomer, &first).await;
    let reset = late.json().await;
    assert_eq!(
        (&reset["type"], &reset["reason"]),
        (&json!("reset"), &json!("trimmed")),
        "a reader that missed an event is told"
    );

    let next = logged(&gateway, "graph:abc", r#"{"type":"step"}"#).await;
    for socket in [&mut awake, &mut back, &mut elsewhere, &mut late] {
        assert_eq!(next_without_reset(socket).await["id"], *next);
    }
}
