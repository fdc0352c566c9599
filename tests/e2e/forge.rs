//! The forge dialect: snapshots and what follows, documents at intervals.

use std::{path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::{
    PATIENCE, eventually,
    gateway::{self, Gateway},
    http::post,
    redis::RedisServer,
    socket::{Socket, connect},
    token::token,
};

/// What an intervals' tests wait for.
const OFTEN: [(&str, &str); 2] = [("CREWCAST_FORGE__METRICS_EVERY", "1s"), ("CREWCAST_FORGE__DASHBOARD_EVERY", "1s")];

/// Publishes an event of acme's that sets a state document; `null` removes it.
async fn set(gateway: &Gateway, namespace: &str, event: Value, key: &str, document: Value) {
    let producer = token(json!({ "publish": [format!("{namespace}:*")] }));
    let body =
        json!({ "channel": format!("{namespace}:acme"), "event": event, "state": { "key": key, "value": document } });
    let answer = post(gateway, "/api/v1/publish", &producer, body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

async fn open(gateway: &Gateway, path: &str) -> Socket {
    connect(&gateway.ws(path), Some(&token(json!({})))).await
}

fn offset(id: &Value) -> u64 {
    id.as_str().and_then(|id| id.split_once('-')).map_or(0, |(offset, _)| offset.parse().unwrap())
}

/// Opens sockets while the agent's document counts the events: each must begin with one state and go on with the very
/// next event.
async fn no_seam(writer: &Gateway, readers: &[&Gateway]) {
    const EVENTS: u64 = 300;
    let writing = async {
        for n in 1..=EVENTS {
            set(writer, "agents", json!({ "type": "status_changed", "n": n }), "a1", json!({ "n": n })).await;
        }
    };
    let reading = async {
        for round in 0.. {
            let mut socket = open(readers[round % readers.len()], "/ws/agents").await;
            let snapshot = socket.json().await;
            assert_eq!(snapshot["type"], "snapshot");
            let begin = offset(&snapshot["position"]);
            assert_eq!(snapshot["data"]["a1"]["n"].as_u64().unwrap_or(0), begin, "{snapshot}");
            let until = EVENTS.min(begin + 5);
            for n in begin + 1..=until {
                let event = socket.json().await;
                assert_eq!((event["n"].as_u64(), offset(&event["id"])), (Some(n), n), "behind {begin}: {event}");
            }
            if begin == EVENTS {
                return assert!(round > 5, "{round} sockets");
            }
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn a_snapshot_and_what_follows_have_no_seam_on_redis_and_two_replicas() {
    let redis = RedisServer::start();
    let replicas = [gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    no_seam(&replicas[0], &[&replicas[0], &replicas[1]]).await;
}

#[tokio::test]
async fn a_snapshot_and_what_follows_have_no_seam_on_the_memory_broker() {
    let gateway = gateway::memory(&[]).await;
    no_seam(&gateway, &[&gateway]).await;
}

#[tokio::test]
async fn fifty_dashboards_and_metrics_cost_one_read_per_interval() {
    const SOCKETS: usize = 50;
    const ROUNDS: usize = 3;
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &OFTEN).await;
    let mut sockets = Vec::new();
    for n in 0..2 * SOCKETS {
        sockets.push(open(&gateway, ["/ws/dashboard", "/ws/metrics"][n % 2]).await);
    }
    for socket in &mut sockets {
        socket.json().await;
    }
    // Nothing but the reading of states scans hashes: one scan for each of four channels, and one for the metrics.
    let scans = || calls(&redis, "hscan");
    let before = scans();
    for _ in 0..ROUNDS {
        for socket in &mut sockets {
            socket.json().await;
        }
    }
    let cost = scans() - before;
    // Ticks that have begun at either end.
    assert!((5 * (ROUNDS - 1)..=5 * (ROUNDS + 2)).contains(&cost), "{cost} reads for {ROUNDS} documents");
    drop(sockets);
    eventually("nobody watches", || async { gateway.metric("crewcast_connections", "forge").await == 0.0 }).await;
    eventually("nothing is read", || async {
        let before = scans();
        tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
        scans() == before
    })
    .await;
}

/// How often Redis has carried out a command, from scripts too.
fn calls(redis: &RedisServer, command: &str) -> usize {
    let info: String = redis.run(&[b"INFO", b"commandstats"]);
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_snapshot_waits_for_a_broker_that_is_away() {
    let mut redis = RedisServer::start();
    let gateway = gateway::on(&redis, &OFTEN).await;
    redis.kill();
    let mut sockets = [open(&gateway, "/ws/tasks").await, open(&gateway, "/ws/metrics").await];
    for socket in &mut sockets {
        let told = socket.json().await;
        assert_eq!((&told["type"], &told["state"]), (&json!("broker"), &json!("down")), "{told}");
    }
    redis.restart();
    for (socket, first) in sockets.iter_mut().zip(["snapshot", "metrics"]) {
        assert_eq!(socket.event().await["type"], first);
    }
}

/// A client as users write it, in a process of its own that ends with its owner.
struct Client {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(mut command: Command, script: &str, gateway: &Gateway) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/forge").join(script);
        command.arg(script).arg(token(json!({}))).arg(gateway.ws(""));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("run `make test`, which sees to Node and the Python environment");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, lines }
    }

    /// Reads on until this is said.
    async fn says(&mut self, expected: &str) {
        let mut said = Vec::new();
        let reading = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line == expected {
                    return;
                }
                said.push(line);
            }
            panic!("the client has ended");
        };
        let in_time = tokio::time::timeout(PATIENCE, reading).await;
        assert!(in_time.is_ok(), "{expected:?} was not said, but {said:?}");
    }
}

#[tokio::test]
async fn a_page_and_a_program_show_what_there_is_and_what_happens() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &OFTEN).await;
    let agent = |status: &str| json!({ "agent_id": "a1", "name": "Researcher", "status": status });
    set(&gateway, "agents", json!({ "type": "agent_created", "data": agent("idle") }), "a1", agent("idle")).await;
    let task = json!({ "task_id": "t1", "name": "Read", "status": "running", "percentage": 0 });
    set(&gateway, "tasks", json!({ "type": "task_started", "data": task }), "t1", task.clone()).await;

    let mut node = Command::new("node");
    node.arg("--experimental-websocket");
    let mut page = Client::start(node, "dashboard.mjs", &gateway);
    page.says(r#"agents {"a1":"idle"}"#).await;
    page.says("pong").await;
    let python = Command::new(std::env::var_os("TEST_PYTHON").expect("TEST_PYTHON: run `make test`"));
    let mut program = Client::start(python, "monitor.py", &gateway);
    program.says("running ['t1']").await;

    let changed = json!({ "type": "status_changed", "data": { "agent_id": "a1", "new_status": "busy" } });
    set(&gateway, "agents", changed, "a1", agent("busy")).await;
    page.says(r#"agents {"a1":"busy"}"#).await;
    page.says(r#"dashboard {"busy":1}"#).await;
    set(&gateway, "tasks", json!({ "type": "task_completed", "data": task }), "t1", Value::Null).await;
    program.says("task_completed t1").await;
    set(&gateway, "metrics", json!({ "type": "system_metrics", "data": {} }), "system", json!({ "cpu": 1 })).await;
    program.says("metrics ['system']").await;
}
