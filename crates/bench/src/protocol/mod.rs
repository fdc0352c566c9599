//! What differs between the systems that are measured: how a socket is opened and subscribed, and how an event
//! is published. A protocol does no I/O; the generator asks it and does what it answers.

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

/// One socket as the generator plans it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Number of the socket among all of the run, from 0.
    pub index: usize,
    /// Number of the channel that it reads, from 0.
    pub channel: usize,
    /// Event types that it asks for, with commas between; `None`: all.
    pub types: Option<String>,
    /// Id of the last event that it has seen, where it comes back and resumes.
    pub since: Option<String>,
}

/// The part of a WebSocket handshake that a protocol decides. `Host`, `Upgrade`, `Connection`, version, key and, where
/// asked for, the offer of compression are the generator's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Path and query: `/ws/graph/c1?since=0`.
    pub path: String,
    /// Further header lines, name and value.
    pub headers: Vec<(&'static str, String)>,
}

/// A message to the server; the generator frames and masks it.
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
    /// Not subscribed by this frame.
    Waiting,
    /// This frame confirms the subscription. Later answers do not matter.
    Subscribed,
}

/// How events lie in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Each frame carries one event at most.
    OnePerFrame,
    /// One frame can carry several events, whole (Centrifugo's lines).
    SeveralPerFrame,
    /// The frames' payloads are a stream of bytes in which events begin and end anywhere (NATS).
    Stream,
}

/// Over what connection events are published. The bytes themselves come from [`Protocol::publish`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// The run's Redis: one connection.
    Redis,
    /// A Redis Cluster: a connection to each of these masters; [`Protocol::connection`] says which one a channel takes.
    Cluster(Vec<SocketAddr>),
    /// TCP connections to the publishing address of the server ([`crate::servers::Endpoints::publish`]), each of which
    /// writes events one behind the other without waiting for answers. A channel's events all take the same one.
    Tcp {
        /// How many connections.
        connections: usize,
        /// Sent once at the beginning of each: NATS' `CONNECT {…}`.
        preamble: Vec<u8>,
    },
}

/// A system that is measured, as seen from its clients and its producers.
pub trait Protocol: Send + Sync {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// How the socket opens.
    fn handshake(&self, socket: &Plan) -> Request;

    /// What is sent right after the server's 101.
    fn hello(&self, _socket: &Plan) -> Vec<Outgoing> {
        Vec::new()
    }

    /// Whether the server's 101 is all that it takes to be subscribed. Otherwise [`Protocol::on_other`] tells.
    fn subscribed_by_handshake(&self) -> bool {
        true
    }

    /// Called for each frame in which no event was found; may answer. The bytes are those of one frame's payload.
    fn on_other(&self, _socket: &Plan, _payload: &[u8], _reply: &mut Vec<Outgoing>) -> Progress {
        Progress::Subscribed
    }

    /// How events lie in frames.
    fn framing(&self) -> Framing {
        Framing::OnePerFrame
    }

    /// Appends to `out` all that publishes `event` (a JSON object, no line breaks) on the channel: a Redis command (see
    /// [`crate::wire::resp::command`]), an HTTP request ([`crate::wire::http::post`]), a NATS `PUB`.
    fn publish(&self, channel: usize, event: &[u8], out: &mut Vec<u8>);

    /// Where that is written.
    fn publish_over(&self) -> Via {
        Via::Redis
    }

    /// Which of so many connections takes the channel's events.
    fn connection(&self, channel: usize, connections: usize) -> usize {
        channel % connections
    }

    /// The channel's name where events are published through `crewcast-publisher`; only Crewcast has one.
    fn logged_channel(&self, _channel: usize) -> Option<String> {
        None
    }
}

/// The protocol of this name. `secret` signs tokens where it has them.
///
/// # Errors
/// When there is none.
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
        other => bail!("no protocol is called {other}"),
    })
}
