//! Shared by the tests of several modules.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use crewcast_events::{Body, Channel, EventId, Namespaces};
use crewcast_store::{
    Append, AppendError, Entry, Once, Ownership, OwnershipMode, OwnershipOutcome, Renewal, State, Transport,
};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::RwLock;

use crate::broker::{
    Broker, BrokerError, ExpiredLease, Live, LogStore, Page, PubSub, Sink, Snapshot, StateDocuments,
    memory::MemoryBroker,
};

/// The outcome of a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Probe {
    Returns,
    Fails,
    Hangs,
}

/// A memory broker whose logs and appends fail when a test says so. Delivery is that of `inner`.
pub(crate) struct FaultyBroker {
    pub inner: Arc<MemoryBroker>,
    /// Publishing calls that still succeed.
    pub calls_left: AtomicUsize,
    /// Number of entries of each successful append.
    pub appends: Mutex<Vec<usize>>,
    /// Reads of logs so far.
    pub reads: AtomicUsize,
    /// Reads of states so far.
    pub state_reads: AtomicUsize,
    /// While write-locked, logs and states are read but the answers wait.
    pub answers: RwLock<()>,
}

impl FaultyBroker {
    pub(crate) fn new(namespaces: Namespaces) -> Self {
        Self {
            inner: Arc::new(MemoryBroker::new(namespaces)),
            calls_left: AtomicUsize::new(usize::MAX),
            appends: Mutex::default(),
            reads: AtomicUsize::new(0),
            state_reads: AtomicUsize::new(0),
            answers: RwLock::new(()),
        }
    }

    /// All sides of the broker.
    pub(crate) fn sides(self: &Arc<Self>) -> Broker {
        Broker { pubsub: self.inner.clone(), log: self.clone(), transport: self.clone() }
    }

    fn call(&self) -> Result<(), String> {
        let take = |left: usize| left.checked_sub(1);
        let taken = self.calls_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map(|_| ()).map_err(|_| "redis://:hunter2@10.0.0.7 refused".to_owned())
    }
}

#[async_trait]
impl Transport for FaultyBroker {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        self.call().map_err(AppendError::Unavailable)?;
        self.appends.lock().push(append.entries.len());
        self.inner.append(append).await
    }

    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError> {
        self.call().map_err(AppendError::Unavailable)?;
        self.inner.publish_live(channel, message).await
    }

    async fn register(&self, ownership: &Ownership, mode: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        self.call().map_err(AppendError::Unavailable)?;
        self.inner.register(ownership, mode).await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<(), AppendError> {
        self.inner.renew(renewals).await
    }
}

#[async_trait]
impl LogStore for FaultyBroker {
    async fn snapshots(&self, channels: &[Channel]) -> Result<Vec<Snapshot>, BrokerError> {
        self.inner.snapshots(channels).await
    }

    async fn history(&self, channel: &Channel, offset: u64, limit: usize) -> Result<Page, BrokerError> {
        self.call().map_err(BrokerError::Unavailable)?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        let page = self.inner.history(channel, offset, limit).await;
        let _answer = self.answers.read().await;
        page
    }

    async fn state(&self, channel: &Channel, within: Option<Duration>) -> Result<StateDocuments, BrokerError> {
        self.call().map_err(BrokerError::Unavailable)?;
        let state = self.inner.state(channel, within).await;
        self.state_reads.fetch_add(1, Ordering::Relaxed);
        let _answer = self.answers.read().await;
        state
    }

    async fn live(&self, channel: &Channel, name: &str) -> Result<Live, BrokerError> {
        self.call().map_err(BrokerError::Unavailable)?;
        self.inner.live(channel, name).await
    }

    async fn next_lease_expiry(&self, channels: &[Channel]) -> Result<Vec<Option<Duration>>, BrokerError> {
        self.inner.next_lease_expiry(channels).await
    }

    async fn expired_leases(&self, channel: &Channel) -> Result<Vec<ExpiredLease>, BrokerError> {
        self.inner.expired_leases(channel).await
    }
}

/// Probes that end as a test says. Nothing is delivered.
pub(crate) struct FakeProbes(Mutex<VecDeque<Probe>>);

impl FakeProbes {
    /// What the next probes meet; the last one stays.
    pub(crate) fn new(probes: &[Probe]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(probes.iter().copied().collect())))
    }

    pub(crate) fn set(&self, probe: Probe) {
        *self.0.lock() = [probe].into();
    }
}

#[async_trait]
impl PubSub for FakeProbes {
    async fn start(&self, _: Arc<dyn Sink>) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn subscribe(&self, _: &[Channel]) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn unsubscribe(&self, _: &[Channel]) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn barrier(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn probe(&self) -> Result<Duration, BrokerError> {
        let probe = {
            let mut probes = self.0.lock();
            if probes.len() > 1 { probes.pop_front() } else { probes.front().copied() }
        };
        match probe {
            Some(Probe::Fails) => Err(BrokerError::Unavailable("cut".to_owned())),
            Some(Probe::Hangs) => pending().await,
            _ => Ok(Duration::from_millis(1)),
        }
    }

    async fn close(&self) {}
}

/// Appends an event that sets a state document.
pub(crate) async fn append_state(broker: &dyn Transport, channel: &str, event: &str, key: &str, document: &str) {
    let value = RawValue::from_string(document.to_owned()).expect("JSON");
    let state = State { key: key.to_owned(), value: Some(value.into()) };
    let body = Body::parse(event.to_owned()).expect("an event");
    let entry = Entry { state: Some(state), ..Entry::new(body) };
    let append = Append { channel: channel.parse().expect("a channel"), entries: vec![entry], once: Once::No };
    broker.append(&append).await.expect("a broker that is there");
}
