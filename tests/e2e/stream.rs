//! The dialect `stream` beyond its transcripts: changes while a socket is open, and clients as users write them.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

use crate::support::{
    PATIENCE,
    gateway::{self, Gateway},
    http::publish,
    redis::RedisServer,
    root,
    socket::{Socket, connect},
    token::{now, token},
};

async fn logged(gateway: &Gateway, channel: &str, event: Value) -> String {
    publish(gateway, &token(json!({ "org": null, "publish": [channel] })), channel, event).await
}

/// A socket that has sent this and received `subscribed`.
async fn subscribed(gateway: &Gateway, claims: Value, say: &str) -> Socket {
    let mut socket = connect(&gateway.ws("/ws/stream"), Some(&token(claims))).await;
    socket.send(say).await;
    let answer = socket.json().await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
    socket
}

#[tokio::test]
async fn a_message_after_the_first_token_waits_for_its_check() {
    let gateway = gateway::memory(&[]).await;
    let mut socket = connect(&gateway.ws("/"), None).await;
    let auth = json!({ "action": "auth", "token": token(json!({ "crews": ["abc"] })) });
    socket.send(&auth.to_string()).await;
    socket.send(r#"{"action":"subscribe","channel":"graph:abc"}"#).await;
    assert_eq!(socket.json().await["type"], "authenticated");
    assert_eq!(socket.json().await["type"], "subscribed");
}

#[tokio::test]
async fn a_clients_publishes_keep_their_order() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let claims = json!({ "publish": ["stream:*"], "streams": ["w"] });
    let mut socket = subscribed(&gateway, claims, r#"{"action":"subscribe","stream_id":"w"}"#).await;
    for n in 0..50 {
        let message = json!({ "action": "publish", "channel": "stream:w", "event": { "type": "x", "n": n }, "ref": n });
        socket.send(&message.to_string()).await;
    }
    let (mut heard, mut answered) = (0, 0);
    while heard < 50 || answered < 50 {
        let message = socket.json().await;
        match message["type"].as_str().unwrap() {
            "event" => {
                assert_eq!(message["event"]["n"], heard);
                heard += 1;
            }
            "published" => {
                assert_eq!(message["ref"], answered);
                answered += 1;
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_refresh_that_grants_less_ends_the_subscriptions_it_no_longer_grants() {
    let gateway = gateway::memory(&[]).await;
    let claims = json!({ "crews": ["abc", "def"] });
    let mut socket = subscribed(&gateway, claims, r#"{"action":"subscribe","channel":"graph:abc"}"#).await;
    socket.send(r#"{"action":"subscribe","channel":"graph:def"}"#).await;
    assert_eq!(socket.json().await["type"], "subscribed");
    let less = token(json!({ "crews": ["def"], "exp": now() + 7200 }));
    socket.send(&json!({ "action": "auth", "token": less }).to_string()).await;
    let mut said = [socket.json().await, socket.json().await];
    said.sort_by_key(|message| message["type"].to_string());
    assert_eq!(said[0]["type"], "authenticated");
    assert_eq!((&said[1]["code"], &said[1]["channel"]), (&json!("forbidden"), &json!("graph:abc")));
    logged(&gateway, "graph:abc", json!({ "type": "x", "n": 1 })).await;
    logged(&gateway, "graph:def", json!({ "type": "x", "n": 2 })).await;
    assert_eq!(socket.json().await["event"]["n"], 2, "the socket is open and continues");
}

#[tokio::test]
async fn a_channel_restarts_with_each_subscribe_and_misses_nothing() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let mut ids = Vec::new();
    for n in 0..600 {
        ids.push(logged(&gateway, "graph:abc", json!({ "type": "x", "n": n })).await);
    }
    let claims = json!({ "crews": ["abc"] });
    let say = |since: usize| json!({ "action": "subscribe", "channel": "graph:abc", "since": ids[since] }).to_string();
    let mut socket = subscribed(&gateway, claims, &say(10)).await;
    // Each request comes while pages for the one before are being sent.
    for since in [300, 20, 500] {
        socket.send(&say(since)).await;
    }
    let mut begun = 0;
    let mut next = 11;
    while begun < 3 || next < 600 {
        let message = socket.json().await;
        if message["type"] == "subscribed" {
            let position = message["position"]["graph:abc"].as_str().unwrap();
            next = ids.iter().position(|id| id == position).unwrap() + 1;
            begun += 1;
            continue;
        }
        assert_eq!(message["event"]["n"], next, "{message}");
        next += 1;
    }
    assert_eq!(begun, 3);
}

#[tokio::test]
async fn a_socket_is_told_about_too_many_messages_before_it_is_closed() {
    let gateway = gateway::memory(&[("CREWCAST_LIMITS__MESSAGES_PER_MINUTE", "20")]).await;
    let mut socket = connect(&gateway.ws("/ws/stream"), Some(&token(json!({})))).await;
    for _ in 0..200 {
        // The gateway may close before everything is sent.
        if tokio::time::timeout(PATIENCE, async { socket.try_send(r#"{"action":"ping"}"#).await })
            .await
            .unwrap()
            .is_err()
        {
            break;
        }
    }
    let (mut refused, mut answered) = (0, 0);
    let end = loop {
        match socket.text_or_end().await {
            Ok(text) if text.contains(r#""code":"rate_limited""#) => refused += 1,
            Ok(_) => answered += 1,
            Err(end) => break end,
        }
    };
    assert_eq!((end.0, refused), (4429, 10));
    assert!(answered >= 20, "{answered}");
}

#[tokio::test]
async fn no_event_comes_before_the_answer_to_subscribe_even_while_the_broker_is_down() {
    let mut redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[("CREWCAST_BROKER__PATIENCE", "60s")]).await;
    let mut socket = connect(&gateway.ws("/ws/stream"), Some(&token(json!({ "crews": ["abc"] })))).await;
    redis.kill();
    socket.send(r#"{"action":"subscribe","channel":"graph:abc","ref":1}"#).await;
    assert_eq!(socket.json().await["state"], "down");
    redis.restart();
    let (mut up, mut answered) = (false, false);
    while !up || !answered {
        let message = socket.json().await;
        up |= message["state"] == "up";
        answered |= message["type"] == "subscribed" && message["ref"] == 1;
    }
    logged(&gateway, "graph:abc", json!({ "type": "x" })).await;
    assert_eq!(socket.json().await["channel"], "graph:abc");
}

/// Starts a client of `tests/clients/stream`.
fn client(program: &str, arguments: &[&str]) -> Child {
    let folder = root().join("tests/clients/stream");
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

async fn line(lines: &mut tokio::io::Lines<BufReader<impl tokio::io::AsyncRead + Unpin>>) -> String {
    tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap().expect("a line")
}

#[tokio::test]
async fn a_dashboards_hook_in_plain_browser_code_sees_each_event_once_across_a_cut() {
    let gateway = gateway::memory(&[]).await;
    let jwt = token(json!({ "streams": ["a", "b"] }));
    let mut page = client("node", &["--experimental-websocket", "dashboard.js", &gateway.ws("/ws/stream"), &jwt, "6"]);
    let mut said = BufReader::new(page.stderr.take().unwrap()).lines();
    while line(&mut said).await != "subscribed" {}
    for n in 0..6 {
        logged(&gateway, if n % 2 == 0 { "stream:a" } else { "stream:b" }, json!({ "type": "node_executed", "n": n }))
            .await;
    }
    let mut out = String::new();
    let read = page.stdout.take().unwrap().read_to_string(&mut out).await;
    read.unwrap();
    let seen: Value = serde_json::from_str(&out).unwrap();
    let mut events: Vec<String> = serde_json::from_value(seen["events"].clone()).unwrap();
    events.sort_by_key(|event| event.split(' ').next_back().unwrap().to_owned());
    let expected = (0..6).map(|n| format!("stream:{} node_executed {n}", if n % 2 == 0 { "a" } else { "b" }));
    assert_eq!(events, expected.collect::<Vec<_>>(), "{seen}");
    assert!(seen["news"].as_array().unwrap().iter().filter(|news| **news == "authenticated").count() >= 2, "{seen}");
}

#[tokio::test]
async fn a_dashboard_with_a_bad_token_is_told_why() {
    let gateway = gateway::memory(&[]).await;
    let page = client("node", &["--experimental-websocket", "dashboard.js", &gateway.ws("/ws/stream"), "x.y.z", "1"]);
    let output = tokio::time::timeout(PATIENCE, page.wait_with_output()).await.unwrap().unwrap();
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&seen["code"], &seen["reason"]),
        (&json!(1008), &json!("auth failed: not a JSON Web Token: get a new token"))
    );
}

#[tokio::test]
async fn a_monitor_in_python_alerts_on_failures_in_every_stream_it_may_read() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let interpreter = std::env::var("TEST_PYTHON").expect("run `make test`, or tests/setup.sh and set TEST_PYTHON");
    let jwt = token(json!({ "streams": ["a", "b"] }));
    let mut monitor = client(&interpreter, &["monitor.py", &gateway.ws("/ws/stream"), &jwt, "2"]);
    let mut said = BufReader::new(monitor.stdout.take().unwrap()).lines();
    assert_eq!(line(&mut said).await, "watching stream:a stream:b");
    logged(&gateway, "stream:a", json!({ "type": "execution_started", "data": {} })).await;
    logged(&gateway, "stream:a", json!({ "type": "execution_failed", "data": { "error": "no disk" } })).await;
    assert_eq!(line(&mut said).await, "alert stream:a execution_failed no disk");
    // A producer that only knows Redis.
    redis.publish("stream:b", br#"{"type":"CONSTRAINT_VIOLATION","data":{}}"#);
    assert_eq!(line(&mut said).await, "alert stream:b constraint_violation None");
    let ended = tokio::time::timeout(PATIENCE, monitor.wait()).await.expect("the monitor exits");
    assert!(ended.unwrap().success());
}

#[tokio::test]
async fn a_custom_namespace_is_read_with_the_channels_claim() {
    let gateway = gateway::memory(&[("CREWCAST_NAMESPACES__BUILDS__LOG__LENGTH", "10")]).await;
    let claims = json!({ "channels": ["builds:*"], "publish": ["builds:*"] });
    let say = r#"{"action":"subscribe","channel":"builds:main","event_types":["FAILED"]}"#;
    let mut socket = subscribed(&gateway, claims, say).await;
    for kind in ["passed", "failed"] {
        let message = json!({ "action": "publish", "channel": "builds:main", "event": { "type": kind } });
        socket.send(&message.to_string()).await;
    }
    let mut said = [socket.json().await, socket.json().await, socket.json().await];
    said.sort_by_key(|message| message["type"].to_string());
    assert_eq!((&said[0]["channel"], &said[0]["event"]), (&json!("builds:main"), &json!({ "type": "failed" })));
    assert_eq!(said[0]["id"], said[2]["id"]);
    socket.send(r#"{"action":"subscribe","channel":"graph:abc"}"#).await;
    assert_eq!(socket.json().await["code"], "forbidden");
}

#[tokio::test]
async fn the_example_in_the_docs_resumes_when_its_gateway_is_killed() {
    let document = include_str!("../../docs/protocols/stream.md");
    let example = document.split("```js\n").find(|block| block.starts_with("function follow(")).unwrap();
    let example = example.split("```").next().unwrap();
    let print = "console.log(message.channel, message.event.n)";
    let script = format!("{example}\nfollow(process.argv[1], process.argv[2], (message) => {print});");
    let redis = RedisServer::start();
    let listen = format!("127.0.0.1:{}", crate::support::redis::free_port());
    let settings = [("CREWCAST_LISTEN", listen.as_str())];
    let mut gateway = gateway::on(&redis, &settings).await;
    let jwt = token(json!({ "streams": ["a", "b"] }));
    let mut page = client("node", &["--experimental-websocket", "-e", &script, &gateway.ws("/ws/stream"), &jwt]);
    let mut said = BufReader::new(page.stdout.take().unwrap()).lines();
    // A knock has no id and leaves the position unchanged.
    let mut deaf = vec!["stream:a 0".to_owned(), "stream:b 0".to_owned()];
    let began = Instant::now();
    while !deaf.is_empty() {
        assert!(began.elapsed() < PATIENCE, "the page receives nothing of {deaf:?}");
        for channel in ["stream:a", "stream:b"] {
            redis.publish(channel, br#"{"type":"x","n":0}"#);
        }
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(50), said.next_line()).await {
            let heard = heard.unwrap().expect("the page is running");
            deaf.retain(|knock| *knock != heard);
        }
    }
    logged(&gateway, "stream:a", json!({ "type": "x", "n": 1 })).await;
    while line(&mut said).await != "stream:a 1" {}
    gateway.kill();
    drop(gateway);
    let gateway = gateway::on(&redis, &[]).await;
    for (channel, n) in [("stream:b", 2), ("stream:a", 3), ("stream:b", 4)] {
        logged(&gateway, channel, json!({ "type": "x", "n": n })).await;
    }
    let _again = gateway::on(&redis, &settings).await;
    let mut came = Vec::new();
    while came.len() < 3 {
        came.push(line(&mut said).await);
        came.retain(|line| !line.ends_with(" 0"));
    }
    came.sort();
    assert_eq!(came, ["stream:a 3", "stream:b 2", "stream:b 4"]);
}
