//! The commands and programs of the README, run as written. Only the addresses are replaced.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    command, eventually,
    gateway::{self, client},
    pages::Page,
    redis::{RedisServer, free_port},
    root,
    socket::{Socket, connect},
    terminal::Terminal,
    token::token,
};

fn readme() -> Page {
    Page::read("README.md")
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

/// The two ways of the table to publish from a shell, behind the registration that they need.
fn shell_producer() -> String {
    let readme = readme();
    ["EVENT=", "redis-cli PUBLISH", "crewcast publish"].map(|part| readme.block("sh", part)).concat()
}

#[tokio::test]
async fn events_of_the_shell_producer_arrive() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let terminal = Terminal::new(&redis);
    let script = shell_producer();
    terminal.run(&script).await;
    // The org now owns the crew that the script registers.
    let mut socket = connect(&gateway.ws("/ws/graph/abc"), Some(&token(json!({ "crews": "*" })))).await;
    joined(&mut socket, &redis, "graph:abc").await;
    let said = terminal.run(&script).await;
    let live = socket.text().await;
    let event: Value = serde_json::from_str(&live).unwrap();
    let written = live.replace(event["timestamp"].as_str().unwrap(), "'$(date -u +%FT%TZ)'");
    assert!(script.contains(&format!("'{written}'")), "not as written: {live}");
    let logged = socket.text().await;
    assert_is_logged(&logged, &live);
    let id = serde_json::from_str::<Value>(&logged).unwrap()["id"].as_str().unwrap().to_owned();
    assert!(said.out.ends_with(&id), "the id is not printed: {said:?}");
    assert_is_of_the_catalog(&serde_json::from_str(&live).unwrap());
    assert_is_of_the_catalog(&serde_json::from_str(&logged).unwrap());
    assert_is_what_the_table_shows(&live, &logged);
}

/// The same object with an id as its first field.
fn assert_is_logged(logged: &str, live: &str) {
    let rest = logged.strip_prefix(r#"{"id":""#).and_then(|rest| rest.split_once(r#"","#)).map(|(_, rest)| rest);
    assert_eq!(rest, live.strip_prefix('{'), "{logged}");
}

/// The row "the reader gets": each cell is the beginning of what came, with another id.
fn assert_is_what_the_table_shows(live: &str, logged: &str) {
    let shown = readme().blocks_of("text");
    let beginning = |shown: &str| shown.trim().trim_end_matches(" …}").to_owned();
    assert_eq!(shown.len(), 2);
    assert!(live.starts_with(&beginning(&shown[0])), "{live}");
    let shown = beginning(&shown[1]).replace("1-000000k3v9x0", logged.split('"').nth(3).unwrap());
    assert!(logged.starts_with(&shown), "{logged}");
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
    let script =
        ["import json", "publish(\"graph:abc\"", "mission:abc"].map(|part| readme().block("python", part)).concat();
    let script = changed(&script, "redis.Redis()", &format!("redis.Redis(port={})", redis.port));
    run(python().arg("-c").arg(script)).await;
    assert_eq!(mission.event().await["payload"], json!({ "status": "busy", "crewId": "abc" }));
    let event = graph.event().await;
    assert_eq!((&event["type"], &event["params"]), (&json!("tool_start"), &json!({ "q": "tides" })));
    assert!(event["id"].is_null(), "it is live: {event}");
    assert_is_of_the_catalog(&event);
}

#[tokio::test]
async fn events_of_the_python_producer_over_http_are_logged() {
    let gateway = gateway::memory(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let publisher = token(json!({ "publish": ["graph:*"] }));
    std::fs::write(folder.path().join("token.jwt"), publisher + "\n").unwrap();
    let script = ["import json", "urlopen"].map(|part| readme().block("python", part)).concat();
    let script = changed(&script, "http://127.0.0.1:8000", &gateway.url(""));
    run(python().arg("-c").arg(script).current_dir(folder.path())).await;
    let mut socket = connect(&gateway.ws("/ws/graph/abc?since=0"), Some(&token(json!({ "crews": "*" })))).await;
    let event = socket.event().await;
    assert_eq!((&event["type"], &event["params"]), (&json!("tool_start"), &json!({ "q": "tides" })));
    assert!(event["id"].is_string(), "it is logged: {event}");
    assert_is_of_the_catalog(&event);
}

/// A script with the test's address instead of the page's.
fn changed(script: &str, from: &str, to: &str) -> String {
    assert!(script.contains(from), "{from}: {script}");
    script.replace(from, to)
}

async fn run(command: &mut Command) -> command::Said {
    let said = command::run(command).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    said
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
    let readmes = readme().block("rust", "Publisher").replace("\"redis://127.0.0.1:6379\"", "url");
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

/// "Your Redis", except for the lines that build and install the program.
#[tokio::test]
async fn the_section_about_your_redis_works_as_written() {
    let redis = RedisServer::start();
    let mut terminal = Terminal::new(&redis);
    let block = readme().block("sh", "crewcast serve");
    let (building, script) = block.split_once("\n\n").unwrap();
    assert!(building.starts_with("make release"), "{building}");
    let script = changed(script, "redis://127.0.0.1:6379", &redis.url());
    let listen = format!("127.0.0.1:{}", free_port());
    terminal.set("CREWCAST_LISTEN", &listen);
    terminal.set("CREWCAST_ADMIN__LISTEN", "127.0.0.1:0");
    let mut session = terminal.start(&format!("{script}\nwait"));
    let mut checked = 0;
    let jwt = loop {
        let line = session.line().await.expect("a token");
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
    terminal.run(&shell_producer()).await;
    let mut socket = connect(&format!("ws://{listen}/ws/graph/abc?since=0"), Some(&jwt)).await;
    assert_eq!(socket.event().await["type"], "tool_start");
    let body = json!({ "channel": "run:r1", "event": { "type": "boot", "inputs": {} } });
    let answer = client().post(format!("http://{listen}/api/v1/publish")).bearer_auth(&jwt).json(&body).send().await;
    assert_eq!(answer.unwrap().status(), 200);
}

/// `make run` is `crewcast dev`, which dev.rs tests.
#[test]
fn its_make_targets_exist() {
    let (makefile, readme) = (std::fs::read_to_string(root().join("Makefile")).unwrap(), readme());
    for target in ["run", "release", "test", "site"] {
        assert!(makefile.contains(&format!("\n{target}: ")), "{target}");
        assert!(readme.text.contains(&format!("make {target}")), "{target}");
    }
}

/// Two blocks are not run here: the one that clones and starts `make run`, and the lines that build the program.
#[test]
fn every_block_has_a_test() {
    let counted = |language: &str| readme().blocks_of(language).len();
    let counts = ["sh", "python", "rust", "text"].map(counted);
    assert_eq!(counts, [5, 4, 1, 2], "a new block needs a test in this file");
    assert_eq!(readme().blocks().len(), counts.iter().sum::<usize>());
}
