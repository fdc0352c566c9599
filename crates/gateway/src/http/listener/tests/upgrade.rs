//! WebSockets behind this listener, and behind axum's own.

use std::{
    future::poll_fn,
    io::{Read, Write},
    net::SocketAddr,
};

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
    routing::any,
};
use crewcast_websocket::{Message, Socket, check, take_stream, text_frame};
use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use hyper::upgrade::OnUpgrade;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{self, client::IntoClientRequest},
};
use tokio_util::sync::CancellationToken;

use crate::http::listener::{ListenOptions, serve};

const REQUEST: &str = "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive, UpGrade\r\nupgrade: WebSocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Echoes text on a socket until it ends.
async fn echo(mut request: Request) -> Response {
    let handshake = match check(request.headers(), request.method()) {
        Ok(handshake) => handshake,
        Err(error) => return error.into_response(),
    };
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>().unwrap();
    let select_token = request.headers().contains_key("sec-websocket-protocol");
    tokio::spawn(async move {
        let (stream, leftover) = take_stream(on_upgrade).await.unwrap();
        let mut socket = Socket::new(stream, 1000, leftover);
        while let Some(Ok(Message::Text(text))) = poll_fn(|cx| socket.poll_message(cx)).await {
            socket.queue(text_frame(text.as_bytes()));
            poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
        }
    });
    handshake.accept(select_token, None)
}

/// A server of [`echo`], by our listener or by axum's.
async fn start(ours: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/ws", any(echo));
    if ours {
        let options = ListenOptions { handshake: std::time::Duration::from_secs(10), trusted_proxies: vec![] };
        tokio::spawn(serve(listener, router, options, CancellationToken::new()));
    } else {
        tokio::spawn(async { axum::serve(listener, router).await });
    }
    address
}

/// A connection to such a server.
async fn connect(ours: bool) -> TcpStream {
    TcpStream::connect(start(ours).await).await.unwrap()
}

#[tokio::test]
async fn tungstenite_shakes_hands_and_talks() {
    for ours in [true, false] {
        let mut request = "ws://localhost/ws".into_client_request().unwrap();
        let offer = HeaderValue::from_static("token, a.jwt.here");
        request.headers_mut().insert("sec-websocket-protocol", offer);
        let (mut client, response) = client_async(request, connect(ours).await).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "token");
        client.send(tungstenite::Message::text("hello")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), tungstenite::Message::text("hello"));
    }
}

#[tokio::test]
async fn frames_behind_the_request_are_not_lost() {
    for ours in [true, false] {
        let mut client = connect(ours).await;
        let early = [REQUEST.as_bytes(), &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']].concat();
        client.write_all(&early).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n\x81\x02hi") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Its figure is that of one task per socket that does nothing but wait; a client here is a file descriptor only.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "measures: needs a process of its own and 8,000 file descriptors"]
async fn memory_of_an_idle_socket() {
    let address = start(true).await;
    let open = move |count: usize| {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            client.write_all(REQUEST.as_bytes()).unwrap();
            let (mut answer, mut byte) = (Vec::new(), [0]);
            while !answer.ends_with(b"\r\n\r\n") {
                client.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
            clients.push(client);
        }
        clients
    };
    let warm = tokio::task::spawn_blocking(move || open(1000)).await.unwrap();
    let before = resident();
    let clients = tokio::task::spawn_blocking(move || open(3000)).await.unwrap();
    let each = resident().saturating_sub(before) / clients.len();
    println!("{each} bytes per idle socket");
    assert!(each < 1500, "{each}");
    drop(warm);
}
