//! The dialect `tracking`: the list of active sessions, and the state and log of one session.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use crewcast_publisher::{
    LogLevel, Publisher,
    catalog::tracking::{Activity, AgentStatus, StatusMetadata},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child as Process, ChildStdout, Command as AsyncCommand},
    sync::watch,
};

use crate::{
    storm::commandstat,
    support::{
        PATIENCE, eventually,
        gateway::{self, Gateway},
        http::post,
        redis::RedisServer,
        root,
        socket::{Socket, connect},
        token::token,
    },
};

const URL: &str = "TRACKING_TEST_URL";
const PATH: &str = "/ws/agent-tracking/client_1_ab";

async fn publisher(redis: &RedisServer) -> Publisher {
    Publisher::builder().org("acme").connect(&redis.url()).await.unwrap()
}

async fn open(gateway: &Gateway, client: &str) -> Socket {
    connect(&gateway.ws(&format!("/ws/agent-tracking/{client}")), Some(&token(json!({})))).await
}

fn ask(kind: &str, session: &str) -> String {
    json!({ "type": kind, "session_id": session }).to_string()
}

/// The next message of this type. Others are skipped.
async fn next(socket: &mut Socket, kind: &str) -> Value {
    loop {
        let message = socket.json().await;
        if message["type"] == kind {
            return message;
        }
    }
}

/// Reads lists until one has these sessions, with these statuses.
async fn lists(socket: &mut Socket, expected: &[(&str, &str)]) {
    loop {
        let data = next(socket, "active_sessions").await["data"].clone();
        let sessions = data["sessions"].as_array().unwrap().iter();
        let seen: Vec<_> =
            sessions.map(|s| (s["session_id"].as_str().unwrap(), s["status"].as_str().unwrap())).collect();
        assert_eq!(data["total_sessions"], seen.len(), "{data}");
        if seen == expected {
            return;
        }
    }
}

#[tokio::test]
async fn sessions_are_listed_while_they_are_active_on_every_replica() {
    let redis = RedisServer::start();
    let replicas = [gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    let publisher = publisher(&redis).await;
    let first = publisher.session("s1").open("How high is the tide?");
    sent(&publisher).await;
    let mut sockets = [open(&replicas[0], "client_1").await, open(&replicas[1], "client_2").await];
    for socket in &mut sockets {
        lists(socket, &[("s1", "running")]).await;
    }
    let second = publisher.session("s2").open("And tomorrow?");
    for socket in &mut sockets {
        lists(socket, &[("s1", "running"), ("s2", "running")]).await;
    }
    first.status("paused");
    for socket in &mut sockets {
        lists(socket, &[("s1", "paused"), ("s2", "running")]).await;
    }
    first.end("completed");
    drop(second);
    for socket in &mut sockets {
        lists(socket, &[]).await;
    }
}

async fn sent(publisher: &Publisher) {
    eventually("everything is sent", || async { publisher.queued() == 0 }).await;
}

/// The producer process: keeps a session open.
#[ignore = "started by the others, as a process of its own"]
#[tokio::test]
async fn producer() {
    let redis = std::env::var(URL).unwrap();
    let publisher = Publisher::builder().org("acme").leases(Duration::from_secs(3)).connect(&redis).await.unwrap();
    let _session = publisher.session("s1").open("for ever");
    std::future::pending::<()>().await;
}

struct Producer(Child);

impl Producer {
    fn start(redis: &RedisServer) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "tracking::producer"]).env(URL, redis.url());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_session_whose_producer_is_killed_leaves_the_list() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[("CREWCAST_TRACKING__SESSION_TTL", "6s")]).await;
    let mut socket = open(&gateway, "client_1").await;
    let producer = Producer::start(&redis);
    lists(&mut socket, &[("s1", "running")]).await;
    // The session is renewed as long as its producer lives.
    let renewed = tokio::time::timeout(Duration::from_secs(7), next(&mut socket, "active_sessions")).await;
    assert!(renewed.is_err(), "{renewed:?}");
    drop(producer);
    lists(&mut socket, &[]).await;
}

#[tokio::test]
async fn a_log_is_streamed_without_gaps_or_repeats_from_any_position() {
    const LINES: usize = 400;
    let redis = RedisServer::start();
    let replicas = [gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    let publisher = publisher(&redis).await;
    let session = publisher.session("s1").open("q");
    let said = watch::Sender::new(0);
    let readers: Vec<_> = (0..8)
        .map(|n| {
            let url = replicas[n % 2].ws(&format!("/ws/agent-tracking/client_{n}"));
            let mut lines = said.subscribe();
            tokio::spawn(async move {
                let mut socket = connect(&url, Some(&token(json!({ "sessions": ["s1"] })))).await;
                lines.wait_for(|lines| *lines >= n * LINES / 8).await.unwrap();
                socket.send(&ask("start_log_streaming", "s1")).await;
                let (mut seen, mut phase) = (Vec::new(), Value::Null);
                while seen.len() < LINES || phase != "over" {
                    let message = socket.json().await;
                    assert_ne!(message["type"], "error", "{message}");
                    if message["type"] == "session_state" {
                        phase = message["state"]["current_phase"].clone();
                    }
                    let lines = message["logs"].as_array().into_iter().flatten();
                    seen.extend(lines.map(|line| line["message"].as_str().unwrap().parse::<usize>().unwrap()));
                }
                seen
            })
        })
        .collect();
    for n in 0..LINES {
        session.log(LogLevel::Info, "a", &n.to_string(), None);
        said.send_replace(n);
        if n % 5 == 0 {
            sent(&publisher).await;
        }
    }
    session.update(|state| state.current_phase = "over".to_owned());
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (0..LINES).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_last_five_hundred_lines_and_the_state_are_sent_on_request() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let publisher = publisher(&redis).await;
    let session = publisher.session("s1").open("How high?");
    for n in 0..700 {
        session.log(LogLevel::Warning, "a", &n.to_string(), None);
    }
    session.update(|state| state.overall_progress = 50.0);
    sent(&publisher).await;
    let mut socket = open(&gateway, "client_1").await;
    socket.send(&ask("get_session_logs", "s1")).await;
    let logs = next(&mut socket, "session_logs").await;
    let lines = logs["logs"].as_array().unwrap();
    assert_eq!((lines.len(), &lines[0]["message"], &lines[499]["message"]), (500, &json!("200"), &json!("699")));
    socket.send(&ask("get_session_state", "s1")).await;
    let state = next(&mut socket, "session_state").await;
    assert_eq!((&state["session_id"], &state["state"]["query"]), (&json!("s1"), &json!("How high?")));
    assert_eq!(state["state"]["overall_progress"], 50.0);
    assert!(state["timestamp"].as_f64().unwrap() > 1e9, "Unix seconds");
    // The state stays after the end of the session.
    session.end("completed");
    socket.send(&ask("get_session_state", "s1")).await;
    assert_eq!(next(&mut socket, "session_state").await["state"]["overall_progress"], 50.0);
}

#[tokio::test]
async fn a_newer_socket_of_the_same_client_replaces_the_older_on_any_replica() {
    let redis = RedisServer::start();
    let replicas = [gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    let mut others = [
        connect(&replicas[0].ws(PATH), Some(&token(json!({ "sub": "u2" })))).await,
        connect(&replicas[0].ws(PATH), Some(&token(json!({ "org": "zeta" })))).await,
        open(&replicas[0], "client_2").await,
    ];
    let mut older = open(&replicas[0], "client_1_ab").await;
    next(&mut older, "active_sessions").await;
    for n in [0, 1, 1, 0] {
        let mut newer = open(&replicas[n], "client_1_ab").await;
        next(&mut newer, "active_sessions").await;
        assert_eq!(older.closed().await, (4409, "replaced by a newer connection".to_owned()));
        older = newer;
    }
    assert!(older.is_quiet().await, "the newest socket was closed");
    for other in &mut others {
        next(other, "active_sessions").await;
        assert!(other.is_quiet().await, "a socket of another client, user or org was closed");
    }
    // Of many sockets that open at once, one is left.
    let opening = (0..10).map(|n| {
        let url = replicas[n % 2].ws(PATH);
        tokio::spawn(async move { connect(&url, Some(&token(json!({})))).await })
    });
    let mut sockets = vec![older];
    for socket in opening.collect::<Vec<_>>() {
        sockets.push(socket.await.unwrap());
    }
    let open = || async {
        let mut open = 0.0;
        for replica in &replicas {
            open += replica.metric("crewcast_connections", "tracking").await;
        }
        open
    };
    eventually("one socket is left", || async { open().await == 4.0 }).await;
}

#[tokio::test]
async fn anonymous_sockets_and_all_sockets_without_takeover_live_side_by_side() {
    let anonymous = gateway::memory(&[("CREWCAST_AUTH__ANONYMOUS", r#"{"org":"acme"}"#)]).await;
    let kept = gateway::memory(&[("CREWCAST_TRACKING__TAKEOVER", "false")]).await;
    for (gateway, jwt) in [(&anonymous, None), (&kept, Some(token(json!({}))))] {
        let url = gateway.ws("/ws/agent-tracking/page.1");
        let mut sockets = Vec::new();
        for _ in 0..3 {
            let mut socket = connect(&url, jwt.as_deref()).await;
            next(&mut socket, "active_sessions").await;
            sockets.push(socket);
        }
        for socket in &mut sockets {
            assert!(socket.is_quiet().await, "a socket of the same client was closed");
        }
    }
}

#[tokio::test]
async fn streaming_continues_behind_the_requested_log() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let publisher = publisher(&redis).await;
    let session = publisher.session("s1").open("q");
    session.log(LogLevel::Info, "a", "first", None);
    sent(&publisher).await;
    let mut socket = open(&gateway, "client_1").await;
    socket.send(&ask("get_session_logs", "s1")).await;
    socket.send(&ask("start_log_streaming", "s1")).await;
    assert_eq!(next(&mut socket, "session_logs").await["logs"][0]["message"], "first");
    session.log(LogLevel::Info, "a", "second", None);
    let logs = next(&mut socket, "session_logs").await["logs"].clone();
    assert_eq!((logs.as_array().unwrap().len(), &logs[0]["message"]), (1, &json!("second")), "{logs}");
    socket.send(r#"{"type":"start_log_streaming","session_id":"s1","backlog":true}"#).await;
    let logs = next(&mut socket, "session_logs").await["logs"].clone();
    assert_eq!(logs.as_array().unwrap().len(), 2, "{logs}");
}

#[tokio::test]
async fn a_session_is_listed_by_http_alone_with_and_without_a_lease() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[("CREWCAST_TRACKING__SESSION_TTL", "2s")]).await;
    let producer = token(json!({ "publish": ["tracking:acme"] }));
    let publish = async |value: Value, lease: Value| {
        let body = json!({
            "channel": "tracking:acme",
            "event": { "type": "session_changed", "session_id": "s1" },
            "state": { "key": "s1", "value": value },
            "lease": lease,
        });
        let answer = post(&gateway, "/api/v1/publish", &producer, body).await;
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    };
    let mut socket = open(&gateway, "client_1").await;
    lists(&mut socket, &[]).await;
    let document = json!({ "session_id": "s1", "query": "q", "status": "running", "agents_active": 1 });
    let held = json!({ "name": "s1", "ttl": "30s" });
    publish(document.clone(), held.clone()).await;
    lists(&mut socket, &[("s1", "running")]).await;
    publish(Value::Null, json!({ "name": "s1", "end": true })).await;
    lists(&mut socket, &[]).await;
    // Without a lease it leaves the list `session_ttl` after its last event.
    publish(document.clone(), Value::Null).await;
    lists(&mut socket, &[("s1", "running")]).await;
    let began = std::time::Instant::now();
    lists(&mut socket, &[]).await;
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_change_of_the_list_is_read_once_for_all_sockets() {
    const SOCKETS: usize = 100;
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let publisher = publisher(&redis).await;
    let mut sockets = Vec::new();
    for n in 0..SOCKETS {
        sockets.push(open(&gateway, &format!("client_{n}")).await);
        lists(&mut sockets[n], &[]).await;
    }
    // Each read of a channel's state scans its documents once.
    let before = commandstat(&redis, "hscan", "calls");
    assert!(before >= 1, "the counted command was never run");
    let session = publisher.session("s1").open("q");
    for socket in &mut sockets {
        lists(socket, &[("s1", "running")]).await;
    }
    let reads = commandstat(&redis, "hscan", "calls") - before;
    println!("{reads} reads for {SOCKETS} sockets");
    assert!((1..=10).contains(&reads), "{reads}");
    session.end("completed");
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_and_every_permitted_request_is_answered() {
    let gateway = gateway::memory(&[]).await;
    let mut socket = open(&gateway, "client_1").await;
    for _ in 0..70 {
        socket.send(&ask("get_session_state", "s1")).await;
        socket.send(r#"{"type":"pong"}"#).await;
    }
    let (mut answered, mut limited) = (0, 0);
    while answered + limited < 70 {
        match next(&mut socket, "error").await["code"].as_str() {
            Some("unknown_session") => answered += 1,
            Some("rate_limited") => limited += 1,
            other => panic!("{other:?}"),
        }
    }
    // One more request is permitted each second, so a slow test has a few more answers.
    assert!(answered >= 60 && limited >= 1, "{answered} answers, {limited} refusals");
    assert!(socket.is_quiet().await, "the socket stays open");
}

/// A client as users write it. Its process is killed when this is dropped.
struct Client {
    _process: Process,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn of(mut command: AsyncCommand) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("run `make test`, which installs Node and the Python environment");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, lines }
    }

    fn python(script: &str, arguments: &[&str]) -> Self {
        let mut python = AsyncCommand::new(std::env::var_os("TEST_PYTHON").expect("TEST_PYTHON: run `make test`"));
        let folder = root().join("tests/clients/tracking");
        python.arg(folder.join(script)).args(arguments);
        Self::of(python)
    }

    async fn line(&mut self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").unwrap()
    }

    async fn says(&mut self, expected: &str) {
        assert_eq!(self.line().await.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn clients_in_python_follow_a_session() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let publisher = publisher(&redis).await;
    let session = publisher.session("s1").open("How high?");
    session.log(LogLevel::Info, "planner", "first", None);
    session.update(|state| (state.current_phase, state.overall_progress) = ("research".to_owned(), 25.0));
    sent(&publisher).await;
    let jwt = token(json!({}));
    let urls = ["client_1_a", "client-2"].map(|client| gateway.ws(&format!("/ws/agent-tracking/{client}")));
    let mut panel = Client::python("panel.py", &[&urls[0], &jwt, "s1", "2"]);
    let mut follow = Client::python("follow.py", &[&urls[1], &jwt, "s1", "2"]);
    let mut said = [panel.line().await.unwrap(), panel.line().await.unwrap()];
    // The two lines come in any order.
    said.sort();
    assert_eq!(said, ["active 1 s1", "state research 25.0"]);
    for line in ["log info planner first", "state research 25.0"] {
        panel.says(line).await;
    }
    let mut said = [follow.line().await.unwrap(), follow.line().await.unwrap()];
    said.sort();
    assert_eq!(said, ["active 1", "log first"]);
    publisher.tracking("acme").agent_status(AgentStatus {
        agent_id: "a1".to_owned(),
        agent_name: "Researcher".to_owned(),
        status: Activity::Processing,
        progress: 65.5,
        message: "reads".to_owned(),
        metadata: StatusMetadata::default(),
    });
    panel.says("agent Researcher PROCESSING 65.5").await;
    session.log(LogLevel::Error, "writer", "second", None);
    panel.says("log error writer second").await;
    follow.says("log second").await;
    assert_eq!((panel.line().await, follow.line().await), (None, None));
    let mut stranger = Client::python("panel.py", &[&urls[0], &jwt, "nobodys", "1"]);
    let mut said = vec![stranger.line().await.unwrap()];
    said.extend(stranger.line().await);
    assert!(said.contains(&"error unknown_session".to_owned()), "{said:?}");
}

#[tokio::test]
async fn the_example_in_the_docs_shows_a_session() {
    const DOCUMENT: &str = include_str!("../../docs/protocols/tracking.md");
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let publisher = publisher(&redis).await;
    let session = publisher.session("s1").open("How high?");
    session.log(LogLevel::Info, "planner", "first", None);
    sent(&publisher).await;
    let example = DOCUMENT.split("```js\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let call = format!(
        "watch({:?}, {:?}, \"s1\", (line) => console.log(`${{line.agent}}: ${{line.message}}`));",
        gateway.ws(PATH),
        token(json!({}))
    );
    let mut node = AsyncCommand::new("node");
    node.args(["--experimental-websocket", "--eval", &format!("{example}{call}")]);
    let mut client = Client::of(node);
    client.says("planner: first").await;
    session.log(LogLevel::Info, "writer", "second", None);
    client.says("writer: second").await;
}
