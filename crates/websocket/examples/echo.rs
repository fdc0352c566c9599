//! Answers each message with itself, over the same code as the gateway's sockets.
//!
//! The Autobahn test suite expects that of a server: `tests/autobahn.sh` runs it.

use std::future::poll_fn;

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use crewcast_websocket::{
    CloseCode, Compression, Message, Socket, check, deflate, pong_frame, take_stream, text_frame,
};
use tokio::net::TcpListener;

/// More than the 16 MiB of Autobahn's largest message.
const LIMIT: usize = 17 << 20;

/// Compresses every message that becomes smaller.
const COMPRESSION: Compression = Compression { threshold: 0, level: 5 };

async fn accept(mut request: Request) -> Response {
    let handshake = match check(request.headers(), request.method()) {
        Ok(handshake) => handshake,
        Err(error) => return error.into_response(),
    };
    let answer = deflate::agree(request.headers());
    let agreed = answer.as_ref().map(|answer| answer.agreed);
    let on_upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok((stream, leftover)) = take_stream(on_upgrade).await {
            echo(Socket::new(stream, LIMIT, leftover).with_deflate(agreed)).await;
        }
    });
    handshake.accept(false, answer.map(|answer| answer.header))
}

async fn echo(mut socket: Socket) {
    while let Some(message) = poll_fn(|cx| socket.poll_message(cx)).await {
        let answer = match message {
            Ok(Message::Text(text)) => frame_of(&text, &socket),
            Ok(Message::Ping(payload)) => pong_frame(&payload),
            Ok(Message::Pong(_)) => continue,
            Ok(Message::Close(_)) => return socket.close(CloseCode::Goodbye, CloseCode::Goodbye.reason()).await,
            Err(error) => return socket.close(error.close_code(), &error.to_string()).await,
        };
        socket.queue(answer);
        if poll_fn(|cx| socket.poll_flush(cx)).await.is_err() {
            return;
        }
    }
}

fn frame_of(text: &str, socket: &Socket) -> Bytes {
    let plain = text_frame(text.as_bytes());
    let may_compress = socket.agreed().is_some_and(|agreed| agreed.takes(text.len()));
    may_compress.then(|| COMPRESSION.compressed(&plain, &[])).flatten().unwrap_or(plain)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("ws://{}", listener.local_addr()?);
    axum::serve(listener, Router::new().fallback(accept)).await
}
