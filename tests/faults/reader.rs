//! A reader of one channel that always resumes, and what it received.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crewcast_client::{Client, Cut, Delivery, Start, Subscription};
use crewcast_events::{Event, EventId};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::{support::token::token, verdict::Ledger};

/// What a reader has received so far.
#[derive(Default)]
pub(crate) struct Seen {
    pub ledger: Ledger,
    pub events: usize,
    pub last_id: Option<EventId>,
    /// The reason of each `reset`.
    pub resets: Vec<String>,
    /// How often the gateway reported that the broker is down.
    pub broker_down: usize,
    /// When each socket was opened.
    pub connected: Vec<Instant>,
    /// The close code of each socket that ended, or `None` if it ended without a close frame.
    pub cuts: Vec<Option<u16>>,
    /// The longest time between two events.
    pub silence: Duration,
    heard: Option<Instant>,
}

impl Seen {
    fn event(&mut self, event: &Event) {
        let body: Value = serde_json::from_str(event.text()).unwrap();
        self.ledger.event(body["n"].as_u64().unwrap_or_else(|| panic!("not an event of the producer: {body}")));
        self.events += 1;
        self.last_id = event.id();
        let now = Instant::now();
        if let Some(before) = self.heard.replace(now) {
            self.silence = self.silence.max(now - before);
        }
    }

    fn connected(&mut self) {
        self.connected.push(Instant::now());
    }

    fn reset(&mut self, reason: &str) {
        self.ledger.reset();
        self.resets.push(reason.to_owned());
    }
}

/// How a reader resumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// With the client crate, which drops repeated events.
    Client,
    /// By hand: one socket after the other, with the last id as `since`. Repeated events count as repeated.
    Plain,
}

pub(crate) struct Reader {
    pub kind: Kind,
    pub channel: &'static str,
    gateway: String,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Reads a channel from its first event, through the gateway at this address.
    pub(crate) fn start(kind: Kind, channel: &'static str, gateway: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(read(kind, channel, gateway.to_owned(), seen.clone()));
        Self { kind, channel, gateway: gateway.to_owned(), seen, task }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// The number of events received.
    pub(crate) fn count(&self) -> usize {
        self.seen().events
    }

    /// The highest event number received.
    pub(crate) fn last(&self) -> u64 {
        self.seen().ledger.highest()
    }

    /// The number of sockets opened so far.
    pub(crate) fn sockets(&self) -> usize {
        self.seen().connected.len()
    }

    /// Disconnects and keeps its position.
    pub(crate) async fn sleep(&mut self) {
        self.task.abort();
        let ended = (&mut self.task).await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "the reader had ended already");
        // The reader's own pause does not count as a silence of the gateway.
        self.seen().heard = None;
    }

    /// Reconnects after the last event that it received.
    pub(crate) fn wake(&mut self) {
        self.task = tokio::spawn(read(self.kind, self.channel, self.gateway.clone(), self.seen.clone()));
    }

    /// Whether the reader is still running.
    pub(crate) fn is_reading(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(kind: Kind, channel: &'static str, gateway: String, seen: Arc<Mutex<Seen>>) {
    match kind {
        Kind::Client => read_with_the_client(channel, &gateway, &seen).await,
        Kind::Plain => read_plainly(channel, &gateway, &seen).await,
    }
}

fn claims() -> String {
    token(json!({ "crews": ["abc", "def"], "runs": ["r1", "r2"] }))
}

fn start(seen: &Mutex<Seen>) -> Start {
    seen.lock().unwrap().last_id.map_or(Start::Beginning, Start::After)
}

async fn read_with_the_client(channel: &str, gateway: &str, seen: &Mutex<Seen>) {
    let client = Client::builder(format!("http://{gateway}")).token(claims()).build().unwrap();
    let request = match channel.split_once(':') {
        Some(("run", run)) => client.run(run),
        Some(("graph", crew)) => client.graph(crew),
        _ => panic!("not a channel of the readers: {channel}"),
    };
    let mut subscription: Subscription = request.since(start(seen)).connect();
    while let Some(delivery) = subscription.next().await {
        let mut seen = seen.lock().unwrap();
        match delivery.expect("the subscription continues") {
            Delivery::Event { event, .. } => seen.event(&event),
            Delivery::Reset { reason, .. } => seen.reset(&reason),
            Delivery::Gap { .. } => seen.ledger.gap(),
            Delivery::Connected { resumed } => {
                assert!(resumed, "a reset without a resume");
                seen.connected();
            }
            Delivery::Disconnected { cut: Cut::Closed { code, .. }, .. } => seen.cuts.push(Some(code)),
            Delivery::Disconnected { .. } => seen.cuts.push(None),
            Delivery::Notice { message } if message.text().contains(r#""state":"down""#) => seen.broker_down += 1,
            _ => {}
        }
    }
}

async fn read_plainly(channel: &str, gateway: &str, seen: &Mutex<Seen>) {
    let token = claims();
    loop {
        let since = match start(seen) {
            Start::After(id) => id.to_string(),
            _ => "0".to_owned(),
        };
        let path = channel.replace("run:", "runs/").replace(':', "/");
        let mut request = format!("ws://{gateway}/ws/{path}?since={since}").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", format!("token, {token}").parse().unwrap());
        let connecting = tokio::time::timeout(Duration::from_secs(10), tokio_tungstenite::connect_async(request));
        if let Ok(Ok((mut socket, _))) = connecting.await {
            seen.lock().unwrap().connected();
            let mut code = None;
            while let Some(Ok(message)) = socket.next().await {
                match message {
                    Message::Text(text) => take(&text, &mut seen.lock().unwrap()),
                    Message::Close(frame) => code = frame.map(|frame| frame.code.into()),
                    _ => {}
                }
            }
            seen.lock().unwrap().cuts.push(code);
        }
        // As a well-behaved client does: a random pause, so that not all readers reconnect at once.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..300))).await;
    }
}

fn take(text: &str, seen: &mut Seen) {
    let event = Event::parse(text.to_owned().into()).expect("an event");
    if event.id().is_some() {
        return seen.event(&event);
    }
    let word: Value = serde_json::from_str(text).unwrap();
    match word["type"].as_str() {
        Some("reset") => seen.reset(word["reason"].as_str().unwrap()),
        Some("gap") => seen.ledger.gap(),
        Some("broker") if word["state"] == "down" => seen.broker_down += 1,
        _ => assert_eq!(word["source"], "gateway", "{text}"),
    }
}
