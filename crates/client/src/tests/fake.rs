//! A fake gateway: the test scripts each connection. It works in memory, so that tests can pause the clock.
#![allow(clippy::result_large_err)] // the callback's error type is tungstenite's

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use tokio::{
    io::DuplexStream,
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::CloseFrame,
    },
};

use crate::{Client, ClientBuilder, Delivery, Subscription, client::Dial};

/// Longer than any timeout of the client.
const TIMEOUT: Duration = Duration::from_secs(600);

pub(super) struct FakeGateway {
    dialed: mpsc::Receiver<DuplexStream>,
    dials: mpsc::Sender<DuplexStream>,
    /// The number of coming connection attempts that fail.
    pub(super) down: Arc<AtomicU32>,
    /// The time of each attempt.
    pub(super) attempts: Arc<Attempts>,
}

#[derive(Default)]
pub(super) struct Attempts(Mutex<Vec<Instant>>);

impl Attempts {
    fn record(&self) {
        self.0.lock().unwrap().push(Instant::now());
    }

    pub(super) fn all(&self) -> Vec<Instant> {
        self.0.lock().unwrap().clone()
    }
}

/// The gateway's side of one socket.
pub(super) struct Peer {
    pub(super) uri: String,
    pub(super) protocol: Option<String>,
    pub(super) socket: WebSocketStream<DuplexStream>,
}

impl FakeGateway {
    pub(super) fn new() -> Self {
        let (dials, dialed) = mpsc::channel(64);
        Self { dialed, dials, down: Arc::default(), attempts: Arc::default() }
    }

    pub(super) fn builder(&self) -> ClientBuilder {
        let (dials, down, attempts) = (self.dials.clone(), self.down.clone(), self.attempts.clone());
        let dial: Dial = Arc::new(move |_, _| {
            attempts.record();
            let refused = down.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
            let dials = dials.clone();
            Box::pin(async move {
                if refused {
                    return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
                }
                let (ours, theirs) = tokio::io::duplex(4096);
                dials.send(theirs).await.map_err(io::Error::other)?;
                Ok(Box::new(ours) as Box<dyn crate::client::Io>)
            })
        });
        Client::builder("http://gateway").dial(dial)
    }

    pub(super) fn client(&self) -> Client {
        self.builder().token("jwt").build().unwrap()
    }

    /// Accepts and upgrades the next connection.
    pub(super) async fn accept(&mut self) -> Peer {
        let stream = timeout(TIMEOUT, self.dialed.recv()).await.expect("no client connected").unwrap();
        let mut uri = String::new();
        let mut protocol = None;
        let socket = accept_hdr_async(stream, |request: &Request, mut response: Response| {
            uri = request.uri().to_string();
            protocol = request.headers().get("sec-websocket-protocol").map(|v| v.to_str().unwrap().to_owned());
            if protocol.is_some() {
                response.headers_mut().insert("sec-websocket-protocol", "token".parse().unwrap());
            }
            Ok::<_, ErrorResponse>(response)
        })
        .await
        .unwrap();
        Peer { uri, protocol, socket }
    }

    /// Drops the next connection without an answer.
    pub(super) async fn forget(&mut self) {
        drop(timeout(TIMEOUT, self.dialed.recv()).await.expect("no client connected"));
    }

    /// Answers the next connection with an HTTP status instead of an upgrade.
    pub(super) async fn refuse(&mut self, status: u16) {
        let stream = timeout(TIMEOUT, self.dialed.recv()).await.expect("no client connected").unwrap();
        let refused = accept_hdr_async(stream, |_: &Request, _: Response| {
            let mut response = ErrorResponse::new(None);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            Err::<Response, _>(response)
        })
        .await;
        assert!(refused.is_err());
    }
}

impl Peer {
    pub(super) async fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    pub(super) async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
        self.socket.close(Some(frame)).await.unwrap();
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// The client's next frame, or `None` if the connection is gone.
    pub(super) async fn receive(&mut self) -> Option<Message> {
        timeout(TIMEOUT, self.socket.next()).await.expect("the client sends nothing").and_then(Result::ok)
    }
}

/// The next delivery.
pub(super) async fn next(subscription: &mut Subscription) -> Delivery {
    timeout(TIMEOUT, subscription.next()).await.expect("nothing delivered").expect("ended").expect("an error")
}

/// The next event's text. Skips reports about the connection.
pub(super) async fn event(subscription: &mut Subscription) -> String {
    loop {
        match next(subscription).await {
            Delivery::Event { event, .. } => return event.text().to_owned(),
            Delivery::Connected { .. } | Delivery::Disconnected { .. } => {}
            other => panic!("{other:?}, expected an event"),
        }
    }
}

/// Reads to the end and returns how the subscription ended.
pub(super) async fn end(subscription: &mut Subscription) -> Result<String, crate::ClientError> {
    let mut reason = None;
    while let Some(delivery) = timeout(TIMEOUT, subscription.next()).await.expect("no end") {
        if let Delivery::End { reason: text } = delivery? {
            reason = Some(text);
        }
    }
    Ok(reason.expect("ended without Delivery::End"))
}

/// How long `future` takes by the paused clock.
pub(super) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = future.await;
    (value, start.elapsed())
}
