//! Reads of the log, shared: readers who ask for the same stretch at the same time cause one read.

use std::sync::Arc;

use crewcast_events::{Channel, Event, EventId};
use dashmap::DashMap;
use futures_util::{FutureExt, future::BoxFuture, future::Shared};

use crate::{
    broker::{Broker, BrokerError, Page},
    hub::{Entry, Item},
    telemetry::metrics::{Metric, counter},
};

/// Entries of one page.
pub(super) const PAGE: usize = 256;

type Reading = Shared<BoxFuture<'static, Result<Arc<LogPage>, BrokerError>>>;

/// A [`Page`] as readers share it: each entry is parsed and encoded once, however many read it.
#[derive(Debug)]
pub struct LogPage {
    /// The last id given in the channel.
    pub head: Option<EventId>,
    /// The log's first entry.
    pub first: Option<EventId>,
    /// The log's entry with the offset that was asked to read after.
    pub at: Option<EventId>,
    /// The entries behind that offset, oldest first.
    pub entries: Vec<Arc<Entry>>,
}

impl From<Page> for LogPage {
    fn from(page: Page) -> Self {
        let events = page.entries.into_iter().filter_map(|raw| Event::parse(raw).ok());
        let entries = events.map(|event| {
            let id = event.id();
            Arc::new(Entry::new(Item::Event(event), id))
        });
        Self { head: page.head, first: page.first, at: page.at, entries: entries.collect() }
    }
}

/// The log side of every reader.
pub struct History {
    broker: Arc<dyn Broker>,
    under_way: DashMap<(Channel, u64, usize), Reading>,
}

impl History {
    /// Reads from this broker.
    pub fn new(broker: Arc<dyn Broker>) -> Arc<Self> {
        Arc::new(Self { broker, under_way: DashMap::new() })
    }

    /// A page of the log behind `offset`.
    ///
    /// # Errors
    /// What the broker answers.
    pub async fn page(self: Arc<Self>, channel: Channel, offset: u64) -> Result<Arc<LogPage>, BrokerError> {
        self.read(channel, offset, PAGE).await
    }

    /// The log's entry at `offset`, if it holds one.
    ///
    /// # Errors
    /// What the broker answers.
    pub async fn at(self: Arc<Self>, channel: Channel, offset: u64) -> Result<Arc<LogPage>, BrokerError> {
        self.read(channel, offset.saturating_sub(1), 1).await
    }

    async fn read(self: Arc<Self>, channel: Channel, offset: u64, limit: usize) -> Result<Arc<LogPage>, BrokerError> {
        let key = (channel, offset, limit);
        let reading = self.under_way.entry(key.clone()).or_insert_with(|| self.begin(&key)).clone();
        let page = reading.clone().await;
        // A later reader must see later events: only readers of the same moment share.
        self.under_way.remove_if(&key, |_, now| now.ptr_eq(&reading));
        page
    }

    fn begin(&self, key: &(Channel, u64, usize)) -> Reading {
        counter(Metric::HistoryReads, &[("source", "log")]).increment(1);
        let (broker, (channel, offset, limit)) = (self.broker.clone(), key.clone());
        async move { broker.history(&channel, offset, limit).await.map(|page| Arc::new(page.into())) }.boxed().shared()
    }
}
