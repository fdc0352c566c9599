//! One socket, from the handshake to its end.

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
    message::Message,
    position::Position,
    stream,
    subscription::Delivery,
    worker::{Ended, Why, Worker},
};

/// From dialing to the end of the handshake.
const CONNECTING: Duration = Duration::from_secs(10);
/// A gateway pings every 30 s: one that is not heard for this long is dead.
const SILENCE: Duration = Duration::from_secs(75);
/// How long a frame of ours, all of them small, may take to be written.
const SENDING: Duration = Duration::from_secs(10);
/// How long a socket must have stood for a silent one to count as working.
const PROVEN_BY_TIME: Duration = Duration::from_secs(10);
const READ_BUFFER: usize = 16 << 10;
/// The close code of RFC 6455 for a close frame without one.
const NO_CODE: u16 = 1005;

type Socket = WebSocketStream<MaybeTlsStream<Box<dyn Io>>>;

/// Connects and delivers until the socket ends.
pub(crate) async fn run(worker: &mut Worker) -> Ended {
    let unproven = |why| Ended { why, proven: false, back_at: None };
    let out = worker.out.clone();
    let connected = tokio::select! {
        connected = timeout(CONNECTING, connect(worker)) => connected,
        () = out.closed() => return unproven(Why::Goodbye),
    };
    let (socket, resumed) = match connected {
        Ok(Ok(connected)) => connected,
        Ok(Err(why)) => return unproven(why),
        Err(_) => {
            return unproven(Why::Cut(Cut::Io(format!("no connection within {} s", CONNECTING.as_secs()))));
        }
    };
    let now = Instant::now();
    let mut session = Session { worker, socket, opened: now, heard: now, proven: false, back_at: None };
    let why = match session.begin(resumed).await {
        Ok(()) => session.deliver().await,
        Err(why) => why,
    };
    let proven = session.proven || session.opened.elapsed() >= PROVEN_BY_TIME;
    let back_at = session.back_at;
    session.hang_up(&why).await;
    Ended { why, proven, back_at }
}

/// Opens a socket. Also answers whether the gateway knows where to go on.
async fn connect(worker: &mut Worker) -> Result<(Socket, bool), Why> {
    let settings = worker.settings.clone();
    let single = worker.endpoint.channel().and_then(|channel| worker.positions.get(channel));
    let start = single.map_or(Start::Default, Position::since);
    let url = worker.endpoint.address(&settings.gateway, start, &worker.types);
    let all_say_where = worker.positions.values().all(|position| position.since() != Start::Default);
    let resumed = worker.endpoint.starts_at_the_beginning() || (all_say_where && !worker.positions.is_empty());
    let token = worker.tokens.for_handshake().await.map_err(Why::Cut)?;

    let mut request = url.as_str().into_client_request().map_err(|error| Why::Cut(Cut::Io(error.to_string())))?;
    if let Some(token) = token {
        let mut offered =
            HeaderValue::try_from(format!("token, {token}")).map_err(|_| Why::Fatal(ClientError::BadToken))?;
        offered.set_sensitive(true);
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered);
    }
    // Brackets are how a URL writes an IPv6 address, not part of it.
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = (settings.dial)(host, port).await.map_err(|error| Why::Cut(Cut::Io(error.to_string())))?;
    let connector = match (&settings.tls, url.scheme()) {
        (Some(tls), "wss") => Some(Connector::Rustls(tls.clone())),
        _ => None,
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    match Box::pin(client_async_tls_with_config(request, stream, Some(config), connector)).await {
        Ok((socket, _)) => Ok((socket, resumed)),
        Err(WsError::Http(response)) => Err(Why::Cut(Cut::Http(response.status().as_u16()))),
        Err(error) => Err(why(error)),
    }
}

fn why(error: WsError) -> Why {
    match error {
        WsError::Capacity(error) => Why::Fatal(ClientError::TooLarge(error.to_string())),
        error => Why::Cut(Cut::Io(error.to_string())),
    }
}

struct Session<'a> {
    worker: &'a mut Worker,
    socket: Socket,
    opened: Instant,
    heard: Instant,
    proven: bool,
    back_at: Option<Instant>,
}

/// What a socket does next.
enum Step {
    Goodbye,
    Renewed(String),
    Heard(Option<Result<tungstenite::Message, WsError>>),
    Silent,
}

impl Session<'_> {
    /// Says that the socket is open, and asks for what a message has to ask for.
    async fn begin(&mut self, resumed: bool) -> Result<(), Why> {
        self.worker.deliver(Ok(Delivery::Connected { resumed })).await?;
        if self.worker.endpoint != Endpoint::Stream {
            return Ok(());
        }
        let types = &self.worker.types;
        let asks: Vec<String> =
            self.worker.positions.iter().map(|(channel, at)| stream::subscribe(channel, at.since(), types)).collect();
        for ask in asks {
            self.send(ask).await?;
        }
        Ok(())
    }

    async fn deliver(&mut self) -> Why {
        loop {
            let step = tokio::select! {
                // What has been received counts before the clock: a reader who slept is no silent gateway.
                biased;
                () = self.worker.out.closed() => Step::Goodbye,
                token = self.worker.tokens.renewed() => Step::Renewed(token),
                frame = self.socket.next() => Step::Heard(frame),
                () = sleep_until(self.heard + SILENCE) => Step::Silent,
            };
            let ended = match step {
                Step::Goodbye => Err(Why::Goodbye),
                Step::Silent => Err(Why::Cut(Cut::Silent(SILENCE))),
                Step::Renewed(token) => self.present(&token).await,
                Step::Heard(Some(Ok(frame))) => self.frame(frame).await,
                Step::Heard(Some(Err(error))) => Err(why(error)),
                Step::Heard(None) => Err(Why::Cut(Cut::Io("the connection ended".to_owned()))),
            };
            if let Err(why) = ended {
                return why;
            }
        }
    }

    /// Sends a fresh token over the open socket.
    async fn present(&mut self, token: &str) -> Result<(), Why> {
        self.send(serde_json::json!({ "action": "auth", "token": token }).to_string()).await
    }

    async fn send(&mut self, message: String) -> Result<(), Why> {
        match timeout(SENDING, self.socket.send(tungstenite::Message::text(message))).await {
            Ok(sent) => sent.map_err(why),
            Err(_) => Err(Why::Cut(Cut::Io("the gateway does not read".to_owned()))),
        }
    }

    async fn frame(&mut self, frame: tungstenite::Message) -> Result<(), Why> {
        self.heard = Instant::now();
        match frame {
            tungstenite::Message::Text(text) => {
                self.proven = true;
                self.text(text.into()).await
            }
            tungstenite::Message::Close(frame) => {
                let (code, reason) = frame.map_or((NO_CODE, String::new()), |CloseFrame { code, reason }| {
                    (code.into(), reason.as_str().to_owned())
                });
                Err(Why::Cut(Cut::Closed { code, reason }))
            }
            // Pongs are answered while reading.
            _ => {
                self.proven = true;
                Ok(())
            }
        }
    }

    async fn text(&mut self, raw: Bytes) -> Result<(), Why> {
        let message = match self.worker.endpoint {
            Endpoint::Stream => stream::read(raw),
            _ => Message::read(raw),
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
                for (channel, at) in &mut self.worker.positions {
                    if let Some(position) = positions.of(channel) {
                        at.told(position);
                    }
                }
                return Ok(());
            }
            Ok(Message::Reset { channel, reason, from }) => {
                let channel = channel.or_else(|| self.worker.endpoint.channel().cloned());
                if let Some(at) = channel.as_ref().and_then(|channel| self.worker.positions.get_mut(channel)) {
                    at.reset();
                }
                Delivery::Reset { channel, reason, from }
            }
            Ok(Message::Refused { channel, code, reason }) => return self.refused(channel, code, reason).await,
            Ok(Message::Answer) => return Ok(()),
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
                self.back_at = Instant::now().checked_add(after);
                return Ok(());
            }
            Ok(Message::Notice(message)) => Delivery::Notice { message },
            Err(rejected) => {
                tracing::warn!(%rejected, "the gateway sent what is no event");
                return Ok(());
            }
        };
        self.worker.deliver(Ok(delivery)).await
    }

    /// An event to deliver; `None`: it has been delivered before. Positions are kept where the channel is certain.
    fn event(&mut self, channel: Option<Channel>, event: Event) -> Option<Delivery> {
        let at = channel.as_ref().and_then(|channel| self.worker.positions.get_mut(channel));
        if let (Some(at), Some(id)) = (at, event.id())
            && !at.admit(id)
        {
            return None;
        }
        Some(Delivery::Event { channel, event })
    }

    /// A channel is refused: the rest goes on, if there is any.
    async fn refused(&mut self, channel: Channel, code: String, reason: String) -> Result<(), Why> {
        if self.worker.positions.remove(&channel).is_none() {
            return Ok(());
        }
        let last = self.worker.positions.is_empty();
        self.worker.deliver(Ok(Delivery::Refused { channel, code, reason: reason.clone() })).await?;
        if last { Err(Why::Fatal(ClientError::Forbidden { reason })) } else { Ok(()) }
    }

    /// Lets the other side know. It may be long gone, so that failing is no matter.
    async fn hang_up(mut self, why: &Why) {
        let farewell = match why {
            Why::Goodbye => Some(CloseFrame { code: CloseCode::Normal, reason: "goodbye".into() }),
            Why::Cut(Cut::Closed { .. }) | Why::Fatal(_) => None,
            Why::Cut(_) => return,
        };
        let _ = timeout(Duration::from_secs(1), self.socket.close(farewell)).await;
    }
}
