//! A broker inside this process: for development, for tests, and for one gateway that needs no Redis.

mod leases;
mod log;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId, Namespace, Namespaces};
use crewcast_store::{Append, AppendError, Ownership, OwnershipMode, OwnershipOutcome, Renewal, Transport};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::log::ChannelLog;
use super::captured::captured;
use super::{BrokerError, ExpiredLease, Link, Live, LogStore, Page, PubSub, Sink, Snapshot, StateDocuments};
use crate::{
    registry::{Control, memory::MemoryRegistry},
    telemetry::metrics::{Metric, gauge},
};

/// How often everything that has outlived its age is dropped, even if it is never read again.
const SWEEP: Duration = Duration::from_secs(60);

/// The broker in memory. Its link is never down. Ages count in tokio's time.
pub(crate) struct MemoryBroker {
    namespaces: Namespaces,
    /// Held while the sink is called, so that it hears messages in the order of their publishing.
    inner: Mutex<Inner>,
}

struct Inner {
    sink: Option<Arc<dyn Sink>>,
    subscribed: HashSet<Channel>,
    channels: HashMap<Channel, ChannelLog>,
    registry: MemoryRegistry,
    next_sweep: Instant,
}

impl MemoryBroker {
    /// A broker with empty logs that follow the rules of `namespaces`.
    pub(crate) fn new(namespaces: Namespaces) -> Self {
        let inner = Inner {
            sink: None,
            subscribed: HashSet::new(),
            channels: HashMap::new(),
            registry: MemoryRegistry::default(),
            next_sweep: Instant::now() + SWEEP,
        };
        Self { namespaces, inner: Mutex::new(inner) }
    }

    fn rules(&self, channel: &Channel) -> Result<&Namespace, AppendError> {
        let unknown = || AppendError::Refused(format!("the namespace {} is not configured", channel.namespace()));
        self.namespaces.of(channel).ok_or_else(unknown)
    }

    /// Reads or changes the registry, and sends the control message of the change to the sink.
    pub(crate) fn with_registry<T>(&self, act: impl FnOnce(&mut MemoryRegistry) -> (T, Option<Control>)) -> T {
        let mut inner = self.inner.lock();
        inner.sweep(Instant::now());
        let (answer, control) = act(&mut inner.registry);
        if let Some(control) = &control {
            inner.tell(control);
        }
        answer
    }
}

impl Inner {
    /// Called with every write, so that nothing grows without being swept.
    fn sweep(&mut self, now: Instant) {
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.channels.retain(|_, log| !log.expire(now));
            self.registry.expire(now);
        }
    }

    fn log(&mut self, channel: &Channel, rules: &Namespace, now: Instant) -> &mut ChannelLog {
        self.sweep(now);
        self.channels.entry(channel.clone()).or_insert_with(|| ChannelLog::new(rules.log.age, now))
    }

    fn deliver(&self, channel: &Channel, message: Bytes) {
        let Some(sink) = &self.sink else { return };
        let overheard = message.clone();
        if self.subscribed.contains(channel) {
            sink.message(channel.as_str(), message);
        }
        sink.overheard(channel.as_str(), &overheard);
    }

    fn tell(&self, control: &Control) {
        // Serialising a control message cannot fail: it holds texts and numbers only.
        if let (Some(sink), Ok(text)) = (&self.sink, serde_json::to_vec(control)) {
            sink.control(text.into());
        }
    }
}

#[async_trait]
impl Transport for MemoryBroker {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        let rules = self.rules(&append.channel)?;
        append.validate(rules)?;
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let appended = inner.log(&append.channel, rules, now).append(append, rules, now)?;
        for message in appended.messages {
            inner.deliver(&append.channel, message);
        }
        Ok(appended.ids)
    }

    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError> {
        let rules = self.rules(channel)?;
        let event = Event::parse(message.clone()).ok().filter(|event| event.id().is_none());
        let captured = event.map(|event| captured(channel, rules, &event)).unwrap_or_default();
        let now = Instant::now();
        let mut inner = self.inner.lock();
        for captured in captured {
            inner.log(channel, rules, now).capture(captured, message.clone(), now);
        }
        inner.deliver(channel, message);
        Ok(())
    }

    async fn register(&self, ownership: &Ownership, mode: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        for id in [&ownership.id, &ownership.org].into_iter().chain(&ownership.crew) {
            Channel::new(ownership.kind.as_str(), id).map_err(|error| AppendError::Refused(error.to_string()))?;
        }
        let mut inner = self.inner.lock();
        let outcome = inner.registry.register(ownership, mode);
        if outcome.lost {
            for channel in self.namespaces.channels_of(ownership.kind, &ownership.id) {
                if let Some(log) = inner.channels.get_mut(&channel) {
                    log.hand_over();
                }
            }
        }
        if let Some(control) = &outcome.control {
            inner.tell(control);
        }
        Ok(outcome.outcome)
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<(), AppendError> {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        for renewal in renewals {
            if let Some(log) = inner.channels.get_mut(&renewal.channel) {
                log.leases.renew(renewal, now);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl PubSub for MemoryBroker {
    async fn start(&self, sink: Arc<dyn Sink>) -> Result<(), BrokerError> {
        let mut inner = self.inner.lock();
        gauge(Metric::BrokerUp, &[]).set(1.0);
        sink.link(Link::Up);
        inner.sink = Some(sink);
        Ok(())
    }

    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        self.inner.lock().subscribed.extend(channels.iter().cloned());
        Ok(())
    }

    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        let mut inner = self.inner.lock();
        for channel in channels {
            inner.subscribed.remove(channel);
        }
        Ok(())
    }

    async fn barrier(&self) -> Result<(), BrokerError> {
        // Publishing delivers under this lock: once it is free, everything published before is delivered.
        drop(self.inner.lock());
        Ok(())
    }

    async fn probe(&self) -> Result<Duration, BrokerError> {
        let start = Instant::now();
        self.barrier().await?;
        Ok(start.elapsed())
    }

    async fn close(&self) {
        self.inner.lock().sink = None;
    }
}

#[async_trait]
impl LogStore for MemoryBroker {
    async fn snapshots(&self, channels: &[Channel]) -> Result<Vec<Snapshot>, BrokerError> {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let mut one = |channel| {
            let mut snapshot = inner.channels.get_mut(channel).map(|log| log.snapshot(now)).unwrap_or_default();
            if !self.namespaces.of(channel).is_some_and(|rules| rules.retain) {
                snapshot.retained = None;
            }
            snapshot
        };
        Ok(channels.iter().map(&mut one).collect())
    }

    async fn history(&self, channel: &Channel, offset: u64, limit: usize) -> Result<Page, BrokerError> {
        let mut inner = self.inner.lock();
        let log = inner.channels.get_mut(channel);
        Ok(log.map(|log| log.history(offset, limit, Instant::now())).unwrap_or_default())
    }

    async fn state(&self, channel: &Channel, within: Option<Duration>) -> Result<StateDocuments, BrokerError> {
        let mut inner = self.inner.lock();
        let log = inner.channels.get_mut(channel);
        Ok(log.map(|log| log.state(within, Instant::now())).unwrap_or_default())
    }

    async fn live(&self, channel: &Channel, name: &str) -> Result<Live, BrokerError> {
        let inner = self.inner.lock();
        Ok(inner.channels.get(channel).map(|log| log.live(name)).unwrap_or_default())
    }

    async fn next_lease_expiry(&self, channels: &[Channel]) -> Result<Vec<Option<Duration>>, BrokerError> {
        let now = Instant::now();
        let inner = self.inner.lock();
        Ok(channels.iter().map(|channel| inner.channels.get(channel)?.leases.next_expiry(now)).collect())
    }

    async fn expired_leases(&self, channel: &Channel) -> Result<Vec<ExpiredLease>, BrokerError> {
        let inner = self.inner.lock();
        Ok(inner.channels.get(channel).map(|log| log.leases.expired_leases(Instant::now())).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
