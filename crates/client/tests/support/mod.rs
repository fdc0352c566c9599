//! A gateway of one socket at a time.

use std::time::Duration;

use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::handshake::server::{ErrorResponse, Request, Response},
};

/// How long anything may take before a test fails.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// Accepts one socket with the token `jwt`, and returns its path and query.
#[allow(clippy::result_large_err)] // the callback's error type is tungstenite's
pub(crate) async fn accept(listener: &TcpListener) -> (String, WebSocketStream<TcpStream>) {
    let (stream, _) = timeout(TIMEOUT, listener.accept()).await.unwrap().unwrap();
    let mut uri = String::new();
    let socket = accept_hdr_async(stream, |request: &Request, mut response: Response| {
        uri = request.uri().to_string();
        assert_eq!(request.headers()["sec-websocket-protocol"], "token, jwt");
        response.headers_mut().insert("sec-websocket-protocol", "token".parse().unwrap());
        Ok::<_, ErrorResponse>(response)
    })
    .await
    .unwrap();
    (uri, socket)
}
