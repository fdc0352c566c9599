//! What a transport carries: appends to a channel's log, live messages, claims on the directory.

use std::sync::Arc;

use bytes::Bytes;
use crewcast_events::{Body, Channel, EventId, Kind, RANDOM_LEN};
use serde_json::value::RawValue;

use crate::lease::{LeaseStep, Renewal};

/// Events of one channel that enter its log together and in order.
#[derive(Clone, Debug)]
pub struct Append {
    /// Whose log.
    pub channel: Channel,
    /// At least one and at most [`MAX_ENTRIES`].
    pub entries: Vec<Entry>,
    /// How a repetition of this append is recognised.
    pub once: Once,
}

/// Most entries of one [`Append`]: bounds how long one script runs.
pub const MAX_ENTRIES: usize = 128;

/// Most bytes of one event unless configured: the default of the gateways' `limits.message`. They drop what is larger.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// One event on its way into the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The producer's object.
    pub body: Body,
    /// What the event's own half of the tag is made of, together with its predecessor's. The same in every repetition,
    /// so that the id is too where the event stands behind the same events.
    pub random: [u8; RANDOM_LEN],
    /// A state document that is set in the same atomic step.
    pub state: Option<State>,
    /// What becomes of a lease in the same atomic step.
    pub lease: Option<LeaseStep>,
}

impl Entry {
    /// An entry with a fresh random half, no state and no lease.
    pub fn new(body: Body) -> Self {
        Self { body, random: random_half(), state: None, lease: None }
    }
}

/// Six random characters of `[0-9a-z]`.
pub fn random_half() -> [u8; RANDOM_LEN] {
    std::array::from_fn(|_| b"0123456789abcdefghijklmnopqrstuvwxyz"[fastrand::usize(..36)])
}

/// One document in the channel's state hash.
#[derive(Clone, Debug)]
pub struct State {
    /// Field of the hash, 1 to 128 characters.
    pub key: String,
    /// The document, kept as it was written; `None` removes it.
    pub value: Option<Arc<RawValue>>,
}

/// How the log recognises that it has seen an append before.
#[derive(Clone, Debug)]
pub enum Once {
    /// Not at all.
    No,
    /// The entries are the producer's events number `first`, `first + 1`, … in this channel. Accepted only
    /// in sequence: a repeat answers the same ids, a hole is refused, so that nothing overtakes a failed
    /// predecessor.
    Sequence {
        /// Random, one per publisher and epoch.
        producer: Arc<str>,
        /// Counts from 1.
        first: u64,
    },
    /// A caller's key for one event, kept 24 h in the scope of channel and `sub`.
    Key {
        /// The caller.
        sub: String,
        /// Chosen by the caller.
        key: String,
    },
}

/// Why an append did not happen, or may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log expects a lower number of this producer: what it had acknowledged was lost, or its memory of the
    /// producer expired. Nothing of this append happened. Go on as a new producer, from 1.
    #[error("the log expects number {expected} of this producer")]
    Gap {
        /// The number that would be accepted, below the append's first.
        expected: u64,
    },
    /// No answer: it may or may not have happened. Repeat the same append.
    #[error("the broker does not answer: {0}")]
    Unavailable(String),
    /// It did not happen and a repetition would fare no better.
    #[error("refused: {0}")]
    Refused(String),
}

/// To whom an id belongs.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Claim {
    /// What the id names.
    pub kind: Kind,
    /// The id.
    pub id: String,
    /// The tenant.
    pub org: String,
    /// For a run: the crew whose readers may read it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub crew: Option<String>,
}

/// What to do with a [`Claim`] whose id is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimMode {
    /// The first owner stays.
    Keep,
    /// The id changes hands. The logs of the channels that it names are dropped: they are the former owner's.
    Move,
    /// The id is forgotten, if the claim's org owns it, and the logs of the channels that it names are dropped: who
    /// registers it next must not read them.
    Remove,
}

/// The answer to a claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// The directory says what the claim says.
    Done,
    /// Another org owns the id; nothing changed.
    OwnedBy(String),
}

/// Carries what a publisher emits. Implementations: Redis, HTTP, and a gateway's memory broker.
#[async_trait::async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Appends to a channel's log and publishes, in one atomic step. Answers the ids in order; `None` for
    /// an entry that was accepted before and whose id is no longer known, and for one that tells of a lease what has
    /// been told already ([`LeaseStep::Tell`]).
    ///
    /// # Errors
    /// [`AppendError`].
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError>;

    /// Publishes without a log: whoever is connected hears it.
    ///
    /// # Errors
    /// [`AppendError`], never `Gap`.
    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError>;

    /// Claims an id for an org in the directory and tells every gateway.
    ///
    /// # Errors
    /// [`AppendError`], never `Gap`.
    async fn claim(&self, claim: &Claim, mode: ClaimMode) -> Result<Claimed, AppendError>;

    /// Renews leases, all together. One that does not stand (any more) is passed over: only an event makes a lease.
    /// A transport without leases does nothing.
    ///
    /// # Errors
    /// [`AppendError`], never `Gap`.
    async fn renew(&self, renewals: &[Renewal]) -> Result<(), AppendError> {
        let _ = renewals;
        Ok(())
    }
}
