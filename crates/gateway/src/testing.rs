//! What tests of several modules share.

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

use crate::broker::{Broker, BrokerError, ExpiredLease, Page, Sink, Snapshot, StateDocuments, memory::MemoryBroker};

/// What becomes of a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    Returns,
    Fails,
    Hangs,
}

/// A memory broker that fails when a test says so.
pub struct FaultyBroker {
    pub inner: Arc<MemoryBroker>,
    /// Publishing calls that still succeed.
    pub calls_left: AtomicUsize,
    /// Entries of each append that came through.
    pub appends: Mutex<Vec<usize>>,
    /// What the next probes meet; the last one stays.
    pub probes: Mutex<VecDeque<Probe>>,
    /// Reads of logs so far.
    pub reads: AtomicUsize,
    /// Reads of states so far.
    pub state_reads: AtomicUsize,
    /// While it is held, logs and states are read but nobody is answered.
    pub answers: RwLock<()>,
}

impl FaultyBroker {
    pub fn new(namespaces: Namespaces) -> Self {
        Self {
            inner: Arc::new(MemoryBroker::new(namespaces)),
            calls_left: AtomicUsize::new(usize::MAX),
            appends: Mutex::default(),
            probes: Mutex::new(VecDeque::from([Probe::Returns])),
            reads: AtomicUsize::new(0),
            state_reads: AtomicUsize::new(0),
            answers: RwLock::new(()),
        }
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
impl Broker for FaultyBroker {
    async fn start(&self, sink: Arc<dyn Sink>) -> Result<(), BrokerError> {
        self.inner.start(sink).await
    }

    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        self.inner.subscribe(channels).await
    }

    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        self.inner.unsubscribe(channels).await
    }

    async fn barrier(&self) -> Result<(), BrokerError> {
        self.inner.barrier().await
    }

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

    async fn next_lease_expiry(&self, channels: &[Channel]) -> Result<Vec<Option<Duration>>, BrokerError> {
        self.inner.next_lease_expiry(channels).await
    }

    async fn expired_leases(&self, channel: &Channel) -> Result<Vec<ExpiredLease>, BrokerError> {
        self.inner.expired_leases(channel).await
    }

    async fn probe(&self) -> Result<Duration, BrokerError> {
        let probe = {
            let mut probes = self.probes.lock();
            if probes.len() > 1 { probes.pop_front() } else { probes.front().copied() }
        };
        match probe {
            Some(Probe::Fails) => Err(BrokerError::Unavailable("cut".to_owned())),
            Some(Probe::Hangs) => pending().await,
            _ => Ok(Duration::from_millis(1)),
        }
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// Appends an event that sets a state document.
pub async fn append_state(broker: &dyn Broker, channel: &str, event: &str, key: &str, document: &str) {
    let value = RawValue::from_string(document.to_owned()).expect("JSON");
    let state = State { key: key.to_owned(), value: Some(value.into()) };
    let body = Body::parse(event.to_owned()).expect("an event");
    let entry = Entry { state: Some(state), ..Entry::new(body) };
    let append = Append { channel: channel.parse().expect("a channel"), entries: vec![entry], once: Once::No };
    broker.append(&append).await.expect("a broker that is there");
}
