//! Shared reads of the log: readers that want the same range, or resume at the same time, cause one read.

use std::sync::Arc;

use crewcast_events::{Channel, Event, EventId};
use dashmap::{DashMap, Entry as MapEntry};
use futures_util::{FutureExt, future::Shared};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::{
    broker::{BrokerError, LogStore, Page},
    hub::{Entry, Hub, Item},
    telemetry::metrics::{Metric, counter},
};

/// Entries of one page.
pub(super) const PAGE: usize = 256;
/// How many entries earlier than needed the read for a resuming reader begins: other readers resume with it, and some
/// have seen a little less.
pub(super) const LOOK_BACK: usize = 128;
/// How many shared reads a resuming reader waits for without success before it reads for itself alone.
const SHARED_READS: usize = 4;

type ReadResult = Result<Arc<LogPage>, BrokerError>;
type Reading = Shared<oneshot::Receiver<ReadResult>>;

/// The part of the log that a reader wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogRange {
    /// The entries behind this offset (0: from the beginning).
    After(u64),
    /// The entries behind this event, for a reader that resumes: the page may begin earlier.
    Resume(EventId),
}

/// A [`Page`] that readers share: each entry is parsed and encoded once, however many read it.
#[derive(Debug)]
pub(crate) struct LogPage {
    /// The last id given in the channel.
    pub head: Option<EventId>,
    /// The log's first entry.
    pub first: Option<EventId>,
    /// The offset after which the page was read.
    pub after: u64,
    /// The log's entry with that offset.
    pub at: Option<EventId>,
    /// The entries behind that offset, oldest first.
    pub entries: Vec<Arc<Entry>>,
}

impl LogPage {
    pub(crate) fn new(page: Page, after: u64) -> Self {
        let events = page.entries.into_iter().filter_map(|raw| Event::parse(raw).ok());
        let windows = Arc::default();
        let entries = events.zip(0..).map(|(event, place)| {
            let id = event.id();
            Arc::new(Entry::new(Item::Event(event), id).at(&windows, place))
        });
        Self { head: page.head, first: page.first, after, at: page.at, entries: entries.collect() }
    }

    /// The log's entry with this offset, if the page shows it.
    pub(crate) fn at(&self, offset: u64) -> Option<EventId> {
        if offset == self.after {
            return self.at;
        }
        let ids = self.entries.iter().filter_map(|entry| entry.id());
        ids.into_iter().find(|id| id.offset() == offset)
    }

    /// The entries behind this offset, oldest first.
    pub(crate) fn behind(&self, offset: u64) -> &[Arc<Entry>] {
        let is_before = |entry: &Arc<Entry>| entry.id().is_some_and(|id| id.offset() <= offset);
        &self.entries[self.entries.partition_point(is_before)..]
    }

    /// Whether a reader that has seen `id` advances with this page.
    fn continues_from(&self, id: EventId) -> bool {
        self.at(id.offset()) == Some(id) && !self.behind(id.offset()).is_empty()
    }

    /// Whether the page is full before it gets behind `id`.
    fn falls_short_of(&self, id: EventId) -> bool {
        self.last().is_some_and(|last| last.offset() <= id.offset() && Some(last) != self.head)
    }

    fn last(&self) -> Option<EventId> {
        self.entries.last().and_then(|entry| entry.id())
    }
}

/// The log side of every reader.
pub(crate) struct History {
    log: Arc<dyn LogStore>,
    hub: Arc<Hub>,
    /// Reads of one range.
    under_way: DashMap<ReadKey, Reading>,
    /// Reads for resuming readers.
    resuming: DashMap<Channel, Reading>,
    tasks: TaskTracker,
}

type ReadKey = (Channel, u64, usize);

impl History {
    /// Reads from `log`, and prepends what leads up to a channel's ring to that ring in `hub`.
    pub(crate) fn new(log: Arc<dyn LogStore>, hub: Arc<Hub>) -> Arc<Self> {
        let tasks = TaskTracker::new();
        Arc::new(Self { log, hub, under_way: DashMap::new(), resuming: DashMap::new(), tasks })
    }

    /// Returns when no read is under way. Each ends with its answer, or when the broker's time to answer is over.
    pub(crate) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A page of the log; `None` if the channel's ring now holds what is wanted.
    ///
    /// # Errors
    /// The broker's error.
    pub(crate) async fn page(
        self: Arc<Self>,
        channel: Channel,
        range: LogRange,
    ) -> Result<Option<Arc<LogPage>>, BrokerError> {
        match range {
            LogRange::After(offset) => self.read((channel, offset, PAGE)).await.map(Some),
            LogRange::Resume(id) => self.resume(channel, id).await,
        }
    }

    /// The log's entry at `offset`, if the log holds one.
    ///
    /// # Errors
    /// The broker's error.
    pub(crate) async fn at(self: Arc<Self>, channel: Channel, offset: u64) -> ReadResult {
        self.read((channel, offset.saturating_sub(1), 1)).await
    }

    /// Waits for a read of the channel that is under way, if there is one.
    ///
    /// Another reader's page counts if it shows the very event that this reader has seen, and what follows. Only a read
    /// of its own can prove that the event is missing: another's may have begun before that event was written.
    async fn resume(self: Arc<Self>, channel: Channel, id: EventId) -> Result<Option<Arc<LogPage>>, BrokerError> {
        for _ in 0..SHARED_READS {
            let (reading, is_own) = match self.resuming.entry(channel.clone()) {
                MapEntry::Occupied(under_way) => (under_way.get().clone(), false),
                // A read may have ended just now: its page enters the ring before it stops being under way.
                MapEntry::Vacant(_) if self.hub.continues_from(&channel, id) => return Ok(None),
                MapEntry::Vacant(vacant) => (vacant.insert(self.begin_to_resume(channel.clone(), id)).clone(), true),
            };
            let page = answer(reading).await?;
            if is_own || page.continues_from(id) {
                return Ok(Some(page));
            }
        }
        self.read((channel, id.offset(), PAGE)).await.map(Some)
    }

    async fn read(self: Arc<Self>, key: ReadKey) -> ReadResult {
        let reading = self.under_way.entry(key.clone()).or_insert_with(|| self.begin(key)).clone();
        answer(reading).await
    }

    /// Begins a read in a task of its own: if its reader goes away, the read still ends and gives back its connection.
    fn begin(self: &Arc<Self>, key: ReadKey) -> Reading {
        let history = self.clone();
        let (answer, reading) = oneshot::channel();
        self.tasks.spawn(async move {
            let (channel, offset, limit) = &key;
            let page = history.read_log(channel, *offset, *limit).await;
            // Before the answer is sent: readers that ask from now on must see later events.
            history.under_way.remove(&key);
            let _ = answer.send(page);
        });
        reading.shared()
    }

    fn begin_to_resume(self: &Arc<Self>, channel: Channel, id: EventId) -> Reading {
        let history = self.clone();
        let (answer, reading) = oneshot::channel();
        self.tasks.spawn(async move {
            let page = history.look_back(&channel, id).await;
            history.resuming.remove(&channel);
            let _ = answer.send(page);
        });
        reading.shared()
    }

    /// Reads a page that begins before `id` and reaches beyond it, if the log does. With large events it begins less
    /// far back.
    async fn look_back(&self, channel: &Channel, id: EventId) -> ReadResult {
        let mut back = LOOK_BACK;
        loop {
            let page = self.read_log(channel, id.offset().saturating_sub(back as u64), PAGE + back).await?;
            if back == 0 || !page.falls_short_of(id) {
                return Ok(page);
            }
            back = back.min(page.entries.len()) / 2;
        }
    }

    async fn read_log(&self, channel: &Channel, offset: u64, limit: usize) -> ReadResult {
        let page = self.log.history(channel, offset, limit).await?;
        counter(Metric::HistoryReads, &[("source", "log")]).increment(1);
        let page = LogPage::new(page, offset);
        self.hub.prepend(channel, page.at, &page.entries);
        Ok(Arc::new(page))
    }
}

async fn answer(reading: Reading) -> ReadResult {
    reading.await.unwrap_or_else(|_| Err(BrokerError::Unavailable("the read was cancelled".to_owned())))
}
