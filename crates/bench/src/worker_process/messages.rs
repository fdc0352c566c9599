use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::load::{Load, Share};

/// What a worker listens to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Name of the protocol.
    pub protocol: String,
    /// Key that signs tokens.
    pub secret: String,
    /// The server's addresses.
    pub sockets: Vec<SocketAddr>,
    /// The load of one worker. All workers open the same number of sockets on the same channels.
    pub load: Load,
}

/// What the publishing process sends to a worker after the job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Begin the measuring window.
    Begin,
    /// End the measuring window.
    End,
    /// Receive what is left, and report. Each channel has had this many events.
    Finish(Vec<u64>),
}

/// What a worker reports.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Notice {
    /// All its sockets are open.
    Open,
    /// All its sockets have received an event.
    Awake,
    /// What its sockets received.
    Share(Box<Share>),
}
