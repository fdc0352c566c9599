//! What a replica shares with the others besides events: owners, revocations, tickets, usage, client numbers.
//!
//! Each job is a trait of its own, and each consumer takes the one that it needs. Two implementations, [`memory`] and
//! [`redis`], pass the conformance suite of the brokers (`broker/conformance/registry.rs`).
//!
//! What changes is announced on the control channel as a [`Control`], which every replica receives through
//! [`Sink::control`](crate::broker::Sink::control). Owners change by
//! [`Transport::register`](crewcast_store::Transport::register), as producers change them.

pub(crate) mod memory;
pub(crate) mod redis;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use crewcast_events::Kind;
use crewcast_store::Ownership;

pub use self::redis::RedisRegistry;
pub(crate) use crate::broker::BrokerError;

/// How long a replica's usage counts after its last report.
pub(crate) const USAGE_AGE: Duration = Duration::from_secs(15);

/// Which org owns which id.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// The owner of each id; an id without an owner is missing in the answer.
    async fn owners(&self, kind: Kind, ids: &[String]) -> Result<HashMap<String, Ownership>, BrokerError>;

    /// Every id of one kind that an org owns.
    async fn ids_of_org(&self, org: &str, kind: Kind) -> Result<Vec<String>, BrokerError>;
}

/// Tokens that are no longer valid.
#[async_trait]
pub trait Revocations: Send + Sync + 'static {
    /// Remembers a revocation and announces it to every replica.
    async fn revoke(&self, revocation: &Revocation) -> Result<(), BrokerError>;

    /// Every revocation that is still remembered.
    async fn revocations(&self) -> Result<Vec<Revocation>, BrokerError>;
}

/// Single-use tickets.
#[async_trait]
pub(crate) trait Tickets: Send + Sync + 'static {
    /// Keeps the content of a ticket for `ttl`.
    async fn put_ticket(&self, ticket: &str, content: Bytes, ttl: Duration) -> Result<(), BrokerError>;

    /// Takes the content of a ticket: at most one caller ever gets it.
    async fn take_ticket(&self, ticket: &str) -> Result<Option<Bytes>, BrokerError>;
}

/// The usage that each replica reports.
#[async_trait]
pub(crate) trait UsageBoard: Send + Sync + 'static {
    /// Keeps a replica's usage for [`USAGE_AGE`]; `None` removes it.
    async fn report_usage(&self, replica: &str, usage: Option<Bytes>) -> Result<(), BrokerError>;

    /// Each replica with its last report, unless that is older than [`USAGE_AGE`].
    async fn usage(&self) -> Result<Vec<(String, Bytes)>, BrokerError>;
}

/// Numbers that order the connections of one client across all replicas.
#[async_trait]
pub(crate) trait ClientNumbers: Send + Sync + 'static {
    /// Gives a client's new connection a number higher than all numbers before, and announces it to every replica.
    async fn register_client(&self, client: &str) -> Result<u64, BrokerError>;
}

/// One registry, by its jobs.
#[derive(Clone)]
pub(crate) struct Registry {
    /// Which org owns which id.
    pub directory: Arc<dyn Directory>,
    /// Tokens that are no longer valid.
    pub revocations: Arc<dyn Revocations>,
    /// Single-use tickets.
    pub tickets: Arc<dyn Tickets>,
    /// The usage of all replicas.
    pub usage: Arc<dyn UsageBoard>,
    /// The order of a client's connections.
    pub clients: Arc<dyn ClientNumbers>,
}

impl Registry {
    /// A registry of which one object does every job.
    pub(crate) fn of<R>(registry: Arc<R>) -> Self
    where
        R: Directory + Revocations + Tickets + UsageBoard + ClientNumbers,
    {
        Self {
            directory: registry.clone(),
            revocations: registry.clone(),
            tickets: registry.clone(),
            usage: registry.clone(),
            clients: registry,
        }
    }
}

/// A revocation: of one token, or of every token of a user that was issued until then.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Revocation {
    /// What is revoked.
    #[serde(flatten)]
    pub target: RevocationTarget,
    /// The last Unix second of issue that the revocation covers (for `sub`).
    pub issued_until: u64,
    /// The Unix second until which it is remembered: by then the tokens have expired themselves.
    pub remember_until: u64,
}

/// What a [`Revocation`] names.
#[derive(Clone, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevocationTarget {
    /// One token.
    Jti(String),
    /// All tokens of a user.
    Sub(String),
}

/// A message on the control channel.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Control {
    /// A token or user was revoked.
    Revoked(Revocation),
    /// The directory's entry of an id changed.
    Directory {
        /// The entry now (for a removal: what was removed).
        #[serde(rename = "claim")]
        ownership: Ownership,
        /// The org that owned the id until now, when it moved.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        from: Option<String>,
        /// Whether the entry is gone.
        #[serde(default)]
        removed: bool,
    },
    /// A client has opened a connection: the older ones of the same client close.
    Client {
        /// Which client.
        client: String,
        /// Higher than the numbers of all connections before.
        number: u64,
    },
}
