//! The bounded queue between emitters and the background task: a lane per channel.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use crewcast_events::Channel;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    append::{Claim, Entry, MAX_ENTRIES, Once},
    tally::Reason,
};

/// Most bytes of one batch beyond its first event: bounds a script's run and an HTTP body.
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// How many idle lanes are remembered, so that their producers go on counting. Twice as many stand at most.
const IDLE_LANES: usize = 1024;

/// Which event gives way when the queue is full, among those that matter least.
///
/// What matters least goes first, whatever the policy: progress (types that end in `_progress`), then
/// everything else, and only when nothing else is left starts and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DropPolicy {
    /// The oldest: what is sent in the end is the latest.
    #[default]
    Oldest,
    /// The newest, which is the one that was just emitted: what is sent in the end has no hole before it.
    Newest,
}

/// How much an event matters in a full queue. The order is that of giving way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Rank {
    Progress,
    Other,
    /// A start or an end: without it everything between makes no sense.
    Boundary,
}

impl Rank {
    /// The rank of an event type; `terminal` are the types that end its channel.
    pub(crate) fn of(kind: &str, terminal: &[String]) -> Self {
        let ends_in = |suffixes: &[&str]| suffixes.iter().any(|suffix| kind.ends_with(suffix));
        if ends_in(&["_progress"]) {
            Rank::Progress
        } else if ends_in(&["_start", "_started", "_end", "_ended", "_completed", "_failed"])
            || matches!(kind, "boot" | "done")
            || terminal.iter().any(|end| end == kind)
        {
            Rank::Boundary
        } else {
            Rank::Other
        }
    }
}

#[derive(Debug)]
pub(crate) enum Message {
    Logged(Entry),
    Live(Bytes),
}

impl Message {
    /// The producer's bytes.
    pub(crate) fn bytes(&self) -> &Bytes {
        match self {
            Message::Logged(entry) => entry.body.object(),
            Message::Live(message) => message,
        }
    }
}

/// What must be ours in the directory before an event is sent.
pub(crate) type Claims = Option<Arc<[Claim]>>;

#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) message: Message,
    pub(crate) claims: Claims,
    rank: Rank,
    order: u64,
}

impl Item {
    /// What it counts for in bytes: its own, its state's, and what stands around it in memory.
    fn size(&self) -> usize {
        let state = match &self.message {
            Message::Logged(Entry { state: Some(state), .. }) => {
                state.key.len() + state.value.as_ref().map_or(0, |value| value.get().len())
            }
            _ => 0,
        };
        self.message.bytes().len() + state + size_of::<Self>()
    }
}

/// A producer's numbers in one channel.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    producer: Arc<str>,
    pub(crate) next: u64,
}

impl Sequence {
    /// A new producer, from 1.
    pub(crate) fn fresh() -> Self {
        let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(20).collect();
        Self { producer: name.into(), next: 1 }
    }

    pub(crate) fn once(&self) -> Once {
        Once::Sequence { producer: self.producer.clone(), first: self.next }
    }
}

/// What one lane sends next. At most one batch of a lane is out at a time.
pub(crate) struct Batch {
    pub(crate) channel: Channel,
    pub(crate) items: Vec<Arc<Item>>,
    pub(crate) sequence: Sequence,
}

struct Lane {
    queued: VecDeque<Arc<Item>>,
    /// The batch that is out, without what is settled already.
    out: VecDeque<Arc<Item>>,
    /// A batch is out, or the lane stands in `ready`.
    engaged: bool,
    sequence: Sequence,
    used: u64,
}

#[derive(Default)]
struct Lanes {
    by_channel: HashMap<Channel, Lane>,
    ready: VecDeque<Channel>,
    /// Everything queued and not out, in the order of giving way.
    giving_way: BTreeMap<(Rank, u64), Channel>,
    /// Queued or out.
    events: usize,
    bytes: usize,
    order: u64,
    closed: bool,
}

pub(crate) struct Queue {
    lanes: Mutex<Lanes>,
    work: Notify,
    settled: Notify,
    max_events: usize,
    max_bytes: usize,
    policy: DropPolicy,
}

impl Queue {
    pub(crate) fn new(max_events: usize, max_bytes: usize, policy: DropPolicy) -> Self {
        let (lanes, work, settled) = Default::default();
        Self { lanes, work, settled, max_events, max_bytes, policy }
    }

    /// Takes an event in. Answers how many gave way for it, itself perhaps among them.
    pub(crate) fn push(&self, channel: &Channel, message: Message, claims: Claims, rank: Rank) -> Result<u64, Reason> {
        let mut lanes = self.lanes.lock();
        if lanes.closed {
            return Err(Reason::Closed);
        }
        lanes.order += 1;
        let item = Item { message, claims, rank, order: lanes.order };
        if item.size() > self.max_bytes || self.max_events == 0 {
            return Err(Reason::TooLarge);
        }
        let mut gave_way = 0;
        while lanes.events >= self.max_events || lanes.bytes + item.size() > self.max_bytes {
            gave_way += 1;
            if !lanes.make_room(rank, self.policy) {
                return Ok(gave_way);
            }
        }
        lanes.insert(channel, item);
        drop(lanes);
        self.work.notify_one();
        Ok(gave_way)
    }

    /// The next batch of the lane that has waited longest.
    pub(crate) fn take(&self) -> Option<Batch> {
        self.lanes.lock().take()
    }

    /// Returns when there may be something to take.
    pub(crate) async fn work(&self) {
        self.work.notified().await;
    }

    /// The first `count` events of the batch that is out are sent or dropped.
    pub(crate) fn settle(&self, channel: &Channel, count: usize) {
        let mut lanes = self.lanes.lock();
        let Some(lane) = lanes.by_channel.get_mut(channel) else { return };
        let count = count.min(lane.out.len());
        let bytes: usize = lane.out.drain(..count).map(|item| item.size()).sum();
        lanes.forget(count, bytes);
    }

    /// The lane's batch is settled; it goes on with `sequence`.
    pub(crate) fn release(&self, channel: &Channel, sequence: Sequence) {
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.by_channel.get_mut(channel) {
            lane.sequence = sequence;
            lane.engaged = !lane.queued.is_empty();
            if lane.engaged {
                lanes.ready.push_back(channel.clone());
            }
        }
        lanes.forget_idle_lanes();
        if lanes.events == 0 {
            self.settled.notify_waiters();
        }
    }

    /// Takes nothing in any more.
    pub(crate) fn close(&self) {
        self.lanes.lock().closed = true;
    }

    /// Returns when nothing is queued or out.
    pub(crate) async fn empty(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if self.events() == 0 {
                return;
            }
            settled.await;
        }
    }

    /// How many events are queued or out.
    pub(crate) fn events(&self) -> usize {
        self.lanes.lock().events
    }

    /// Empties the queue of what is queued or out, by channel and in order.
    pub(crate) fn drain(&self) -> BTreeMap<Channel, Vec<Bytes>> {
        let mut lanes = self.lanes.lock();
        let mut unsent = BTreeMap::new();
        for (channel, lane) in std::mem::take(&mut lanes.by_channel) {
            let bodies: Vec<Bytes> =
                lane.out.iter().chain(&lane.queued).map(|item| item.message.bytes().clone()).collect();
            if !bodies.is_empty() {
                unsent.insert(channel, bodies);
            }
        }
        let (events, bytes) = (lanes.events, lanes.bytes);
        lanes.forget(events, bytes);
        lanes.ready.clear();
        lanes.giving_way.clear();
        unsent
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.drain();
    }
}

impl Lanes {
    fn insert(&mut self, channel: &Channel, item: Item) {
        self.events += 1;
        self.bytes += item.size();
        gauge().increment(1.0);
        self.giving_way.insert((item.rank, item.order), channel.clone());
        let lane = self.by_channel.entry(channel.clone()).or_insert_with(|| Lane {
            queued: VecDeque::new(),
            out: VecDeque::new(),
            engaged: false,
            sequence: Sequence::fresh(),
            used: 0,
        });
        lane.used = item.order;
        lane.queued.push_back(Arc::new(item));
        if !std::mem::replace(&mut lane.engaged, true) {
            self.ready.push_back(channel.clone());
        }
    }

    /// Drops what must give way first. False when that is the newcomer, whose rank is given.
    fn make_room(&mut self, newcomer: Rank, policy: DropPolicy) -> bool {
        let Some(first) = self.giving_way.first_entry() else { return false };
        let (rank, order) = *first.key();
        if rank > newcomer || (rank == newcomer && policy == DropPolicy::Newest) {
            return false;
        }
        let channel = first.remove();
        if let Some(lane) = self.by_channel.get_mut(&channel)
            && let Ok(at) = lane.queued.binary_search_by_key(&order, |item| item.order)
            && let Some(item) = lane.queued.remove(at)
        {
            self.forget(1, item.size());
        }
        true
    }

    fn take(&mut self) -> Option<Batch> {
        while let Some(channel) = self.ready.pop_front() {
            let Some(lane) = self.by_channel.get_mut(&channel) else { continue };
            let mut bytes = 0;
            while lane.out.len() < MAX_ENTRIES
                && let Some(item) = lane.queued.front()
            {
                bytes += item.size();
                if bytes > MAX_BATCH_BYTES && !lane.out.is_empty() {
                    break;
                }
                self.giving_way.remove(&(item.rank, item.order));
                lane.out.extend(lane.queued.pop_front());
            }
            if lane.out.is_empty() {
                // All of it gave way.
                lane.engaged = false;
                continue;
            }
            let items = lane.out.iter().cloned().collect();
            return Some(Batch { channel, items, sequence: lane.sequence.clone() });
        }
        None
    }

    fn forget(&mut self, events: usize, bytes: usize) {
        self.events -= events;
        self.bytes -= bytes;
        gauge().decrement(events as f64);
    }

    /// A lane that is forgotten comes back as a new producer, so that nothing is lost with it.
    fn forget_idle_lanes(&mut self) {
        if self.by_channel.len() <= 2 * IDLE_LANES {
            return;
        }
        let mut idle: Vec<u64> = self.by_channel.values().filter(|lane| !lane.engaged).map(|lane| lane.used).collect();
        if idle.len() <= IDLE_LANES {
            return;
        }
        idle.sort_unstable();
        let oldest_kept = idle[idle.len() - IDLE_LANES];
        self.by_channel.retain(|_, lane| lane.engaged || lane.used >= oldest_kept);
    }
}

fn gauge() -> metrics::Gauge {
    metrics::gauge!("crewcast_publisher_queue_events")
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
