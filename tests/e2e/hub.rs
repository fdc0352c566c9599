//! The dialect `hub`: the events of an org in one envelope and one sequence.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::{
    PATIENCE, eventually,
    gateway::{self, Gateway},
    http::publish,
    redis::RedisServer,
    root,
    socket::{Socket, connect},
    token::token,
};

const KINDS: [&str; 2] = ["task_started", "task_completed"];

fn producer() -> String {
    token(json!({ "publish": ["hub:*"] }))
}

/// The n-th event of the org.
async fn say(gateway: &Gateway, n: u64) {
    publish(gateway, &producer(), "hub:acme", json!({ "type": KINDS[n as usize % 2], "data": { "n": n } })).await;
}

async fn open(gateway: &Gateway, query: &str) -> Socket {
    connect(&gateway.ws(&format!("/ws?{query}")), Some(&token(json!({})))).await
}

/// The next array on a socket that asked for batches.
async fn array(socket: &mut Socket) -> Vec<Value> {
    match socket.json().await {
        Value::Array(messages) => messages,
        other => panic!("expected an array, got {other}"),
    }
}

#[tokio::test]
async fn a_socket_starts_live_and_receives_plain_publishes_with_our_fields_behind_their_last() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    say(&gateway, 1).await;
    let mut socket = open(&gateway, "").await;
    let live = r#"{ "type":"system_alert", "n":1.50,"z":0,"a":"\u00e9é🙂"}"#;
    eventually("the channel is subscribed", || async { redis.publish("hub:acme", live.as_bytes()) == 1 }).await;
    let text = socket.text().await;
    let ours = text.strip_prefix(live.strip_suffix('}').unwrap()).unwrap_or_else(|| panic!("{text}"));
    assert!(ours.starts_with(r#","sequence":2,"timestamp":""#), "behind the last offset: {ours}");
    say(&gateway, 2).await;
    let event = socket.event().await;
    let log: Vec<String> = redis.run(&[b"LRANGE", b"crewcast:{hub:acme}:log", b"-1", b"-1"]);
    let logged: Value = serde_json::from_str(&log[0]).unwrap();
    assert_eq!((&event["message_id"], &event["sequence"], event.get("id")), (&logged["id"], &json!(3), None));
}

#[tokio::test]
async fn repeated_cuts_between_two_replicas_lose_and_duplicate_nothing() {
    let redis = RedisServer::start();
    let replicas = [gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    let (mut seen, mut since, mut sent) = (Vec::new(), "0".to_owned(), 0);
    for round in 0..10 {
        for batch in ["", "&batch_ms=5"] {
            let mut socket = open(&replicas[round % 2], &format!("since={since}{batch}")).await;
            for _ in 0..3 {
                sent += 1;
                say(&replicas[(round + 1) % 2], sent).await;
            }
            // Read a part before each cut, and the rest the last time.
            let until = if round == 9 && !batch.is_empty() { sent as usize } else { seen.len() + round % 4 };
            while seen.len() < until {
                let messages = if batch.is_empty() { vec![socket.json().await] } else { array(&mut socket).await };
                for message in messages {
                    assert_ne!(message["source"], "gateway", "{message}");
                    seen.push(message["sequence"].as_u64().unwrap());
                    since = message["message_id"].as_str().unwrap().to_owned();
                }
            }
        }
    }
    assert_eq!(seen, (1..=sent).collect::<Vec<_>>());
}

#[tokio::test]
async fn batches_carry_a_burst_in_few_frames_and_count_each_event() {
    const EVENTS: u64 = 400;
    let gateway = gateway::memory(&[]).await;
    let lines: String = (1..=EVENTS)
        .map(|n| format!("{}\n", json!({ "channel": "hub:acme", "event": { "type": "x", "data": { "n": n } } })))
        .collect();
    let request = gateway::client().post(gateway.url("/api/v1/publish")).bearer_auth(producer());
    assert_eq!(request.body(lines).send().await.unwrap().status(), 200);
    let mut socket = open(&gateway, "since=0&batch_ms=100").await;
    let (mut seen, mut frames) = (Vec::new(), 0);
    while seen.len() < EVENTS as usize {
        frames += 1;
        seen.extend(array(&mut socket).await.iter().map(|message| message["sequence"].as_u64().unwrap()));
    }
    assert_eq!(seen, (1..=EVENTS).collect::<Vec<_>>());
    assert!(frames <= 20, "{frames} frames");
    assert_eq!(gateway.metric("crewcast_deliveries_total", "dialect=\"hub\"").await, EVENTS as f64);
    // A single event waits no longer than the interval that was asked for.
    let began = Instant::now();
    say(&gateway, 1).await;
    assert_eq!(array(&mut socket).await.len(), 1);
    assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_drain_flushes_the_waiting_batch_and_closes_with_arrays_too() {
    let mut gateway = gateway::memory(&[("CREWCAST_DRAIN__SPREAD", "500ms"), ("CREWCAST_DRAIN__GRACE", "10s")]).await;
    let mut socket = open(&gateway, "since=0&batch_ms=1000").await;
    eventually("the socket is open", || async { gateway.metric("crewcast_connections", "hub").await == 1.0 }).await;
    say(&gateway, 1).await;
    // An event that has left the ring is in the batch.
    eventually("the event is read", || async { gateway.metric("crewcast_events_received_total", "hub").await >= 1.0 })
        .await;
    gateway.terminate();
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "reconnect") {
        kinds.extend(array(&mut socket).await.iter().map(|message| message["type"].as_str().unwrap().to_owned()));
    }
    assert_eq!(kinds, ["task_completed", "reconnect"]);
    assert_eq!(socket.closed().await.0, 1012);
    drop(socket);
    assert!(gateway.exit().await.success());
}

#[tokio::test]
async fn a_broker_outage_is_reported_in_the_sockets_own_form() {
    let mut redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let (mut single, mut batches) = (open(&gateway, "").await, open(&gateway, "batch_ms=20").await);
    assert!(single.is_quiet().await && batches.is_quiet().await);
    redis.kill();
    for state in ["down", "up"] {
        let told = single.json().await;
        assert_eq!((&told["type"], &told["state"]), (&json!("broker"), &json!(state)), "{told}");
        let told = array(&mut batches).await;
        assert_eq!((&told[0]["type"], &told[0]["state"]), (&json!("broker"), &json!(state)), "{told:?}");
        if state == "down" {
            redis.restart();
        }
    }
}

#[tokio::test]
async fn the_org_comes_from_the_token_the_default_or_the_anonymous_claims() {
    let settings = [("CREWCAST_AUTH__DEFAULT_ORG", "acme"), ("CREWCAST_AUTH__ANONYMOUS", r#"{"org":"acme"}"#)];
    let gateway = gateway::memory(&settings).await;
    say(&gateway, 1).await;
    for jwt in [Some(token(json!({}))), Some(token(json!({ "org": null }))), None] {
        let mut socket = connect(&gateway.ws("/ws?since=0"), jwt.as_deref()).await;
        assert_eq!(socket.event().await["sequence"], 1, "{jwt:?}");
    }
}

#[tokio::test]
async fn the_example_in_the_docs_shows_new_and_earlier_events() {
    const DOCUMENT: &str = include_str!("../../docs/protocols/hub.md");
    let gateway = gateway::memory(&[]).await;
    for n in 1..=2 {
        say(&gateway, n).await;
    }
    let example = DOCUMENT.split("```js\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let call = format!(
        "follow({:?}, {:?}, ({{ sequence, type }}) => console.log(`${{sequence}} ${{type}}`), \"0\");",
        gateway.ws("/ws"),
        token(json!({}))
    );
    let mut node = Command::new("node");
    node.args(["--experimental-websocket", "--eval", &format!("{example}{call}")]);
    let mut client = Client::of(node);
    for n in 1..=3 {
        if n == 3 {
            say(&gateway, n).await;
        }
        client.saw(n).await;
    }
}

/// A client as users write it. Its process is killed when this is dropped.
struct Client {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(mut command: Command, script: &str, replicas: &[Gateway]) -> Self {
        let script = root().join("tests/clients/hub").join(script);
        command.arg(script).arg(token(json!({}))).args(replicas.iter().map(|replica| replica.ws("/ws")));
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("run `make test`, which installs Node and the Python environment");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, lines }
    }

    async fn saw(&mut self, n: u64) {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("an event in time").unwrap();
        assert_eq!(line.expect("the client is running"), format!("{n} {}", KINDS[n as usize % 2]));
    }
}

#[tokio::test]
async fn a_web_page_and_a_program_lose_nothing_when_their_replica_is_killed() {
    let redis = RedisServer::start();
    let mut replicas = [gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    let mut node = Command::new("node");
    node.arg("--experimental-websocket");
    let python = Command::new(std::env::var_os("TEST_PYTHON").expect("TEST_PYTHON: run `make test`"));
    let mut clients = [Client::start(node, "dashboard.mjs", &replicas), Client::start(python, "manager.py", &replicas)];
    eventually("both clients are connected", || async {
        replicas[0].metric("crewcast_connections", "hub").await == 2.0
    })
    .await;
    let subscribed = || async {
        let (_, listeners): (String, i64) = redis.run(&[b"PUBSUB", b"NUMSUB", b"hub:acme"]);
        listeners == 1
    };
    eventually("both clients receive events", subscribed).await;
    for n in 1..=20 {
        say(&replicas[1], n).await;
        if n == 10 {
            for client in &mut clients {
                for seen in 1..=10 {
                    client.saw(seen).await;
                }
            }
            replicas[0].kill();
        }
    }
    for client in &mut clients {
        for seen in 11..=20 {
            client.saw(seen).await;
        }
    }
}
