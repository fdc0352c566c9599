//! What stands beside a channel's log besides its head: state documents, and leases.

use std::time::Duration;

use bytes::Bytes;
use crewcast_events::{EventId, catalog::silence::Silence};

/// Most documents of one [`StateDocuments`].
pub const MAX_DOCUMENTS: usize = 1000;
/// Most bytes of the documents and their keys, beyond the first.
pub const STATE_BYTES: usize = 1 << 20;
/// Most leases that [`super::Broker::silent`] answers at once: bounds how long one script runs.
pub const MAX_EXPIRED: usize = 64;

/// A channel's state, read in one atomic step: what follows `head` in the log is not in it, everything else is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDocuments {
    /// The last id given.
    pub head: Option<EventId>,
    /// The documents by key, in the order of the keys.
    pub documents: Vec<(String, Bytes)>,
    /// Whether there are more documents than are told.
    pub truncated: bool,
    /// Of a read `within`: how long until the first of the documents is none of them any more, unless its lease is renewed.
    pub first_end: Option<Duration>,
}

/// A lease of which something is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpiredLease {
    /// Its name in the channel.
    pub name: String,
    /// What is to be told.
    pub expiry: Silence,
    /// Since when its producer was not heard of.
    pub since: Duration,
    /// What the producer said about it; empty, or a JSON object.
    pub about: String,
}
