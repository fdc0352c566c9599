//! A memory broker whose delivery fails on demand, and that records when it was asked for what.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use crewcast_events::{Channel, EventId, Namespaces};
use crewcast_store::{Append, AppendError, Ownership, OwnershipMode, OwnershipOutcome, Renewal, Transport};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::broker::{
    BrokerError, ExpiredLease, Link, Live, LogStore, Page, PubSub, Sink, Snapshot, StateDocuments, memory::MemoryBroker,
};

pub(in crate::relay::tests) struct LossyBroker {
    inner: MemoryBroker,
    sink: OnceLock<Arc<Lossy>>,
    /// Log reads that still fail.
    pub(in crate::relay::tests) failures: AtomicUsize,
    /// When heads were read.
    pub(in crate::relay::tests) compared: Mutex<Vec<Instant>>,
    pub(in crate::relay::tests) unsubscribed: Mutex<Vec<Instant>>,
    /// Reads of leases.
    lease_reads: AtomicUsize,
    refuses_renewals: AtomicBool,
}

struct Lossy {
    sink: Arc<dyn Sink>,
    loses: AtomicBool,
}

impl Sink for Lossy {
    fn message(&self, channel: &str, payload: Bytes) {
        if !self.loses.load(Ordering::Relaxed) {
            self.sink.message(channel, payload);
        }
    }

    fn control(&self, payload: Bytes) {
        self.sink.control(payload);
    }

    fn link(&self, link: Link) {
        self.sink.link(link);
    }

    fn missed(&self, channels: &[Channel]) {
        self.sink.missed(channels);
    }
}

impl LossyBroker {
    pub(in crate::relay::tests) fn new(namespaces: Namespaces) -> Self {
        Self {
            inner: MemoryBroker::new(namespaces),
            sink: OnceLock::new(),
            failures: AtomicUsize::new(0),
            compared: Mutex::default(),
            unsubscribed: Mutex::default(),
            lease_reads: AtomicUsize::new(0),
            refuses_renewals: AtomicBool::new(false),
        }
    }

    /// Whether messages are lost from now on.
    pub(in crate::relay::tests) fn lose(&self, loses: bool) {
        self.lossy().loses.store(loses, Ordering::Relaxed);
    }

    /// Reports the link's state. While the link is down, nothing is delivered.
    pub(in crate::relay::tests) fn link(&self, link: Link) {
        self.lose(link == Link::Down);
        self.lossy().link(link);
    }

    /// How many channels' leases were read.
    pub(in crate::relay::tests) fn lease_reads(&self) -> usize {
        self.lease_reads.load(Ordering::Relaxed)
    }

    /// Whether producers cannot renew from now on.
    pub(in crate::relay::tests) fn refuse_renewals(&self, refuses: bool) {
        self.refuses_renewals.store(refuses, Ordering::Relaxed);
    }

    fn lossy(&self) -> &Lossy {
        self.sink.get().expect("started")
    }
}

#[async_trait]
impl Transport for LossyBroker {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        self.inner.append(append).await
    }

    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError> {
        self.inner.publish_live(channel, message).await
    }

    async fn register(&self, ownership: &Ownership, mode: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        self.inner.register(ownership, mode).await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<(), AppendError> {
        if self.refuses_renewals.load(Ordering::Relaxed) {
            return Err(AppendError::Unavailable("cut".to_owned()));
        }
        self.inner.renew(renewals).await
    }
}

#[async_trait]
impl PubSub for LossyBroker {
    async fn start(&self, sink: Arc<dyn Sink>) -> Result<(), BrokerError> {
        let lossy = self.sink.get_or_init(|| Arc::new(Lossy { sink, loses: AtomicBool::new(false) }));
        self.inner.start(lossy.clone()).await
    }

    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        self.inner.subscribe(channels).await
    }

    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        self.unsubscribed.lock().push(Instant::now());
        self.inner.unsubscribe(channels).await
    }

    async fn barrier(&self) -> Result<(), BrokerError> {
        self.inner.barrier().await
    }

    async fn probe(&self) -> Result<Duration, BrokerError> {
        self.inner.probe().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl LogStore for LossyBroker {
    async fn snapshots(&self, channels: &[Channel]) -> Result<Vec<Snapshot>, BrokerError> {
        if !channels.is_empty() {
            self.compared.lock().push(Instant::now());
        }
        self.inner.snapshots(channels).await
    }

    async fn history(&self, channel: &Channel, offset: u64, limit: usize) -> Result<Page, BrokerError> {
        let fails = |left: usize| left.checked_sub(1);
        if self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails).is_ok() {
            return Err(BrokerError::Unavailable("cut".to_owned()));
        }
        self.inner.history(channel, offset, limit).await
    }

    async fn state(&self, channel: &Channel, within: Option<Duration>) -> Result<StateDocuments, BrokerError> {
        self.inner.state(channel, within).await
    }

    async fn live(&self, channel: &Channel, name: &str) -> Result<Live, BrokerError> {
        self.inner.live(channel, name).await
    }

    async fn next_lease_expiry(&self, channels: &[Channel]) -> Result<Vec<Option<Duration>>, BrokerError> {
        self.lease_reads.fetch_add(channels.len(), Ordering::Relaxed);
        self.inner.next_lease_expiry(channels).await
    }

    async fn expired_leases(&self, channel: &Channel) -> Result<Vec<ExpiredLease>, BrokerError> {
        self.inner.expired_leases(channel).await
    }
}
