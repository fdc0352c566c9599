//! The programs in `examples/`, against a gateway of a few lines.

use std::path::Path;

use crewcast_client::Client;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::support::{TIMEOUT, accept};

#[path = "../examples/stream.rs"]
#[allow(dead_code)]
mod stream;
mod support;
#[path = "../examples/watch.rs"]
#[allow(dead_code)]
mod watch;

async fn listen() -> (TcpListener, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    (listener, Client::builder(gateway).token("jwt").build().unwrap())
}

async fn close(mut socket: WebSocketStream<TcpStream>, code: CloseCode) {
    socket.close(Some(CloseFrame { code, reason: "run completed".into() })).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}

#[tokio::test]
async fn watch_prints_a_run_until_it_ends() {
    let (listener, client) = listen().await;
    let (first, second) = (r#"{"id":"1-000000aaaaaa","type":"boot"}"#, r#"{"id":"2-aaaaaabbbbbb","type":"done"}"#);
    let server = tokio::spawn(async move {
        let (uri, mut socket) = accept(&listener).await;
        assert_eq!(uri, "/ws/runs/r1");
        socket.send(Message::text(first)).await.unwrap();
        drop(socket);
        let (uri, mut socket) = accept(&listener).await;
        assert_eq!(uri, "/ws/runs/r1?since=1-000000aaaaaa");
        socket.send(Message::text(second)).await.unwrap();
        close(socket, CloseCode::Normal).await;
    });
    let mut printed = Vec::new();
    timeout(TIMEOUT, watch::watch(&client, "r1", |event| printed.push(event.to_owned()))).await.unwrap().unwrap();
    assert_eq!(printed, [first, second]);
    server.await.unwrap();
}

/// Serves one process of `stream`: answers its `subscribe`, which must name `since`, and sends one event.
async fn serve_once(listener: &TcpListener, since: &str, id: &str) {
    let (_, mut socket) = accept(listener).await;
    let Some(Ok(Message::Text(text))) = socket.next().await else { panic!("a message") };
    let asked: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((asked["channel"].as_str(), asked["since"].as_str()), (Some("graph:abc"), Some(since)));
    let event = format!(r#"{{"type":"event","channel":"graph:abc","id":"{id}","event":{{"type":"x"}}}}"#);
    socket.send(Message::text(event)).await.unwrap();
    // The example ends with a code that rules out another attempt.
    close(socket, CloseCode::Policy).await;
}

async fn follow(client: &Client, file: &Path) -> Vec<String> {
    let mut printed = Vec::new();
    let channels = vec!["graph:abc".parse().unwrap()];
    let ended = stream::follow(client, channels, file, |channel, event| printed.push(format!("{channel} {event}")));
    let ended = timeout(TIMEOUT, ended).await.unwrap();
    assert!(ended.unwrap_err().to_string().contains("1008"));
    printed
}

#[tokio::test]
async fn stream_goes_on_where_the_last_process_stopped() {
    let (listener, client) = listen().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("positions.json");
    for (since, id) in [("0", "1-000000aaaaaa"), ("1-000000aaaaaa", "2-aaaaaabbbbbb")] {
        let (printed, ()) = tokio::join!(follow(&client, &file), serve_once(&listener, since, id));
        assert_eq!(printed.len(), 1);
        assert!(printed[0].starts_with("graph:abc {"), "{printed:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!(r#"{{"graph:abc":"{id}"}}"#));
    }
}
