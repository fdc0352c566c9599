//! Reads that sockets request besides events: a channel's state, and its last events of one type.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crewcast_events::{Channel, EventId};
use futures_util::FutureExt;

use super::LogPage;
use crate::{
    broker::{
        BrokerError, Live, LogStore, StateDocuments,
        captured::{ACTIVE_SESSIONS, SESSION, lines_of},
    },
    hub::Entry,
    state::StateSnapshot,
    telemetry::metrics::{Metric, counter},
    util::singleflight::Singleflight,
};

/// Maximum number of events of one [`Tail`].
const TAIL_EVENTS: usize = 500;
/// Maximum size of those events in bytes, beyond the newest one.
const TAIL_BYTES: usize = 1 << 20;
/// Entries of one page.
const PAGE: u64 = 256;

/// A channel's last events of one type.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// The last id given in the channel; `None`: nothing was ever logged there.
    pub head: Option<EventId>,
    /// Oldest first: at most 500, of 1 MiB.
    pub entries: Vec<Arc<Entry>>,
    /// Lines that live events brought, oldest first; `None`: live events have told nothing of the channel.
    pub live: Option<Vec<String>>,
}

/// Reads a channel's state and tail, with one read for all requests at the same moment.
pub(crate) struct ChannelReads {
    states: Arc<Singleflight<(Channel, Option<Duration>), StateDocuments, BrokerError>>,
    snapshots: Arc<Singleflight<Channel, StateSnapshot, BrokerError>>,
    last: Arc<Singleflight<(Channel, &'static str), Tail, BrokerError>>,
    live: Arc<Singleflight<(Channel, String), Live, BrokerError>>,
}

impl ChannelReads {
    /// Reads from this store.
    pub(crate) fn new(log: Arc<dyn LogStore>) -> Arc<Self> {
        let (of_states, of_snapshots, of_last, of_live) = (log.clone(), log.clone(), log.clone(), log);
        let states = Singleflight::new(move |(channel, within): (Channel, Option<Duration>)| {
            let log = of_states.clone();
            async move { read_state(&*log, &channel, within).await.map(Arc::new) }.boxed()
        });
        let snapshots = Singleflight::new(move |channel: Channel| {
            let log = of_snapshots.clone();
            async move { Ok(Arc::new(log.state(&channel, None).await?.into())) }.boxed()
        });
        let last = Singleflight::new(move |(channel, kind): (Channel, &'static str)| {
            let log = of_last.clone();
            async move { read_tail(&*log, &channel, kind).await.map(Arc::new) }.boxed()
        });
        let live = Singleflight::new(move |(channel, name): (Channel, String)| {
            let log = of_live.clone();
            async move { log.live(&channel, &name).await.map(Arc::new) }.boxed()
        });
        Arc::new(Self { states, snapshots, last, live })
    }

    /// A channel's state documents, as [`LogStore::state`].
    ///
    /// # Errors
    /// The broker's error.
    pub(crate) async fn state(
        &self,
        channel: Channel,
        within: Option<Duration>,
    ) -> Result<Arc<StateDocuments>, BrokerError> {
        self.states.ask((channel, within)).await
    }

    /// A channel's whole state, with a slot for the encoded message that all its readers share.
    ///
    /// # Errors
    /// The broker's error.
    pub(crate) async fn snapshot(&self, channel: Channel) -> Result<Arc<StateSnapshot>, BrokerError> {
        self.snapshots.ask(channel).await
    }

    /// What was captured under a name of a channel.
    ///
    /// # Errors
    /// The broker's error.
    pub(crate) async fn live(&self, channel: Channel, name: String) -> Result<Arc<Live>, BrokerError> {
        self.live.ask((channel, name)).await
    }

    /// The last events of one type that a channel's log holds, and what live events told of a session.
    ///
    /// # Errors
    /// The broker's error.
    pub(crate) async fn tail(&self, channel: Channel, kind: &'static str) -> Result<Arc<Tail>, BrokerError> {
        self.last.ask((channel, kind)).await
    }
}

/// Reads documents. A list of sessions includes the last list that a live event brought.
async fn read_state(
    log: &dyn LogStore,
    channel: &Channel,
    within: Option<Duration>,
) -> Result<StateDocuments, BrokerError> {
    let state = log.state(channel, within).await?;
    if within.is_none() {
        return Ok(state);
    }
    let live = log.live(channel, ACTIVE_SESSIONS).await?.last;
    Ok(StateDocuments { live, ..state })
}

/// Reads page by page from the end of the log, until there is enough.
async fn read_tail(log: &dyn LogStore, channel: &Channel, kind: &str) -> Result<Tail, BrokerError> {
    let snapshots = log.snapshots(std::slice::from_ref(channel)).await?;
    let head = snapshots.first().and_then(|snapshot| snapshot.head);
    let mut found = Found::default();
    let mut end = head.map_or(0, |id| id.offset());
    while end > 0 && !found.is_full {
        let begin = end.saturating_sub(PAGE);
        let (entries, is_first) = range(log, channel, begin, end).await?;
        for entry in entries.into_iter().rev() {
            if entry.event().is_some_and(|event| event.kind() == kind) {
                found.push_older(entry);
            }
        }
        end = if is_first { 0 } else { begin };
    }
    let lines = match channel.namespace() {
        SESSION => log.live(channel, SESSION).await?.lines,
        _ => Vec::new(),
    };
    let live = (!lines.is_empty()).then(|| lines_of(&lines));
    Ok(Tail { head, entries: found.entries.into(), live })
}

/// The log's entries behind `begin` up to `end`, and whether the log begins there.
async fn range(
    log: &dyn LogStore,
    channel: &Channel,
    begin: u64,
    end: u64,
) -> Result<(Vec<Arc<Entry>>, bool), BrokerError> {
    let (mut entries, mut at, mut is_first) = (Vec::new(), begin, false);
    // A page of large events ends early.
    while at < end {
        let limit = usize::try_from(end - at).unwrap_or(usize::MAX);
        let page = LogPage::new(log.history(channel, at, limit).await?, at);
        counter(Metric::HistoryReads, &[("source", "log")]).increment(1);
        is_first |= page.first.is_none_or(|first| first.offset() > begin);
        let Some(last) = page.entries.iter().filter_map(|entry| entry.id()).next_back() else { break };
        // If the log begins later than requested, the page reaches beyond the end.
        let is_in_range = |entry: &Arc<Entry>| entry.id().is_some_and(|id| id.offset() <= end);
        entries.extend(page.entries.into_iter().filter(is_in_range));
        at = last.offset();
    }
    Ok((entries, is_first))
}

/// What was found up to now, from the newest back.
#[derive(Default)]
struct Found {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    is_full: bool,
}

impl Found {
    fn push_older(&mut self, entry: Arc<Entry>) {
        self.bytes += entry.event().map_or(0, |event| event.raw().len());
        self.is_full |= self.entries.len() >= TAIL_EVENTS || (!self.entries.is_empty() && self.bytes > TAIL_BYTES);
        if !self.is_full {
            self.entries.push_front(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use crewcast_events::{Body, Namespaces};
    use crewcast_store::{Append, Entry as Published, Once, Transport};

    use super::*;
    use crate::broker::memory::MemoryBroker;

    fn channel() -> Channel {
        "session:s1".parse().unwrap()
    }

    /// Publishes this many lines, each `width` wide, each behind an event of another type.
    async fn broker(lines: usize, width: usize) -> Arc<MemoryBroker> {
        let broker = Arc::new(MemoryBroker::new(Namespaces::default()));
        for n in 1..=lines {
            let line = format!(r#"{{"type":"session_log","n":{n},"message":"{}"}}"#, "x".repeat(width));
            let entries = [r#"{"type":"session_state"}"#.to_owned(), line];
            let entries = entries.map(|text| Published::new(Body::parse(text).unwrap())).into();
            broker.append(&Append { channel: channel(), entries, once: Once::No }).await.unwrap();
        }
        broker
    }

    async fn last(lines: usize, width: usize) -> Vec<u64> {
        let channel_reads = ChannelReads::new(broker(lines, width).await);
        let last = channel_reads.tail(channel(), "session_log").await.unwrap();
        assert_eq!(last.head.map_or(0, |id| id.offset()), 2 * lines as u64);
        let number = |entry: &Arc<Entry>| {
            let text = entry.event().expect("events only").text();
            serde_json::from_str::<serde_json::Value>(text).unwrap()["n"].as_u64().unwrap()
        };
        last.entries.iter().map(number).collect()
    }

    #[tokio::test]
    async fn the_tail_of_a_type_is_in_order_and_bounded() {
        assert_eq!(last(0, 1).await, Vec::<u64>::new());
        assert_eq!(last(3, 1).await, [1, 2, 3]);
        assert_eq!(last(200, 1).await, (1..=200).collect::<Vec<_>>(), "over several pages");
        // A session's log holds 1000 events, half of which are lines.
        assert_eq!(last(700, 1).await, (201..=700).collect::<Vec<_>>(), "where the log begins");
        assert_eq!(last(12, 200_000).await, (8..=12).collect::<Vec<_>>(), "of 1 MiB");
        assert_eq!(last(2, 1_100_000).await, [2], "the newest, however large");
    }
}
