//! Commands that need no Redis, and `tail` against a fake gateway.

use std::{process::Stdio, time::Duration};

use crate::support::{Finished, crewcast, run};
use futures_util::{SinkExt, StreamExt};
use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::CloseFrame,
    },
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const TIMEOUT: Duration = Duration::from_secs(60);

fn keyed(arguments: &[&str], input: &str) -> Finished {
    run(crewcast(arguments).env("CREWCAST_AUTH__HS256_SECRET", SECRET), input)
}

#[test]
fn a_minted_token_can_be_checked() {
    let minted = keyed(&["token", "--sub", "u1", "--org", "acme", "--crews", "*", "--jti", "j1", "--ttl", "5m"], "");
    assert_eq!(minted.code, Some(0), "{minted:?}");
    assert!(minted.err.contains("revoke --jti j1"), "{minted:?}");
    for output in [keyed(&["token", "check", &minted.out], ""), keyed(&["token", "check", "-"], &minted.out)] {
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(output.out.contains("sub u1") && output.out.contains("every one of acme"), "{output:?}");
    }
    let other = run(
        crewcast(&["token", "check", &minted.out]).env("CREWCAST_AUTH__HS256_SECRET", SECRET.replace('0', "9")),
        "",
    );
    assert!(
        other.code == Some(1) && other.err.contains("bad signature: the token was signed with another key"),
        "{other:?}"
    );
    assert!(!other.err.contains(&minted.out));
}

#[test]
fn usage_and_configuration_errors_exit_with_2() {
    let minted = run(&mut crewcast(&["token", "--sub", "u1"]), "");
    assert_eq!(minted.code, Some(2));
    assert!(minted.err.contains("CREWCAST_AUTH__HS256_SECRET"), "{minted:?}");
    for arguments in [&["publish"][..], &["config", "--set", "lisen=x"], &["config", "--config", "/does/not/exist"]] {
        let output = run(&mut crewcast(arguments), "");
        assert_eq!(output.code, Some(2), "{output:?}");
    }
    let http = run(&mut crewcast(&["publish", "graph:a", "{\"type\":\"x\"}", "--gateway", "http://127.0.0.1:1"]), "");
    assert_eq!(http.code, Some(2), "no token: {http:?}");
    let memory = run(crewcast(&["publish", "graph:a", "{}"]).env("CREWCAST_BROKER__KIND", "memory"), "");
    assert_eq!(memory.code, Some(2));
    assert!(memory.err.contains("--gateway"), "{memory:?}");
}

#[test]
fn secrets_are_never_printed() {
    let config = keyed(&["config", "--set", "broker.url=redis://u:hunter2@h"], "");
    assert_eq!(config.code, Some(0), "{config:?}");
    assert!(config.out.contains("CREWCAST_AUTH__HS256_SECRET"), "its source: {config:?}");
    assert!(!config.out.contains(SECRET) && !config.out.contains("hunter2"), "{config:?}");
    let help = run(crewcast(&["tail", "--help"]).env("CREWCAST_TOKEN", "hunter2"), "");
    assert!(help.out.contains("CREWCAST_TOKEN") && !help.out.contains("hunter2"), "{help:?}");
    assert_eq!(run(&mut crewcast(&["config", "--default"]), "").code, Some(0));
}

/// Serves one connection: sends these messages, closes with this code, and returns the request's URI.
#[allow(clippy::result_large_err)] // the callback's error type is tungstenite's
async fn serve(listener: &TcpListener, frames: &[&str], code: u16) -> String {
    let (stream, _) = timeout(TIMEOUT, listener.accept()).await.unwrap().unwrap();
    let mut uri = String::new();
    let mut socket = accept_hdr_async(stream, |request: &Request, mut response: Response| {
        uri = request.uri().to_string();
        assert_eq!(request.headers()["sec-websocket-protocol"], "token, jwt");
        response.headers_mut().insert("sec-websocket-protocol", "token".parse().unwrap());
        Ok::<_, ErrorResponse>(response)
    })
    .await
    .unwrap();
    for frame in frames {
        socket.send(Message::text(*frame)).await.unwrap();
    }
    socket.close(Some(CloseFrame { code: code.into(), reason: "because".into() })).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    uri
}

fn tail(gateway: &str, arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::from(crewcast(&[&["tail"], arguments].concat()));
    command.env("CREWCAST_TOKEN", "jwt").env("CREWCAST_URL", gateway);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn tail_resumes_and_ends_with_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    let child = tail(&gateway, &["run:r1", "--json"]).spawn().unwrap();
    let first = r#"{"id":"1-000000aaaaaa","type":"boot","n":1.50}"#;
    let second = r#"{"id":"2-aaaaaabbbbbb","type":"done"}"#;
    let reset = r#"{"type":"reset","source":"gateway","channel":"run:r1","reason":"trimmed","from":null}"#;
    assert_eq!(serve(&listener, &[first], 1011).await, "/ws/runs/r1");
    assert_eq!(serve(&listener, &[reset, second], 1000).await, "/ws/runs/r1?since=1-000000aaaaaa");
    let output = Finished::from(timeout(TIMEOUT, child.wait_with_output()).await.unwrap().unwrap());
    assert_eq!((output.code, output.out), (Some(0), format!("{first}\n{second}")));
    assert!(
        output.err.contains("closed by the gateway (1011)") && output.err.contains("some events were missed"),
        "{}",
        output.err
    );
}

#[tokio::test]
async fn tail_says_why_it_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    let child = tail(&gateway, &["graph:abc"]).spawn().unwrap();
    serve(&listener, &[], 4403).await;
    let output = Finished::from(timeout(TIMEOUT, child.wait_with_output()).await.unwrap().unwrap());
    assert_eq!(output.code, Some(1));
    assert!(
        output.err.contains("refused (4403): because") && output.err.contains("crewcast token check"),
        "{output:?}"
    );
}

#[tokio::test]
async fn tail_follows_several_channels_over_one_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    let child = tail(&gateway, &["mission:abc", "hub:acme"]).spawn().unwrap();
    let event =
        |channel: &str, event: &str| format!(r#"{{"type":"event","channel":"{channel}","id":null,"event":{event}}}"#);
    let signal = event("mission:abc", r#"{"type":"signal","payload":{"status":"busy","crewId":"abc"}}"#);
    let uri = serve(&listener, &[&signal, &event("hub:acme", r#"{"type":"task_completed"}"#)], 1000).await;
    assert_eq!(uri, "/ws/stream");
    let output = Finished::from(timeout(TIMEOUT, child.wait_with_output()).await.unwrap().unwrap());
    let lines: Vec<&str> = output.out.lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with("mission:abc signal busy"), "{output:?}");
    assert!(lines[1].ends_with("hub:acme task_completed"), "{output:?}");
}

#[tokio::test]
async fn an_interrupted_tail_prints_its_position() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    let mut child = tail(&gateway, &["graph:abc"]).spawn().unwrap();
    let event = r#"{"type":"event","channel":"graph:abc","id":"1-000000aaaaaa","event":{"type":"boot"}}"#;
    serve(&listener, &[event], 1013).await;
    // Once the event is printed, the last id is known.
    let mut out = child.stdout.take().unwrap();
    let mut first = [0; 1];
    timeout(TIMEOUT, out.read_exact(&mut first)).await.unwrap().unwrap();
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = Finished::from(timeout(TIMEOUT, child.wait_with_output()).await.unwrap().unwrap());
    assert_eq!(output.code, Some(130), "{output:?}");
    assert!(output.err.contains("--since 1-000000aaaaaa"), "{output:?}");
}
