//! The dialect `crew`: runs, missions, graphs.

use serde_json::json;

use crate::support::{gateway, redis::RedisServer, socket::connect, token::token};

#[tokio::test]
async fn a_plain_publish_reaches_a_graph_socket_unchanged() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let token = token(json!({ "crews": ["abc"] }));
    let mut socket = connect(&gateway.ws("/ws/graph/abc"), Some(&token)).await;
    let message = r#"{ "type":"tool_start", "n":1.50,"z":0,"a":"\u00e9é🙂"}"#;
    crate::support::eventually("the channel is subscribed", || async {
        redis.publish("graph:abc", message.as_bytes()) == 1
    })
    .await;
    assert_eq!(socket.text().await, message);
}

#[tokio::test]
async fn a_run_is_replayed_from_its_first_event_and_closed_after_done() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let publisher = token(json!({ "publish": ["run:*"], "runs": ["r1"] }));
    for event in
        [json!({ "type": "boot", "inputs": {} }), json!({ "type": "error", "fatal": false }), json!({ "type": "done" })]
    {
        let body = json!({ "channel": "run:r1", "event": event });
        let answer = gateway::client()
            .post(gateway.url("/api/v1/publish"))
            .bearer_auth(&publisher)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }
    let mut socket = connect(&gateway.ws("/ws/runs/r1"), Some(&publisher)).await;
    let first = socket.event().await;
    assert_eq!(first["type"], "boot");
    assert_eq!(socket.event().await["type"], "error");
    let last = socket.event().await;
    assert_eq!(last["type"], "done");
    assert_eq!(socket.closed().await, (1000, "run completed".to_owned()));
    // A client that reconnects after the end is closed, too.
    let since = last["id"].as_str().unwrap();
    let mut again = connect(&gateway.ws(&format!("/ws/runs/r1?since={since}")), Some(&publisher)).await;
    assert_eq!(again.closed().await.0, 1000);
}

#[tokio::test]
async fn a_mission_socket_begins_with_the_retained_signal_of_each_crew() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let signal = r#"{"type":"signal","payload":{"status":"busy","crewId":"abc"}}"#;
    redis.publish("mission:abc", signal.as_bytes());
    crate::support::eventually("the live signal is captured", || async {
        let kept: Option<String> = redis.run(&[b"GET", b"crewcast:{mission:abc}:retained"]);
        kept.as_deref() == Some(signal)
    })
    .await;
    let token = token(json!({ "crews": ["abc", "quiet"] }));
    let mut socket = connect(&gateway.ws("/ws/mission"), Some(&token)).await;
    let mut first = [socket.text().await, socket.text().await];
    first.sort();
    assert_eq!(first[0], r#"{"type":"signal","payload":{"status":"busy","crewId":"abc"}}"#);
    assert_eq!(first[1], r#"{"type":"signal","payload":{"status":"offline","crewId":"quiet"}}"#);
}
