//! Where events come from: Pub/Sub channels, each with a log.
//!
//! A broker has three sides, and each consumer takes those that it needs: [`PubSub`] delivers, [`LogStore`] reads what
//! was stored, [`Transport`] publishes. Two implementations, [`memory`] and [`redis`], pass one conformance suite
//! (`broker/conformance/`).
//!
//! # The delivery promise of a broker
//! - After [`PubSub::subscribe`] has returned for a channel, every message published there reaches the
//!   sink, in the order of publishing, until `unsubscribe` or until the link is lost.
//! - [`Sink::link`] announces a lost link with [`Link::Down`] no later than one heartbeat after the first missed
//!   message. [`Link::Up`] follows only after every subscribed channel has been subscribed again and confirmed.
//!   Messages published in between are missing: only the log has them.
//! - An append is atomic: id, log, head, retained value, state and publishing, or nothing.
//! - The sink's methods are called from one task at a time, in order, and must not block.

pub(crate) mod captured;
#[cfg(test)]
mod conformance;
pub(crate) mod memory;
pub(crate) mod redis;
mod state;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use crewcast_events::{Channel, EventId};
use crewcast_store::Transport;

use crate::util::singleflight::Cancelled;

pub(crate) use captured::Live;
pub(crate) use state::{ExpiredLease, MAX_DOCUMENTS, MAX_EXPIRED, STATE_BYTES, StateDocuments};

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

impl From<Cancelled> for BrokerError {
    fn from(_: Cancelled) -> Self {
        BrokerError::Unavailable("the read was cancelled".to_owned())
    }
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
    /// Takes a message of a subscribed channel. `channel` is the name without prefix.
    fn message(&self, channel: &str, payload: Bytes);
    /// Takes a message of any channel of an id in the directory, if the broker was made to overhear them.
    fn overheard(&self, channel: &str, payload: &Bytes) {
        let _ = (channel, payload);
    }
    /// Takes a message for every replica: a revocation or a change of the directory (JSON).
    fn control(&self, payload: Bytes);
    /// Takes a change of the link.
    fn link(&self, link: Link);
    /// Takes channels that are delivered, but may have missed messages just now: they moved from one server to another.
    fn missed(&self, channels: &[Channel]);
}

/// A channel's head and retained value at one moment, read atomically.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// The last id given.
    pub head: Option<EventId>,
    /// The retained message, if the namespace retains one: logged or captured live.
    pub retained: Option<Bytes>,
}

/// A range of a channel's log, read atomically.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// The last id given in the channel; it outlives the log.
    pub head: Option<EventId>,
    /// The log's first entry.
    pub first: Option<EventId>,
    /// The log's entry with the offset after which the page was read.
    pub at: Option<EventId>,
    /// The entries behind that offset (or from the log's first, if that is later), oldest first.
    pub entries: Vec<Bytes>,
}

impl Page {
    /// Keeps what is a log in a page into which another program has written: only the last entries that follow each
    /// other count, as in the script that reads them. A page that ends with the damage ends before it, if it holds
    /// more.
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
pub(crate) const PAGE_BYTES: usize = 256 << 10;

/// Delivery through Pub/Sub.
#[async_trait]
pub trait PubSub: Send + Sync + 'static {
    /// Starts to deliver into `sink`. Called once, before anything else. Returns when the link is up, or with
    /// an error when the first attempt failed; the broker then keeps trying and announces success by [`Link::Up`].
    async fn start(&self, sink: Arc<dyn Sink>) -> Result<(), BrokerError>;

    /// Subscribes to channels and waits until all are confirmed. May be called while the link is down: the
    /// channels are remembered and subscribed with the next link. The call waits for it at most a second, then fails.
    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BrokerError>;

    /// Ends subscriptions.
    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BrokerError>;

    /// Returns when every message published before the call has reached the sink.
    async fn barrier(&self) -> Result<(), BrokerError>;

    /// Publishes a probe and waits until it has come back through this replica's own subscription.
    async fn probe(&self) -> Result<Duration, BrokerError>;

    /// Stops delivering and closes the broker's connections, those of its other sides included.
    async fn close(&self);
}

/// Reads what is stored for the channels. Appends go through [`Transport`].
#[async_trait]
pub(crate) trait LogStore: Send + Sync + 'static {
    /// Heads and retained values of several channels, pipelined, in the order asked.
    async fn snapshots(&self, channels: &[Channel]) -> Result<Vec<Snapshot>, BrokerError>;

    /// At most `limit` entries behind `offset` (0: from the beginning).
    async fn history(&self, channel: &Channel, offset: u64, limit: usize) -> Result<Page, BrokerError>;

    /// State documents and the head that they belong to: at most [`MAX_DOCUMENTS`] of [`STATE_BYTES`]. With `within`,
    /// only those with a lease of the same name that was renewed at most that long ago.
    async fn state(&self, channel: &Channel, within: Option<Duration>) -> Result<StateDocuments, BrokerError>;

    /// What was captured under this name of a channel.
    async fn live(&self, channel: &Channel, name: &str) -> Result<Live, BrokerError>;

    /// How long until a lease of each channel expires, pipelined, in the order asked; `None` where none will.
    async fn next_lease_expiry(&self, channels: &[Channel]) -> Result<Vec<Option<Duration>>, BrokerError>;

    /// The leases of a channel whose expiry is to be published now, at most [`MAX_EXPIRED`]. It is published by an
    /// append with [`crewcast_store::LeaseStep::Expire`], which happens once, whichever replicas have asked.
    async fn expired_leases(&self, channel: &Channel) -> Result<Vec<ExpiredLease>, BrokerError>;
}

/// One broker, by its sides.
#[derive(Clone)]
pub(crate) struct Broker {
    /// Delivers.
    pub pubsub: Arc<dyn PubSub>,
    /// Reads what was stored.
    pub log: Arc<dyn LogStore>,
    /// Publishes.
    pub transport: Arc<dyn Transport>,
}

impl Broker {
    /// A broker of which one object has all sides.
    pub(crate) fn of<B: PubSub + LogStore + Transport>(broker: Arc<B>) -> Self {
        Self { pubsub: broker.clone(), log: broker.clone(), transport: broker }
    }
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
