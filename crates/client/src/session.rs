//! One WebSocket connection, from the handshake to its end.

use std::time::Duration;

use bytes::Bytes;
use crewcast_events::{Channel, Event};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config,
    tungstenite::{
        self, Error as WsError,
        client::IntoClientRequest,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    client::Io,
    endpoint::{Endpoint, Start},
    error::{ClientError, Cut},
    message::{Message, Positions},
    position::Position,
    stream,
    subscription::Delivery,
    worker::{EndReason, SocketEnd, Worker},
};

/// Covers dialing, TLS and the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A gateway pings every 30 s. One that sends nothing for this long is considered dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long writing one of the client's small messages may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that lasts this long counts as working even if it has received nothing.
const PROVEN_AFTER: Duration = Duration::from_secs(10);
const READ_BUFFER: usize = 16 << 10;
/// The close code for a close frame without a code (RFC 6455, section 7.1.5).
const NO_CODE: u16 = 1005;

type Socket = WebSocketStream<MaybeTlsStream<Box<dyn Io>>>;

/// Connects, and delivers until the connection ends.
pub(crate) async fn run(worker: &mut Worker) -> SocketEnd {
    let unproven = |why| SocketEnd { why, proven: false, reconnect_at: None };
    let out = worker.out.clone();
    let connected = tokio::select! {
        connected = timeout(CONNECT_TIMEOUT, connect(worker)) => connected,
        () = out.closed() => return unproven(EndReason::ReaderGone),
    };
    let (socket, resumed) = match connected {
        Ok(Ok(connected)) => connected,
        Ok(Err(why)) => return unproven(why),
        Err(_) => {
            return unproven(EndReason::Cut(Cut::Io(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))));
        }
    };
    let now = Instant::now();
    let mut session = Session { worker, socket, opened: now, last_received: now, proven: false, reconnect_at: None };
    let why = match session.begin(resumed).await {
        Ok(()) => session.deliver().await,
        Err(why) => why,
    };
    let proven = session.proven || session.opened.elapsed() >= PROVEN_AFTER;
    let reconnect_at = session.reconnect_at;
    session.close(&why).await;
    SocketEnd { why, proven, reconnect_at }
}

/// Opens a connection. Also returns whether the gateway knows where to resume.
async fn connect(worker: &mut Worker) -> Result<(Socket, bool), EndReason> {
    let settings = worker.settings.clone();
    let single = worker.endpoint.channel().and_then(|channel| worker.positions.get(channel));
    let start = single.map_or(Start::Default, Position::since);
    let url = worker.endpoint.address(&settings.gateway, start, &worker.types);
    let all_have_a_start = worker.positions.values().all(|position| position.since() != Start::Default);
    let resumed = worker.endpoint.starts_at_the_beginning() || (all_have_a_start && !worker.positions.is_empty());
    let token = worker.tokens.for_handshake().await.map_err(EndReason::Cut)?;

    let mut request = url.as_str().into_client_request().map_err(|error| EndReason::Cut(Cut::Io(error.to_string())))?;
    if let Some(token) = token {
        let mut offered =
            HeaderValue::try_from(format!("token, {token}")).map_err(|_| EndReason::Fatal(ClientError::BadToken))?;
        offered.set_sensitive(true);
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered);
    }
    // A URL writes an IPv6 address in brackets, which are not part of the address.
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = (settings.dial)(host, port).await.map_err(|error| EndReason::Cut(Cut::Io(error.to_string())))?;
    let connector = match (&settings.tls, url.scheme()) {
        (Some(tls), "wss") => Some(Connector::Rustls(tls.clone())),
        _ => None,
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    match Box::pin(client_async_tls_with_config(request, stream, Some(config), connector)).await {
        Ok((socket, _)) => Ok((socket, resumed)),
        Err(WsError::Http(response)) => Err(EndReason::Cut(Cut::Http(response.status().as_u16()))),
        Err(error) => Err(end_reason(error)),
    }
}

fn end_reason(error: WsError) -> EndReason {
    match error {
        WsError::Capacity(error) => EndReason::Fatal(ClientError::TooLarge(error.to_string())),
        error => EndReason::Cut(Cut::Io(error.to_string())),
    }
}

struct Session<'a> {
    worker: &'a mut Worker,
    socket: Socket,
    opened: Instant,
    last_received: Instant,
    proven: bool,
    reconnect_at: Option<Instant>,
}

/// What happens next on a connection.
enum Step {
    ReaderGone,
    Renewed(String),
    Received(Option<Result<tungstenite::Message, WsError>>),
    Idle,
}

impl Session<'_> {
    /// Reports the open connection, and sends the requests for channels.
    async fn begin(&mut self, resumed: bool) -> Result<(), EndReason> {
        self.worker.deliver(Ok(Delivery::Connected { resumed })).await?;
        if self.worker.endpoint != Endpoint::Stream {
            return Ok(());
        }
        let types = &self.worker.types;
        let requests: Vec<String> =
            self.worker.positions.iter().map(|(channel, at)| stream::subscribe(channel, at.since(), types)).collect();
        for request in requests {
            self.send(request).await?;
        }
        Ok(())
    }

    async fn deliver(&mut self) -> EndReason {
        loop {
            let step = tokio::select! {
                // Received messages count before the timeout: a reader that slept does not make the gateway idle.
                biased;
                () = self.worker.out.closed() => Step::ReaderGone,
                token = self.worker.tokens.renewed() => Step::Renewed(token),
                frame = self.socket.next() => Step::Received(frame),
                () = sleep_until(self.last_received + IDLE_TIMEOUT) => Step::Idle,
            };
            let ended = match step {
                Step::ReaderGone => Err(EndReason::ReaderGone),
                Step::Idle => Err(EndReason::Cut(Cut::Silent(IDLE_TIMEOUT))),
                Step::Renewed(token) => self.send_token(&token).await,
                Step::Received(Some(Ok(frame))) => self.frame(frame).await,
                Step::Received(Some(Err(error))) => Err(end_reason(error)),
                Step::Received(None) => {
                    Err(EndReason::Cut(Cut::Io("the connection was closed without a close frame".to_owned())))
                }
            };
            if let Err(why) = ended {
                return why;
            }
        }
    }

    /// Sends a fresh token over the open socket.
    async fn send_token(&mut self, token: &str) -> Result<(), EndReason> {
        self.send(serde_json::json!({ "action": "auth", "token": token }).to_string()).await
    }

    async fn send(&mut self, message: String) -> Result<(), EndReason> {
        match timeout(SEND_TIMEOUT, self.socket.send(tungstenite::Message::text(message))).await {
            Ok(sent) => sent.map_err(end_reason),
            Err(_) => Err(EndReason::Cut(Cut::Io("the gateway stopped reading".to_owned()))),
        }
    }

    async fn frame(&mut self, frame: tungstenite::Message) -> Result<(), EndReason> {
        self.last_received = Instant::now();
        match frame {
            tungstenite::Message::Text(text) => {
                self.proven = true;
                self.text(text.into()).await
            }
            tungstenite::Message::Close(frame) => {
                let (code, reason) = frame.map_or((NO_CODE, String::new()), |CloseFrame { code, reason }| {
                    (code.into(), reason.as_str().to_owned())
                });
                Err(EndReason::Cut(Cut::Closed { code, reason }))
            }
            // The library answers pings while it reads.
            _ => {
                self.proven = true;
                Ok(())
            }
        }
    }

    async fn text(&mut self, raw: Bytes) -> Result<(), EndReason> {
        let message = match self.worker.endpoint {
            Endpoint::Stream => stream::parse(raw),
            _ => Message::parse(raw),
        };
        let delivery = match message {
            Ok(Message::Event(event)) => match self.event(self.worker.endpoint.channel_of(&event), event) {
                Some(delivery) => delivery,
                None => return Ok(()),
            },
            Ok(Message::Enveloped { channel, event }) => match self.event(Some(channel), event) {
                Some(delivery) => delivery,
                None => return Ok(()),
            },
            Ok(Message::Ping { positions }) => {
                self.reported(&positions);
                return Ok(());
            }
            Ok(Message::Pending { channel, positions }) => {
                self.reported(&positions);
                Delivery::Waiting { channel }
            }
            Ok(Message::Reset { channel, reason, from }) => {
                let channel = channel.or_else(|| self.worker.endpoint.channel().cloned());
                if let Some(at) = channel.as_ref().and_then(|channel| self.worker.positions.get_mut(channel)) {
                    at.reset();
                }
                Delivery::Reset { channel, reason, from }
            }
            Ok(Message::Refused { channel, code, reason }) => return self.refused(channel, code, reason).await,
            Ok(Message::Ack) => return Ok(()),
            Ok(Message::Gap { channel, missed }) => Delivery::Gap { channel, missed },
            Ok(Message::Skipped { channel, events, position }) => {
                let channel = channel.or_else(|| self.worker.endpoint.channel().cloned());
                let at = channel.as_ref().and_then(|channel| self.worker.positions.get_mut(channel));
                if let (Some(at), Some(id)) = (at, position) {
                    at.skipped_to(id);
                }
                Delivery::Skipped { channel, events }
            }
            Ok(Message::Reconnect { after }) => {
                self.reconnect_at = Instant::now().checked_add(after);
                return Ok(());
            }
            Ok(Message::Notice(message)) => Delivery::Notice { message },
            Err(rejected) => {
                tracing::warn!(%rejected, "ignored a message of the gateway that is not an event");
                return Ok(());
            }
        };
        self.worker.deliver(Ok(delivery)).await
    }

    fn reported(&mut self, positions: &Positions) {
        for (channel, at) in &mut self.worker.positions {
            if let Some(position) = positions.of(channel) {
                at.reported(position);
            }
        }
    }

    /// The event to deliver, or `None` if it was delivered before. Only certain channels have a position.
    fn event(&mut self, channel: Option<Channel>, event: Event) -> Option<Delivery> {
        let at = channel.as_ref().and_then(|channel| self.worker.positions.get_mut(channel));
        if let (Some(at), Some(id)) = (at, event.id())
            && !at.admit(id)
        {
            return None;
        }
        Some(Delivery::Event { channel, event })
    }

    /// Handles a refused channel. The other channels go on, if there are any.
    async fn refused(&mut self, channel: Channel, code: String, reason: String) -> Result<(), EndReason> {
        if self.worker.positions.remove(&channel).is_none() {
            return Ok(());
        }
        let last = self.worker.positions.is_empty();
        self.worker.deliver(Ok(Delivery::Refused { channel, code, reason: reason.clone() })).await?;
        if last { Err(EndReason::Fatal(ClientError::Forbidden { reason })) } else { Ok(()) }
    }

    /// Sends a close frame. The gateway may already be gone, so errors are ignored.
    async fn close(mut self, why: &EndReason) {
        let close_frame = match why {
            EndReason::ReaderGone => Some(CloseFrame { code: CloseCode::Normal, reason: "goodbye".into() }),
            EndReason::Cut(Cut::Closed { .. }) | EndReason::Fatal(_) => None,
            EndReason::Cut(_) => return,
        };
        let _ = timeout(Duration::from_secs(1), self.socket.close(close_frame)).await;
    }
}
