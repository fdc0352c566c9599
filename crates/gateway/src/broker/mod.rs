//! Where events come from: Pub/Sub channels with a log beside each.
//!
//! Two implementations, [`memory`] and `redis`, pass one conformance suite (`broker/conformance.rs`).
//!
//! # The delivery promise of a broker
//! - After [`Broker::subscribe`] has returned for a channel, every message published there reaches the
//!   sink, in the order of publishing, until `unsubscribe` or until the link is lost.
//! - A lost link is announced by [`Sink::link`] with [`Link::Down`] before the first message is missed
//!   silently for longer than the heartbeat, and [`Link::Up`] comes only after every channel that is
//!   subscribed has been subscribed again and confirmed. What was published in between is missing: only the
//!   log tells it.
//! - An append is atomic: id, log, head, retained value, state and publishing, or nothing.
//! - The sink's methods are called from one task at a time, in order, and must not block.

#[cfg(test)]
mod conformance;
pub mod memory;
pub mod redis;
mod state;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use crewcast_events::{Channel, EventId, Kind};
use crewcast_store::{Ownership, Transport};

pub use state::{ExpiredLease, MAX_DOCUMENTS, MAX_EXPIRED, STATE_BYTES, StateDocuments};

/// Why a broker did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BrokerError {
    /// The link is down or the answer did not come in time. The text is for logs, never for clients.
    #[error("the broker does not answer: {0}")]
    Unavailable(String),
    /// The broker answered something that makes no sense.
    #[error("the broker's answer is not understood: {0}")]
    Protocol(String),
}

/// The state of the link between this replica and the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Delivering.
    Up,
    /// Not delivering; the broker keeps trying to come back.
    Down,
}

/// Where a broker delivers to.
pub trait Sink: Send + Sync + 'static {
    /// A message of a subscribed channel, by the channel's name without prefix.
    fn message(&self, channel: &str, payload: Bytes);
    /// A message for every replica: a revocation, a change of the directory (JSON).
    fn control(&self, payload: Bytes);
    /// The link changed.
    fn link(&self, link: Link);
    /// These channels are delivered, but some of their messages may have been missed a moment ago: they were moved
    /// from one server to another.
    fn missed(&self, channels: &[Channel]);
}

/// What stands beside a channel at one moment, read atomically.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The last id given.
    pub head: Option<EventId>,
    /// The retained message, where the namespace retains one: logged or captured live.
    pub retained: Option<Bytes>,
}

/// A stretch of a channel's log, read atomically.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The last id given in the channel; outlives the log.
    pub head: Option<EventId>,
    /// The log's first entry.
    pub first: Option<EventId>,
    /// The log's entry with the offset that was asked to read after.
    pub at: Option<EventId>,
    /// The entries behind that offset (or from the log's first, if that is later), oldest first.
    pub entries: Vec<Bytes>,
}

impl Page {
    /// The page of a log into which somebody else has written: only the last entries that follow each other are the
    /// log, as in the script that reads it. A page that ends with the damage ends before it, if it holds more.
    fn mended(mut self) -> Self {
        let ids: Vec<Option<EventId>> = self.entries.iter().map(|raw| EventId::of_message(raw)).collect();
        let whole = ids.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if whole == 0 && !ids.is_empty() {
            return Self { head: self.head, ..Self::default() };
        }
        let is_break = |n: &usize| match (n.checked_sub(1).map(|before| ids[before]), ids[*n]) {
            (None | Some(None), Some(_)) => *n > 0,
            (Some(before), Some(id)) => !id.continues(before),
            (_, None) => true,
        };
        let Some(last_break) = (0..whole).rfind(is_break) else {
            self.entries.truncate(whole);
            return self;
        };
        self.entries.truncate(whole);
        self.entries.drain(..last_break);
        self.first = self.entries.first().and_then(|raw| EventId::of_message(raw));
        self.at = None;
        self
    }
}

/// Most bytes of one [`Page`] beyond its first entry: bounds memory however large events are.
pub const PAGE_BYTES: usize = 256 << 10;

/// One broker: Pub/Sub, logs, and the publishing side ([`Transport`]).
#[async_trait]
pub trait Broker: Transport {
    /// Begins to deliver into `sink`. Called once, before anything else. Returns when the link is up, or with
    /// an error when the first attempt failed; the broker then goes on trying and announces itself by `Link::Up`.
    async fn start(&self, sink: Arc<dyn Sink>) -> Result<(), BrokerError>;

    /// Subscribes to channels and waits until all are confirmed. May be called while the link is down: the
    /// channels are remembered and subscribed with the next link, the call waits for it at most a second and then fails.
    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BrokerError>;

    /// Ends subscriptions.
    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BrokerError>;

    /// Returns when every message published before the call has reached the sink.
    async fn barrier(&self) -> Result<(), BrokerError>;

    /// Heads and retained values of several channels, pipelined, in the order asked.
    async fn snapshots(&self, channels: &[Channel]) -> Result<Vec<Snapshot>, BrokerError>;

    /// At most `limit` entries behind `offset` (0: from the beginning).
    async fn history(&self, channel: &Channel, offset: u64, limit: usize) -> Result<Page, BrokerError>;

    /// State documents and the head behind which they stand: at most [`MAX_DOCUMENTS`] of [`STATE_BYTES`]. With `within`
    /// only those beside a lease of the same name that was renewed at most so long ago.
    async fn state(&self, channel: &Channel, within: Option<Duration>) -> Result<StateDocuments, BrokerError>;

    /// How long until something is to be told of a lease, for several channels, pipelined, in the order asked; `None`
    /// where nothing is.
    async fn next_lease_expiry(&self, channels: &[Channel]) -> Result<Vec<Option<Duration>>, BrokerError>;

    /// The leases of a channel of which something is to be told now, at most [`MAX_EXPIRED`]. It is told by an append
    /// with [`crewcast_store::LeaseStep::Expire`], which happens once whoever asked.
    async fn expired_leases(&self, channel: &Channel) -> Result<Vec<ExpiredLease>, BrokerError>;

    /// Publishes a probe and waits until it has come back through this replica's own subscription.
    async fn probe(&self) -> Result<Duration, BrokerError>;

    /// Stops delivering, closes connections.
    async fn close(&self);
}

/// A revocation: of one token, or of every token of a user that was issued until then.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Revocation {
    /// What is revoked.
    #[serde(flatten)]
    pub target: RevocationTarget,
    /// Tokens issued up to this Unix second are meant (for `sub`).
    pub issued_until: u64,
    /// Remembered up to this Unix second: by then the tokens have expired themselves.
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

/// How long a replica's figures count after it has told them.
pub const USAGE_AGE: Duration = Duration::from_secs(15);

/// What a broker's side keeps that is no event: the directory, revocations, tickets, figures.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// To whom each id belongs; an id that nobody claimed is missing in the answer.
    async fn owners(&self, kind: Kind, ids: &[String]) -> Result<HashMap<String, Ownership>, BrokerError>;

    /// Every id of one kind that an org owns.
    async fn ids_of_org(&self, org: &str, kind: Kind) -> Result<Vec<String>, BrokerError>;

    /// Remembers a revocation and tells every replica through the control channel.
    async fn revoke(&self, revocation: &Revocation) -> Result<(), BrokerError>;

    /// Every revocation that is still remembered.
    async fn revocations(&self) -> Result<Vec<Revocation>, BrokerError>;

    /// Keeps what stands behind a ticket for `ttl`.
    async fn put_ticket(&self, ticket: &str, content: Bytes, ttl: Duration) -> Result<(), BrokerError>;

    /// Takes what stands behind a ticket: at most one caller ever gets it.
    async fn take_ticket(&self, ticket: &str) -> Result<Option<Bytes>, BrokerError>;

    /// Keeps a replica's figures for [`USAGE_AGE`]; `None` forgets them.
    async fn report_usage(&self, replica: &str, usage: Option<Bytes>) -> Result<(), BrokerError>;

    /// The figures of every replica that has told some, and is not older than that.
    async fn usage(&self) -> Result<Vec<(String, Bytes)>, BrokerError>;

    /// Tells every replica through the control channel that a client has come, with a number that is higher than
    /// those of all who came before, and answers that number.
    async fn register_client(&self, client: &str) -> Result<u64, BrokerError>;
}

/// A message on the control channel.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Control {
    /// A token or user was revoked.
    Revoked(Revocation),
    /// The directory's entry of this id changed; `ownership` as it stands now, with the org that had it before.
    Directory {
        /// The entry now (for a removal: what was removed).
        #[serde(rename = "claim")]
        ownership: Ownership,
        /// The org that owned it until now, when it moved.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        from: Option<String>,
        /// Whether the entry is gone.
        #[serde(default)]
        removed: bool,
    },
    /// A client has opened a socket: older ones of the same client are to be closed.
    Client {
        /// Which.
        client: String,
        /// Higher than those of all who came before.
        number: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_damaged_log_what_follows_the_damage_is_the_log() {
        let mut ids: Vec<EventId> = Vec::new();
        for n in 0..6 {
            ids.push(EventId::after(ids.last().copied(), format!("{n:06}").as_bytes().try_into().unwrap()));
        }
        let raw = |n: usize| Bytes::from(format!(r#"{{"id":"{}","type":"x"}}"#, ids[n]));
        let foreign = Bytes::from_static(b"foreign");
        let page = |entries: Vec<Bytes>| {
            let page = Page { head: Some(ids[5]), first: Some(ids[0]), at: Some(ids[0]), entries }.mended();
            (page.first, page.at, page.entries)
        };
        let sound = vec![raw(1), raw(2), raw(3)];
        assert_eq!(page(sound.clone()), (Some(ids[0]), Some(ids[0]), sound));
        assert_eq!(page(vec![]), (Some(ids[0]), Some(ids[0]), vec![]));
        assert_eq!(page(vec![raw(1), foreign.clone(), raw(3), raw(4)]), (Some(ids[3]), None, vec![raw(3), raw(4)]));
        assert_eq!(page(vec![foreign.clone(), raw(2)]), (Some(ids[2]), None, vec![raw(2)]));
        assert_eq!(page(vec![raw(1), raw(3)]), (Some(ids[3]), None, vec![raw(3)]));
        assert_eq!(page(vec![raw(1), foreign.clone()]), (Some(ids[0]), Some(ids[0]), vec![raw(1)]));
        assert_eq!(page(vec![foreign]), (None, None, vec![]));
    }
}
