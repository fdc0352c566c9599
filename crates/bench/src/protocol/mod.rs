//! How clients and producers speak to each system: how a socket is opened and subscribed, and how an event is
//! published. Protocols do no I/O; the generator does.

mod anycable;
mod centrifugo;
mod crewcast;
mod fastapi;
mod nats;
mod nchan;
mod raw;
mod socketio;

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Result, bail};

pub use anycable::AnyCable;
pub use centrifugo::Centrifugo;
pub use crewcast::Crewcast;
pub use fastapi::FastApi;
pub use nats::Nats;
pub use nchan::Nchan;
pub use raw::Raw;
pub use socketio::SocketIo;

pub use crate::wire::handshake::Request;

/// A socket as the generator plans it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Number of the socket in the run, from 0.
    pub index: usize,
    /// Number of the socket's channel, from 0.
    pub channel: usize,
    /// Event types that the socket subscribes to, separated by commas. `None` for all.
    pub types: Option<String>,
    /// Id of the last event that the socket received, if the socket resumes.
    pub since: Option<String>,
}

/// A message to the server. The generator frames and masks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// A text frame's payload.
    Text(Vec<u8>),
    /// A binary frame's payload.
    Binary(Vec<u8>),
}

/// What a frame that carries no event says about the subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// This frame does not confirm the subscription.
    Waiting,
    /// This frame confirms the subscription. Later results are ignored.
    Subscribed,
}

/// How frames contain events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Each frame contains at most one event.
    OnePerFrame,
    /// A frame can contain several whole events (lines of Centrifugo).
    SeveralPerFrame,
    /// Payloads form a stream of bytes in which events begin and end anywhere (NATS).
    Stream,
}

/// The connections that events are published over. [`Protocol::publish`] writes the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// One connection to the Redis of the run.
    Redis,
    /// One connection to each of these masters of a Redis Cluster. [`Protocol::connection`] chooses the one of a
    /// channel.
    Cluster(Vec<SocketAddr>),
    /// TCP connections to the server's address for producers ([`crate::servers::Endpoints::publish`]). Events are
    /// written without waiting for answers. All events of a channel take the same connection.
    Tcp {
        /// Number of connections.
        connections: usize,
        /// The first bytes on each connection, such as `CONNECT {…}` of NATS.
        preamble: Vec<u8>,
    },
}

/// A measured system as its clients and producers see it.
pub trait Protocol: Send + Sync {
    /// The name in reports.
    fn name(&self) -> &'static str;

    /// The handshake of a socket.
    fn handshake(&self, socket: &Plan) -> Request;

    /// The messages to send after the server's 101.
    fn hello(&self, _socket: &Plan) -> Vec<Outgoing> {
        Vec::new()
    }

    /// Whether the server's 101 confirms the subscription. Otherwise [`Protocol::on_other`] does.
    fn subscribed_by_handshake(&self) -> bool {
        true
    }

    /// Handles the payload of a frame without an event, and may reply.
    fn on_other(&self, _socket: &Plan, _payload: &[u8], _reply: &mut Vec<Outgoing>) -> Progress {
        Progress::Subscribed
    }

    /// How frames contain events.
    fn framing(&self) -> Framing {
        Framing::OnePerFrame
    }

    /// Appends the bytes that publish `event`, a JSON object without line breaks, on the channel: a Redis command (see
    /// [`crate::wire::resp::command`]), an HTTP request ([`crate::wire::http::post`]), or a NATS `PUB`.
    fn publish(&self, channel: usize, event: &[u8], out: &mut Vec<u8>);

    /// The connections that those bytes are written to.
    fn publish_over(&self) -> Via {
        Via::Redis
    }

    /// Which of `connections` takes the channel's events.
    fn connection(&self, channel: usize, connections: usize) -> usize {
        channel % connections
    }

    /// The channel's name for events that `crewcast-publisher` publishes. Only Crewcast has one.
    fn logged_channel(&self, _channel: usize) -> Option<String> {
        None
    }
}

/// The protocol of this name. `secret` signs tokens, if the protocol has tokens.
///
/// # Errors
/// If the name is unknown.
pub fn named(name: &str, channels: usize, secret: &str) -> Result<Arc<dyn Protocol>> {
    Ok(match name {
        "crewcast" => Arc::new(Crewcast::new(channels, secret)?),
        "raw" => Arc::new(Raw),
        "fastapi" => Arc::new(FastApi::new(secret)?),
        "socketio" => Arc::new(SocketIo),
        "nchan" => Arc::new(Nchan),
        "nats" => Arc::new(Nats),
        "centrifugo" => Arc::new(Centrifugo::new(secret, secret)?),
        "anycable" => Arc::new(AnyCable),
        other => bail!(
            "there is no protocol {other}: use crewcast, raw, fastapi, socketio, nchan, nats, centrifugo or anycable"
        ),
    })
}
