//! A WebSocket client that shares no code with Crewcast.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        http::{HeaderValue, Response},
    },
};

use super::PATIENCE;

pub struct Socket {
    pub inner: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub response: Response<Option<Vec<u8>>>,
}

/// Connects as a browser does, with the token as a subprotocol.
pub async fn connect(url: &str, token: Option<&str>) -> Socket {
    let mut request = url.into_client_request().unwrap();
    if let Some(token) = token {
        let offered = HeaderValue::from_str(&format!("token, {token}")).unwrap();
        request.headers_mut().insert("sec-websocket-protocol", offered);
    }
    connect_with(request).await
}

/// Connects with a small receive buffer, so that the kernel holds little of what the test does not read.
pub async fn connect_narrow(url: &str, token: &str) -> Socket {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", format!("token, {token}").parse().unwrap());
    let tcp = TcpSocket::new_v4().unwrap();
    tcp.set_recv_buffer_size(16 << 10).unwrap();
    let stream = tcp.connect(request.uri().authority().unwrap().as_str().parse().unwrap()).await.unwrap();
    let (inner, response) = tokio_tungstenite::client_async(request, MaybeTlsStream::Plain(stream)).await.unwrap();
    Socket { inner, response }
}

/// The code and reason of the close frame.
#[derive(Debug)]
pub struct Ended(pub u16, pub String);

pub async fn connect_with(request: tokio_tungstenite::tungstenite::handshake::client::Request) -> Socket {
    let (inner, response) = tokio_tungstenite::connect_async(request).await.expect("the handshake succeeds");
    Socket { inner, response }
}

/// The HTTP status of a refused handshake.
pub async fn refused(url: &str, token: Option<&str>) -> u16 {
    let mut request = url.into_client_request().unwrap();
    if let Some(token) = token {
        let offered = HeaderValue::from_str(&format!("token, {token}")).unwrap();
        request.headers_mut().insert("sec-websocket-protocol", offered);
    }
    match tokio_tungstenite::connect_async(request).await {
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => response.status().as_u16(),
        other => panic!("not refused: {other:?}"),
    }
}

impl Socket {
    /// The next text message of any kind. Pings are skipped.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Some(Message::Text(text)) => text.to_string(),
            other => panic!("expected text, got {other:?}"),
        }
    }

    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// The next event. The gateway's own messages are skipped.
    pub async fn event(&mut self) -> Value {
        loop {
            let message = self.json().await;
            if message["source"] != "gateway" {
                return message;
            }
        }
    }

    /// Reads until the close frame and returns its code and reason.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Some(Message::Close(Some(frame))) => return (u16::from(frame.code), frame.reason.to_string()),
                Some(Message::Text(_)) => {}
                other => panic!("expected a close frame, got {other:?}"),
            }
        }
    }

    /// The next text message, or the close frame.
    pub async fn text_or_end(&mut self) -> Result<String, Ended> {
        match self.next().await {
            Some(Message::Text(text)) => Ok(text.to_string()),
            Some(Message::Close(Some(frame))) => Err(Ended(u16::from(frame.code), frame.reason.to_string())),
            other => panic!("expected text or a close frame, got {other:?}"),
        }
    }

    /// Whether nothing arrives for a moment.
    pub async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(200), self.inner.next()).await.is_err()
    }

    pub async fn send(&mut self, text: &str) {
        self.inner.send(Message::text(text)).await.unwrap();
    }

    /// Sends a message, unless the server has closed the socket.
    pub async fn try_send(&mut self, text: &str) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        self.inner.send(Message::text(text)).await
    }

    async fn next(&mut self) -> Option<Message> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.inner.next()).await.expect("a message in time");
            match next {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(error)) => panic!("the socket broke: {error}"),
                None => return None,
            }
        }
    }
}
