//! The first screens of the README, run as written. Only the addresses are replaced.

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Stdio,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::support::{
    PATIENCE, command, crewcast_binary, eventually,
    gateway::{self, client},
    redis::{RedisServer, free_port},
    root,
    socket::{Socket, connect},
    token::token,
};

const README: &str = include_str!("../../README.md");

/// The code blocks in one language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    README.split(&opening as &str).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The only block in this language that contains `part`.
fn block(language: &str, part: &str) -> &'static str {
    let mut found = blocks(language).into_iter().filter(|block| block.contains(part));
    let block = found.next().unwrap_or_else(|| panic!("the README has no {language} block with {part}"));
    assert!(found.next().is_none(), "the README has two {language} blocks with {part}");
    block
}

/// A folder for `PATH` with the `crewcast` under test and a `redis-cli` for the test's Redis.
fn programs(redis: &RedisServer) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    symlink(crewcast_binary(), folder.path().join("crewcast")).unwrap();
    let real = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join("redis-cli"))
        .find(|program| program.exists())
        .expect("redis-cli is needed: run `make test`, which installs it with redis-server");
    let wrapper = folder.path().join("redis-cli");
    let script = format!("#!/bin/sh\nexec '{}' -p {} \"$@\"\n", real.display(), redis.port);
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn shell(script: &str, folder: &Path, redis: &RedisServer) -> Command {
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-eu", "-c", script]).env_clear().env("PATH", path).env("CREWCAST_REDIS_URL", redis.url());
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    shell
}

async fn run(command: &mut Command) -> command::Said {
    let said = command::run(command).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    said
}

/// Publishes until the socket receives one, then reads all of them.
async fn joined(socket: &mut Socket, redis: &RedisServer, channel: &str) {
    redis.publish(channel, br#"{"type":"knock"}"#);
    while socket.is_quiet().await {
        redis.publish(channel, br#"{"type":"knock"}"#);
    }
    redis.publish(channel, br#"{"type":"enter"}"#);
    while socket.event().await["type"] != "enter" {}
}

#[tokio::test]
async fn events_of_the_shell_producer_arrive() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let programs = programs(&redis);
    let script = block("sh", "redis-cli PUBLISH");
    run(&mut shell(script, programs.path(), &redis)).await;
    // The org now owns the crew that the script registers.
    let mut socket = connect(&gateway.ws("/ws/graph/abc"), Some(&token(json!({ "crews": "*" })))).await;
    joined(&mut socket, &redis, "graph:abc").await;
    let said = run(&mut shell(script, programs.path(), &redis)).await;
    let live = socket.text().await;
    assert!(script.contains(&format!("'{live}'")), "not as written: {live}");
    let logged = socket.event().await;
    assert_eq!((&logged["type"], &logged["tool"]), (&json!("tool_end"), &json!("search")));
    assert!(said.out.ends_with(logged["id"].as_str().unwrap()), "the id is not printed: {said:?}");
    assert_is_of_the_catalog(&serde_json::from_str(&live).unwrap());
    assert_is_of_the_catalog(&logged);
}

#[tokio::test]
async fn events_of_the_python_producer_arrive() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let jwt = token(json!({ "crews": ["abc"] }));
    let mut graph = connect(&gateway.ws("/ws/graph/abc"), Some(&jwt)).await;
    let mut mission = connect(&gateway.ws("/ws/mission"), Some(&jwt)).await;
    assert_eq!(mission.event().await["payload"]["status"], "offline");
    joined(&mut graph, &redis, "graph:abc").await;
    let script = block("python", "import json, redis");
    let address = "redis.Redis()";
    assert!(script.contains(address));
    let script = script.replace(address, &format!("redis.Redis(port={})", redis.port));
    run(python().arg("-c").arg(script)).await;
    assert_eq!(mission.event().await["payload"], json!({ "status": "busy", "crewId": "abc" }));
    let event = graph.event().await;
    assert_eq!((&event["type"], &event["params"]), (&json!("tool_start"), &json!({ "q": "tides" })));
    assert_is_of_the_catalog(&event);
}

fn python() -> Command {
    const SETUP: &str = "run `make test`, or tests/setup.sh and set TEST_PYTHON to target/venv/bin/python";
    let mut python =
        Command::new(std::env::var_os("TEST_PYTHON").unwrap_or_else(|| panic!("TEST_PYTHON is not set: {SETUP}")));
    python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    python
}

fn assert_is_of_the_catalog(event: &Value) {
    serde_json::from_value::<crewcast_events::catalog::tool::ToolKind>(event.clone())
        .unwrap_or_else(|error| panic!("{error}: {event}"));
}

/// The Rust producer of the README. [`the_rust_producer_is_the_one_in_the_readme`] compares the two.
#[rustfmt::skip]
async fn rust_producer(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    // README
    use std::time::Duration;
    use crewcast_publisher::{Outcome, Publisher};
    use serde_json::json;

    let publisher = Publisher::builder().org("acme").connect(url).await?;
    let call = publisher.tools("abc", "r1", "coder").start("search", &json!({"q": "tides"}));
    call.progress("3 of 10 pages", Some(0.3));
    call.end(0, Outcome::Success); // or drop it
    publisher.close(Duration::from_secs(5)).await;
    // README
    Ok(())
}

/// The words of a text, without its layout.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[test]
fn the_rust_producer_is_the_one_in_the_readme() {
    let ours = include_str!("readme.rs").split("    // README\n").nth(1).unwrap();
    let readmes = block("rust", "Publisher").replace("\"redis://127.0.0.1:6379\"", "url");
    assert_eq!(words(ours), words(&readmes));
}

#[tokio::test]
async fn events_of_the_rust_producer_arrive() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    rust_producer(&redis.url()).await.unwrap();
    // The publisher registers the crew and logs the events, so a later reader gets them all.
    let mut socket = connect(&gateway.ws("/ws/graph/abc?since=0"), Some(&token(json!({ "crews": "*" })))).await;
    for (kind, field, value) in [
        ("tool_start", "params", json!({ "q": "tides" })),
        ("tool_progress", "progress", json!(0.3)),
        ("tool_end", "status", json!("success")),
    ] {
        let event = socket.event().await;
        assert_eq!((&event["type"], &event[field]), (&json!(kind), &value), "{event}");
        assert!(event["id"].is_string(), "{event}");
        assert_is_of_the_catalog(&event);
    }
}

/// A shell and its background processes.
struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(pid) = self.0.id() {
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{pid}")]).status();
        }
    }
}

/// "With your Redis", except for the lines that build and install the program.
#[tokio::test]
async fn the_section_about_your_redis_works_as_written() {
    let redis = RedisServer::start();
    let programs = programs(&redis);
    let (building, script) = block("sh", "crewcast serve").split_once("\n\n").unwrap();
    assert!(building.starts_with("make release"), "{building}");
    let address = "redis://127.0.0.1:6379";
    assert!(script.contains(address));
    let script = format!("{}\nwait", script.replace(address, &redis.url()));
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = shell(&script, programs.path(), &redis);
    command.env("CREWCAST_LISTEN", &listen).env("CREWCAST_ADMIN__LISTEN", "127.0.0.1:0");
    command.process_group(0).stderr(Stdio::null());
    let mut session = Session(command.spawn().unwrap());
    let mut lines = BufReader::new(session.0.stdout.take().unwrap()).lines();
    let mut checked = 0;
    let jwt = loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a token in time").unwrap();
        let line = line.expect("a token");
        checked += usize::from(line.starts_with("ok "));
        assert!(!line.contains("WRONG"), "{line}");
        if line.matches('.').count() == 2 && line.starts_with("eyJ") {
            break line;
        }
    };
    assert!(checked > 3, "`crewcast check` printed too few findings");
    eventually("the gateway answers", || async {
        client().get(format!("http://{listen}/health")).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let page = client().get(format!("http://{listen}/ws/client")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    // The token can read and publish, as the README says.
    run(&mut shell(block("sh", "redis-cli PUBLISH"), programs.path(), &redis)).await;
    let mut socket = connect(&format!("ws://{listen}/ws/graph/abc?since=0"), Some(&jwt)).await;
    assert_eq!(socket.event().await["type"], "tool_end");
    let body = json!({ "channel": "run:r1", "event": { "type": "boot", "inputs": {} } });
    let answer = client().post(format!("http://{listen}/api/v1/publish")).bearer_auth(&jwt).json(&body).send().await;
    assert_eq!(answer.unwrap().status(), 200);
}

/// `make run` is `crewcast dev`, which dev.rs tests.
#[test]
fn its_make_targets_and_links_exist() {
    let makefile = include_str!("../../Makefile");
    for target in ["run", "release", "test"] {
        assert!(makefile.contains(&format!("\n{target}: ")), "{target}");
        assert!(README.contains(&format!("make {target}")), "{target}");
    }
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with("http")) {
        assert!(root().join(link.split('#').next().unwrap()).exists(), "{link}");
    }
}
