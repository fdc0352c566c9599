use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use axum::{Router, extract::Request, routing::any};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{self, client::IntoClientRequest},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{ListenOptions, Message, Socket, serve, text_frame};

const REQUEST: [(&str, &str); 4] = [
    ("connection", "keep-alive, UpGrade"),
    ("upgrade", "WebSocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// The valid request with some headers replaced; an empty value removes a header.
fn headers(changes: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in REQUEST.iter().chain(changes) {
        if value.is_empty() {
            headers.remove(*name);
        } else {
            headers.insert(*name, HeaderValue::from_static(value));
        }
    }
    headers
}

#[test]
fn the_example_of_the_rfc_is_accepted() {
    let response = check(&headers(&[]), &Method::GET).unwrap().accept(false, None);
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert_eq!(response.headers()["connection"], "upgrade");
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
    let response = check(&headers(&[]), &Method::GET).unwrap().accept(true, None);
    assert_eq!(response.headers()["sec-websocket-protocol"], "token");
    assert!(!response.headers().contains_key("sec-websocket-extensions"));
    let extensions = Some(HeaderValue::from_static("permessage-deflate"));
    let response = check(&headers(&[]), &Method::GET).unwrap().accept(false, extensions);
    assert_eq!(response.headers()["sec-websocket-extensions"], "permessage-deflate");
}

#[tokio::test]
async fn every_refusal_has_a_status_and_names_the_remedy() {
    use HandshakeError::{Key, NotAnUpgrade, Version};
    for (changes, error, status, hint) in [
        ([("upgrade", "")], NotAnUpgrade, 426, Some(("upgrade", "websocket"))),
        ([("upgrade", "h2c")], NotAnUpgrade, 426, Some(("upgrade", "websocket"))),
        ([("connection", "")], NotAnUpgrade, 426, Some(("upgrade", "websocket"))),
        ([("connection", "keep-alive")], NotAnUpgrade, 426, Some(("upgrade", "websocket"))),
        ([("sec-websocket-version", "")], Version, 426, Some(("sec-websocket-version", "13"))),
        ([("sec-websocket-version", "8")], Version, 426, Some(("sec-websocket-version", "13"))),
        ([("sec-websocket-key", "")], Key, 400, None),
        ([("sec-websocket-key", "short")], Key, 400, None),
        ([("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAA")], Key, 400, None),
        ([("sec-websocket-key", "!!!!!!!!!!!!!!!!!!!!!!==")], Key, 400, None),
    ] {
        assert_eq!(check(&headers(&changes), &Method::GET), Err(error), "{changes:?}");
        assert_refused(error, status, hint).await;
    }
    assert_eq!(check(&headers(&[]), &Method::POST), Err(HandshakeError::Method));
    assert_refused(HandshakeError::Method, 405, Some(("allow", "GET"))).await;
    let mut doubled = headers(&[]);
    doubled.append("sec-websocket-key", HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="));
    assert_eq!(check(&doubled, &Method::GET), Err(Key));
}

async fn assert_refused(error: HandshakeError, status: u16, hint: Option<(&str, &str)>) {
    let response = error.into_response();
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    if let Some((name, value)) = hint {
        assert_eq!(response.headers()[name], value);
    }
    let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (problem["status"].as_u64(), problem["detail"].as_str()),
        (Some(status.into()), Some(&*error.to_string()))
    );
}

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
        while let Some(Ok(Message::Text(text))) = std::future::poll_fn(|cx| socket.poll_message(cx)).await {
            socket.queue(text_frame(text.as_bytes()));
            std::future::poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
        }
    });
    handshake.accept(select_token, None)
}

/// A server of [`echo`], on the gateway's listener or on axum's.
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

/// The bytes of [`REQUEST`].
fn request() -> String {
    let headers: String = REQUEST.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET /ws HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")
}

#[tokio::test]
async fn tungstenite_completes_the_handshake_and_exchanges_messages() {
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
        let early = [request().as_bytes(), &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']].concat();
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

/// Measures one idle task per socket; a client here is only a file descriptor.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "measures: needs a process of its own and 8,000 file descriptors"]
async fn memory_of_an_idle_socket() {
    let address = start(true).await;
    let open = move |count: usize| {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            client.write_all(request().as_bytes()).unwrap();
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
