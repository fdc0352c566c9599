//! The console and the browser's own WebSocket, in a real Chromium. This file starts the gateways, and
//! tests/browser/scenarios.js drives the browser. One browser runs at a time, because each takes a core.

use std::process::Stdio;

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::Mutex,
};

use crate::support::{
    PATIENCE, crewcast_binary,
    gateway::{self, Gateway},
    redis::free_port,
    root,
    token::{SECRET, token},
};

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// `crewcast dev` with its simulated crews.
struct Dev {
    process: Child,
    port: u16,
    token: String,
}

impl Dev {
    /// Starts on this port, or on a free one for 0. The crews work four times as fast as usual.
    async fn start(port: u16) -> Self {
        let mut process = Command::new(crewcast_binary())
            .args(["dev", "--speed", "4"])
            .env_clear()
            .env("CREWCAST_LISTEN", format!("127.0.0.1:{port}"))
            .env("CREWCAST_ADMIN__LISTEN", "127.0.0.1:0")
            .env("CREWCAST_AUTH__HS256_SECRET", SECRET)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut banner = BufReader::new(process.stdout.take().unwrap()).lines();
        let console = loop {
            let line = tokio::time::timeout(PATIENCE, banner.next_line()).await.expect("a banner in time");
            let line = line.unwrap().expect("dev prints where the console is");
            if let Some(url) = line.trim().strip_prefix("Console") {
                break url.trim().to_owned();
            }
        };
        // The rest of the banner fits into the pipe, and `dev` writes nothing later.
        let (address, token) = console.split_once("/ws/client#token=").expect("the console's address holds a token");
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        Self { process, port, token: token.to_owned() }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Sends SIGTERM and waits for the exit after the drain.
    async fn drain(&mut self) {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("it ends").unwrap();
        assert!(status.success(), "{status}");
    }
}

fn node(scenario: &str, environment: &[(&str, &str)]) -> Command {
    let folder = root().join("tests/browser");
    assert!(folder.join("node_modules/playwright-core").exists(), "run `make test`, or `npm ci` in tests/browser");
    let mut command = Command::new("node");
    command.current_dir(folder).args(["run.js", scenario]).envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn play(scenario: &str, environment: &[(&str, &str)]) {
    let output = node(scenario, environment).output().await.expect("node is needed: run `make test`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A token for crew `abc` and run `r1` that may publish.
fn reader() -> String {
    token(json!({ "crews": ["abc"], "runs": ["r1"], "publish": ["graph:abc", "mission:abc", "run:r1"] }))
}

async fn play_on(gateway: &Gateway, scenario: &str, environment: &[(&str, &str)]) {
    let (url, token) = (gateway.url(""), reader());
    let mut all = vec![("GATEWAY", url.as_str()), ("TOKEN", token.as_str())];
    all.extend_from_slice(environment);
    play(scenario, &all).await;
}

#[tokio::test]
async fn the_console_shows_a_crew_at_work_and_keeps_the_token_to_itself() {
    let _one = ONE_AT_A_TIME.lock().await;
    let dev = Dev::start(0).await;
    play("console_at_work", &[("GATEWAY", &dev.url()), ("TOKEN", &dev.token)]).await;
}

#[tokio::test]
async fn the_console_works_with_the_keyboard_alone() {
    let _one = ONE_AT_A_TIME.lock().await;
    let dev = Dev::start(0).await;
    play("keyboard", &[("GATEWAY", &dev.url()), ("TOKEN", &dev.token)]).await;
}

#[tokio::test]
async fn the_console_explains_that_a_token_is_invalid() {
    let _one = ONE_AT_A_TIME.lock().await;
    play_on(&gateway::memory(&[]).await, "bad_token", &[]).await;
}

#[tokio::test]
async fn producer_text_is_displayed_and_never_executed() {
    let _one = ONE_AT_A_TIME.lock().await;
    play_on(&gateway::memory(&[]).await, "markup_is_text", &[]).await;
}

#[tokio::test]
async fn the_console_pairs_the_events_of_parallel_calls() {
    let _one = ONE_AT_A_TIME.lock().await;
    play_on(&gateway::memory(&[]).await, "parallel_calls", &[]).await;
}

#[tokio::test]
async fn the_console_reconnects_after_a_kill_and_after_a_drain() {
    let _one = ONE_AT_A_TIME.lock().await;
    // A fixed port, so that the next gateway has the same address.
    let mut dev = Dev::start(free_port()).await;
    let mut browser =
        node("gateway_restarts", &[("GATEWAY", &dev.url()), ("TOKEN", &dev.token)]).spawn().expect("node is needed");
    let mut asked = BufReader::new(browser.stdout.take().unwrap()).lines();
    let mut answers = browser.stdin.take().unwrap();
    while let Some(line) = asked.next_line().await.unwrap() {
        match line.as_str() {
            "kill" => dev.kill().await,
            "start" => dev = Dev::start(dev.port).await,
            "drain" => {
                dev.drain().await;
                dev = Dev::start(dev.port).await;
            }
            other => panic!("asked for {other:?}"),
        }
        answers.write_all(b"done\n").await.unwrap();
    }
    let output = browser.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_browsers_own_websocket_sees_the_subprotocol_and_every_refusal() {
    let _one = ONE_AT_A_TIME.lock().await;
    play_on(&gateway::memory(&[]).await, "own_websocket", &[]).await;
}

#[tokio::test]
async fn a_page_on_another_port_works_with_one_configured_line() {
    let _one = ONE_AT_A_TIME.lock().await;
    let listed = gateway::memory(&[("CREWCAST_ALLOWED_ORIGINS", "http://127.0.0.1:*")]).await;
    play_on(&listed, "another_port", &[]).await;
}

#[tokio::test]
async fn a_page_on_another_port_works_with_crewcast_dev() {
    let _one = ONE_AT_A_TIME.lock().await;
    let dev = Dev::start(0).await;
    let url = dev.url();
    play("another_port", &[("GATEWAY", url.as_str()), ("TOKEN", &reader())]).await;
}

#[tokio::test]
async fn a_page_from_a_foreign_origin_is_refused_when_origins_are_listed() {
    let _one = ONE_AT_A_TIME.lock().await;
    let listed = gateway::memory(&[("CREWCAST_AUTH__ALLOWED_ORIGINS", "https://app.example.com")]).await;
    let open = gateway::memory(&[]).await;
    play_on(&listed, "foreign_origin", &[("OPEN_GATEWAY", &open.url(""))]).await;
    assert!(listed.metric("crewcast_handshakes_refused_total", "reason=\"origin\"").await >= 1.0);
}

#[tokio::test]
async fn two_pages_and_a_strict_mode_double_socket_share_a_client_id() {
    let _one = ONE_AT_A_TIME.lock().await;
    let gateway = gateway::memory(&[("CREWCAST_AUTH__ANONYMOUS", r#"{"org":"acme"}"#)]).await;
    play_on(&gateway, "one_client_id", &[]).await;
}
