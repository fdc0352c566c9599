//! The dialect `forge`: snapshots with the events after them, and documents at intervals.

use std::process::Stdio;

use crewcast_publisher::{
    Publisher,
    catalog::forge::{
        agents::{Agent, AgentState},
        knowledge::Counts,
        tasks::Task,
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::{
    PATIENCE, eventually,
    gateway::{self, Gateway},
    http::{get, post, problem},
    redis::RedisServer,
    root,
    socket::{Socket, connect},
    token::token,
};

/// The interval of the documents in these tests.
const OFTEN: [(&str, &str); 2] = [("CREWCAST_FORGE__METRICS_EVERY", "1s"), ("CREWCAST_FORGE__DASHBOARD_EVERY", "1s")];

/// Publishes an event of acme that sets a state document; `null` removes the document.
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

/// Opens sockets while the agent's document counts the events. Each socket must start with one state and continue
/// with the very next event.
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
                assert_eq!((event["n"].as_u64(), offset(&event["id"])), (Some(n), n), "after {begin}: {event}");
            }
            if begin == EVENTS {
                return assert!(round > 5, "{round} sockets");
            }
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn no_event_is_missing_after_a_snapshot_on_redis_with_two_replicas() {
    let redis = RedisServer::start();
    let replicas = [gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    no_seam(&replicas[0], &[&replicas[0], &replicas[1]]).await;
}

#[tokio::test]
async fn no_event_is_missing_after_a_snapshot_on_the_memory_broker() {
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
    // Only reading state scans hashes: one scan for each of four channels, and one for the metrics.
    let scans = || calls(&redis, "hscan");
    let before = scans();
    for _ in 0..ROUNDS {
        for socket in &mut sockets {
            socket.json().await;
        }
    }
    let cost = scans() - before;
    // Allow for the ticks in progress at both ends.
    assert!((5 * (ROUNDS - 1)..=5 * (ROUNDS + 2)).contains(&cost), "{cost} reads for {ROUNDS} documents");
    drop(sockets);
    eventually("no socket is open", || async { gateway.metric("crewcast_connections", "forge").await == 0.0 }).await;
    eventually("nothing is read", || async {
        let before = scans();
        tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
        scans() == before
    })
    .await;
}

/// How often Redis has executed a command, including from scripts.
fn calls(redis: &RedisServer, command: &str) -> usize {
    let info: String = redis.run(&[b"INFO", b"commandstats"]);
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_snapshot_waits_until_the_broker_is_back() {
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

/// The response of `/ws/stats`.
async fn stats(gateway: &Gateway, claims: Value) -> Value {
    let answer = get(gateway, "/ws/stats", &token(claims)).await;
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn stats_cover_the_org_this_replica_and_the_sum_of_live_replicas() {
    let redis = RedisServer::start();
    let mut replicas = vec![gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    let zeta = token(json!({ "org": "zeta", "crews": ["abc"] }));
    let mut sockets = [open(&replicas[0], "/ws/agents").await, open(&replicas[1], "/ws/agents").await];
    let others = [open(&replicas[1], "/ws").await, connect(&replicas[1].ws("/ws/graph/abc"), Some(&zeta)).await];
    for socket in &mut sockets {
        assert_eq!(socket.json().await["type"], "snapshot");
    }
    set(&replicas[0], "agents", json!({ "type": "agent_created" }), "a1", json!({})).await;
    for socket in &mut sockets {
        socket.event().await;
    }
    let here = stats(&replicas[0], json!({})).await;
    assert_eq!((&here["scope"], &here["org"]), (&json!("org"), &json!("acme")));
    assert_eq!(here["replica"]["connections"], json!({ "/ws/agents": 1 }));
    assert_eq!(here["replica"]["events"], json!({ "in": 1, "out": 1 }));
    assert_eq!(here["replica"]["ring"]["channels"], 1);
    eventually("both replicas are summed", || async {
        let total = stats(&replicas[0], json!({})).await["total"].take();
        total["replicas"] == 2
            && total["connections"] == json!({ "/ws": 1, "/ws/agents": 2 })
            && total["events"] == json!({ "in": 2, "out": 2 })
    })
    .await;
    let foreign = stats(&replicas[0], json!({ "org": "zeta" })).await["total"].take();
    assert_eq!((&foreign["connections"], &foreign["events"]["in"]), (&json!({ "/ws/graph/{crew}": 1 }), &json!(0)));
    let all = stats(&replicas[0], json!({ "admin": true })).await;
    assert_eq!(all["total"]["connections"], json!({ "/ws": 1, "/ws/agents": 2, "/ws/graph/{crew}": 1 }));

    assert_eq!(all["replica"]["dropped"], json!({ "missed": 0, "rejected": 0 }));
    redis.publish("agents:acme", b"no event");
    eventually("the operator's sum counts the socket", || async {
        let [all, org] = [json!({ "admin": true }), json!({})].map(|claims| stats(&replicas[0], claims));
        all.await["replica"]["dropped"]["rejected"] == 1 && org.await["replica"]["dropped"]["rejected"] == 0
    })
    .await;

    // A drained replica leaves the sum at once. A killed one is counted until its figures are too old.
    drop((sockets, others));
    let mut gone = replicas.remove(1);
    gone.terminate();
    assert!(gone.exit().await.success());
    assert_eq!(stats(&replicas[0], json!({})).await["total"]["replicas"], 1);
    let open = json!({ "admin": true });
    eventually("no socket is counted", || async {
        stats(&replicas[0], open.clone()).await["total"]["connections"] == json!({})
    })
    .await;
}

#[tokio::test]
async fn stats_work_on_the_memory_broker_and_fail_while_redis_is_down() {
    let gateway = gateway::memory(&[]).await;
    let _socket = open(&gateway, "/ws/knowledge").await;
    eventually("it is counted", || async {
        stats(&gateway, json!({})).await["total"]["connections"] == json!({ "/ws/knowledge": 1 })
    })
    .await;
    let mut redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    redis.kill();
    let answer = get(&gateway, "/ws/stats", &token(json!({}))).await;
    problem(answer, 503, "unavailable").await;
}

/// A client as users write it. Its process is killed when this is dropped.
struct Client {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Printed lines that no test has asked for yet. The client's sockets print in any order.
    said: Vec<String>,
}

impl Client {
    fn start(mut command: Command, script: &str, gateway: &Gateway) -> Self {
        let script = root().join("tests/clients/forge").join(script);
        command.arg(script).arg(token(json!({}))).arg(gateway.ws(""));
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("run `make test`, which installs Node and the Python environment");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, lines, said: Vec::new() }
    }

    /// Waits until the client has printed this line.
    async fn says(&mut self, expected: &str) {
        let reading = async {
            loop {
                if let Some(at) = self.said.iter().position(|line| line == expected) {
                    self.said.remove(at);
                    return;
                }
                let line = self.lines.next_line().await.unwrap().expect("the client is running");
                self.said.push(line);
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reading).await;
        assert!(in_time.is_ok(), "{expected:?} was not printed, but {:?}", self.said);
    }
}

#[tokio::test]
async fn the_example_in_the_docs_follows_the_agents() {
    const DOCUMENT: &str = include_str!("../../docs/protocols/forge.md");
    let gateway = gateway::memory(&[]).await;
    let agent = json!({ "agent_id": "a1", "name": "Researcher", "status": "idle" });
    set(&gateway, "agents", json!({ "type": "agent_created", "data": agent }), "a1", agent).await;
    let example = DOCUMENT.split("```js\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let call = format!(
        "follow({:?}, {:?}, (agents) => console.log(JSON.stringify([...agents])));",
        gateway.ws("/ws/agents"),
        token(json!({}))
    );
    let mut node = Command::new("node");
    node.args(["--experimental-websocket", "--eval", &format!("{example}{call}")]);
    let mut client = Client::of(node);
    client.says(r#"[["a1","idle"]]"#).await;
    let changed = json!({ "type": "status_changed", "data": { "agent_id": "a1", "new_status": "busy" } });
    set(&gateway, "agents", changed, "a1", Value::Null).await;
    client.says(r#"[["a1","busy"]]"#).await;
}

#[tokio::test]
async fn what_emitters_publish_is_in_the_snapshots_and_on_the_dashboard() {
    let redis = RedisServer::start();
    let publisher = Publisher::connect(&redis.url()).await.unwrap();
    let researcher = Agent::new("a1", "Researcher", "busy");
    publisher.agents("acme").created(&researcher);
    publisher.agents("acme").created(&Agent::new("a2", "Writer", "idle"));
    let tasks = publisher.tasks("acme");
    let task = Task::new("t1", "Read").of_agent("a1");
    tasks.started(&task);
    tasks.progress(&task, 40.0, "page 2 of 5");
    publisher.knowledge("acme").updated(Counts { nodes: 120, edges: 300 }, &json!({}));
    publisher.metrics("acme").system(&json!({ "cpu": 1.5 }));
    assert_eq!(publisher.close(PATIENCE).await.events, 0);

    let gateway = gateway::on(&redis, &[]).await;
    let snapshot = open(&gateway, "/ws/agents").await.json().await;
    let told: AgentState = serde_json::from_value(snapshot["data"]["a1"].clone()).unwrap();
    assert_eq!((told.data, offset(&snapshot["position"])), (researcher, 2));
    let snapshot = open(&gateway, "/ws/tasks").await.json().await;
    assert_eq!(snapshot["data"]["t1"]["percentage"], 40.0, "{snapshot}");
    let dashboard = open(&gateway, "/ws/dashboard").await.json().await["data"].take();
    assert_eq!(dashboard["agents"]["by_status"], json!({ "busy": 1, "idle": 1 }));
    assert_eq!(dashboard["tasks"]["progress"], json!({ "t1": 40.0 }));
    assert_eq!(dashboard["knowledge"], json!({ "nodes": 120, "edges": 300 }));
    assert_eq!(
        (&dashboard["metrics"]["system"]["cpu"], dashboard["events"].as_array().unwrap().len()),
        (&json!(1.5), 6)
    );
}

#[tokio::test]
async fn a_web_page_and_a_program_show_the_state_and_its_changes() {
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

#[tokio::test]
async fn plain_publish_counts_in_metrics_and_dashboard_once_on_every_replica() {
    let redis = RedisServer::start();
    let replicas = [gateway::on(&redis, &OFTEN).await, gateway::on(&redis, &OFTEN).await];
    let events = [
        ("agents", r#"{"type":"agent_created","data":{"agent_id":"a1","name":"R","status":"idle"}}"#),
        ("agents", r#"{"type":"status_changed","data":{"agent_id":"a1","new_status":"busy"}}"#),
        ("tasks", r#"{"type":"task_started","data":{"task_id":"t1","name":"Read"}}"#),
        ("tasks", r#"{"type":"task_progress","data":{"task_id":"t1","percentage":40.0}}"#),
        ("knowledge", r#"{"type":"node_added","data":{"node_id":"n1"}}"#),
        ("metrics", r#"{"type":"gpu_metrics","data":{"load":0.5}}"#),
    ];
    for (namespace, text) in events {
        redis.publish(&format!("{namespace}:acme"), text.as_bytes());
    }
    for replica in &replicas {
        let mut socket = open(replica, "/ws/metrics").await;
        while socket.json().await["data"] != json!({ "gpu": { "load": 0.5 } }) {}
        let mut socket = open(replica, "/ws/dashboard").await;
        let data = loop {
            let data = socket.json().await["data"].clone();
            if data["events"].as_array().unwrap().len() >= events.len() {
                break data;
            }
        };
        assert_eq!(data["events"].as_array().unwrap().len(), events.len(), "each once: {data}");
        assert_eq!(data["agents"], json!({ "total": 1, "by_status": { "busy": 1 } }));
        assert_eq!(data["tasks"]["by_status"], json!({ "running": 1 }));
        assert_eq!(data["tasks"]["progress"], json!({ "t1": 40.0 }));
        assert_eq!(data["knowledge"], json!({ "nodes": 1, "edges": 0 }));
    }
}
