//! Real clients in Python: the libraries `websockets` and `redis`, without code of Crewcast.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    eventually, gateway,
    http::publish,
    redis::RedisServer,
    root,
    token::{now, token},
};

/// Runs `tests/clients/<script>` and returns its output.
async fn python(script: &str, arguments: &[&str]) -> String {
    const SETUP: &str = "run `make test`, or tests/setup.sh and set TEST_PYTHON to target/venv/bin/python";
    let interpreter = std::env::var_os("TEST_PYTHON").unwrap_or_else(|| panic!("TEST_PYTHON is not set: {SETUP}"));
    let tests = root().join("tests/clients");
    let mut command = Command::new(&interpreter);
    command.arg(tests.join(script)).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let ran = tokio::time::timeout(crate::support::PATIENCE, command.output()).await.expect("the script exits");
    let output = ran.unwrap_or_else(|error| panic!("TEST_PYTHON={interpreter:?} does not start ({error}): {SETUP}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}\n(are the packages of tests/requirements.txt there? {SETUP})");
    String::from_utf8(output.stdout).unwrap()
}

async fn watch(url: &str, how: &str, jwt: &str, count: usize, sends: &[&str]) -> Value {
    let count = count.to_string();
    let mut arguments = vec![url, how, jwt, &count];
    arguments.extend_from_slice(sends);
    serde_json::from_str(&python("watch.py", &arguments).await).unwrap()
}

#[tokio::test]
async fn the_handshake_selects_token_and_a_run_is_read_to_its_end() {
    let gateway = gateway::memory(&[]).await;
    let jwt = token(json!({ "runs": ["r1"], "publish": ["run:*"] }));
    for kind in ["boot", "error", "done"] {
        publish(&gateway, &jwt, "run:r1", json!({ "type": kind })).await;
    }
    for (how, selected) in [("subprotocol", json!("token")), ("header", Value::Null)] {
        let seen = watch(&gateway.ws("/ws/runs/r1"), how, &jwt, 100, &[]).await;
        assert_eq!((&seen["status"], &seen["subprotocol"]), (&json!(101), &selected), "{seen}");
        assert!(!seen["headers"].as_str().unwrap().contains(&jwt), "{seen}");
        let kinds: Vec<Value> = seen["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap()["type"].clone())
            .collect();
        assert_eq!(kinds, ["boot", "error", "done"]);
        assert_eq!(seen["close"], json!([1000, "run completed"]));
    }
}

#[tokio::test]
async fn messages_compressed_against_earlier_ones_are_read() {
    let gateway = gateway::memory(&[]).await;
    let jwt = token(json!({ "crews": ["abc"], "publish": ["graph:*"] }));
    let text = |n: usize| {
        format!("agent coder called run_tests, which took {} ms: é🙂 {n}", n * 7919 % 1000).repeat(1 + n % 4)
    };
    for n in 0..40 {
        publish(&gateway, &jwt, "graph:abc", json!({ "type": "x", "crew_id": "abc", "text": text(n) })).await;
    }
    let seen = watch(&gateway.ws("/ws/graph/abc?since=0"), "header", &jwt, 40, &[]).await;
    let texts: Vec<Value> = seen["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap()["text"].clone())
        .filter(|text| !text.is_null())
        .collect();
    assert!((39..=40).contains(&texts.len()), "{seen}");
    assert!(texts.iter().enumerate().all(|(n, read)| *read == text(n)), "{seen}");
    let bytes = |encoding: &'static str| gateway.metric("crewcast_delivery_bytes_total", encoding);
    assert!(bytes(r#"encoding="deflate""#).await < 40.0 * 100.0);
}

#[tokio::test]
async fn pings_are_answered_and_fragments_understood() {
    let gateway = gateway::memory(&[]).await;
    let jwt = token(json!({ "crews": ["abc"], "publish": ["graph:*"] }));
    let text = "é🙂 and more ".repeat(40);
    publish(&gateway, &jwt, "graph:abc", json!({ "type": "x", "text": text })).await;
    let url = gateway.ws("/ws/graph/abc?since=0");
    let seen = watch(&url, "header", &jwt, 2, &[r#"{"type":"pong"}"#, "{\"é🙂\":1}"]).await;
    // By default the library offers compression and compresses its messages.
    assert!(seen["headers"].as_str().unwrap().contains("permessage-deflate"), "{seen}");
    assert!(gateway.metric("crewcast_delivery_bytes_total", r#"encoding="deflate""#).await > 0.0);
    assert_eq!(seen["pong"], true);
    let messages: Vec<Value> = seen["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap())
        .collect();
    assert!(messages.iter().any(|message| message["type"] == "x" && message["text"] == text), "{seen}");
    assert!(messages.iter().any(|message| message["code"] == "unknown_action"), "{seen}");
    assert_eq!(seen["close"][0], 1000, "the client's close frame is answered");
}

#[tokio::test]
async fn bad_tokens_get_4401_after_the_handshake() {
    let gateway = gateway::memory(&[]).await;
    let expired = token(json!({ "crews": ["abc"], "exp": now() - 1 }));
    let forged = format!("{}AAAA", token(json!({ "crews": ["abc"] })));
    let cases = [
        ("none", "", "no token"),
        ("subprotocol", "rubbish", "not a JSON Web Token"),
        ("subprotocol", expired.as_str(), "token expired"),
        ("subprotocol", forged.as_str(), "bad signature"),
        ("header", expired.as_str(), "token expired"),
    ];
    for (how, jwt, reason) in cases {
        let seen = watch(&gateway.ws("/ws/graph/abc"), how, jwt, 1, &[]).await;
        let selected = if how == "subprotocol" { json!("token") } else { Value::Null };
        assert_eq!((&seen["status"], &seen["subprotocol"]), (&json!(101), &selected), "{seen}");
        assert_eq!(seen["close"][0], 4401, "{seen}");
        let said = seen["close"][1].as_str().unwrap();
        assert!(said.contains(reason) && !said.contains("eyJ"), "{seen}");
    }
}

#[tokio::test]
async fn refusals_reach_the_library_with_code_and_reason() {
    let gateway = gateway::memory(&[("CREWCAST_LIMITS__MESSAGE", "1000")]).await;
    let jwt = token(json!({ "crews": ["abc"] }));
    let big = "x".repeat(50_000);
    let cases = [
        ("/ws/graph/xyz", "", 4403),
        ("/ws/nothing", "", 4404),
        ("/ws/graph/a%20b", "", 4404),
        ("/ws/graph/abc", big.as_str(), 1009),
    ];
    for (path, send, code) in cases {
        let sends: &[&str] = if send.is_empty() { &[] } else { &[send] };
        let seen = watch(&gateway.ws(path), "subprotocol", &jwt, 1, sends).await;
        assert_eq!(seen["close"][0], code, "{path}: {seen}");
        assert!(!seen["close"][1].as_str().unwrap().is_empty(), "{path}: {seen}");
    }
}

#[tokio::test]
async fn a_plain_websocket_client_sees_what_a_plain_redis_client_publishes() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let jwt = token(json!({ "crews": ["abc"] }));
    let message = r#"{ "type":"tool_start", "n":1.50, "e":"é🙂"}"#;
    let url = gateway.ws("/ws/graph/abc");
    let watching = watch(&url, "subprotocol", &jwt, 1, &[]);
    let producing = async {
        let heard = |channel: &'static [u8]| -> i64 {
            let counts: (String, i64) = redis.run(&[b"PUBSUB", b"NUMSUB", channel]);
            counts.1
        };
        eventually("the channel is subscribed", || async { heard(b"graph:abc") == 1 }).await;
        python("produce.py", &[&redis.url(), "graph:abc", message]).await
    };
    let (seen, heard) = tokio::join!(watching, producing);
    assert_eq!(heard.trim(), "1");
    assert_eq!(seen["messages"], json!([message]));
}
