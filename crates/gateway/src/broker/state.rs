//! What a channel holds besides its log and head: state documents and leases.

use std::time::Duration;

use bytes::Bytes;
use crewcast_events::{EventId, catalog::lease_expiry::LeaseStatus};

/// Maximum number of documents of one [`StateDocuments`].
pub(crate) const MAX_DOCUMENTS: usize = 1000;
/// Maximum size of the documents and their keys in bytes, beyond the first document.
pub(crate) const STATE_BYTES: usize = 1 << 20;
/// Maximum number of leases that [`super::LogStore::expired_leases`] returns at once: bounds how long one script runs.
pub(crate) const MAX_EXPIRED: usize = 64;

/// A channel's state, read atomically: it reflects every event up to `head`, and none behind it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StateDocuments {
    /// The last id given.
    pub head: Option<EventId>,
    /// The documents by key, in the order of the keys.
    pub documents: Vec<(String, Bytes)>,
    /// Whether there are more documents than these.
    pub truncated: bool,
    /// For a read with `within`: how long until the first document drops out, unless its lease is renewed.
    pub first_end: Option<Duration>,
    /// For a read with `within` of a list of sessions: the last list that a live event brought.
    pub live: Option<Bytes>,
}

/// A lease whose status is to be reported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExpiredLease {
    /// Its name in the channel.
    pub name: String,
    /// The status to report.
    pub expiry: LeaseStatus,
    /// Time since its producer was last heard of.
    pub since: Duration,
    /// What the producer said about it: empty, or a JSON object.
    pub about: String,
}
