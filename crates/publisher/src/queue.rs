//! The bounded queue between emitters and the background task: a lane per channel.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use crewcast_events::Channel;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    lane::{Claims, Item, Lane, Message, Sequence, Slot, kept},
    rank::{DropPolicy, Rank},
    spool::{Backlog, Place, Spool},
    tally::Reason,
};

/// How many idle lanes are remembered, so that their producers go on counting. Twice as many stand at most.
const IDLE_LANES: usize = 1024;
/// Where ordinals begin behind those that a spool remembers: what the former process counted in memory only is below.
const BEYOND_FORMER: u64 = 1 << 32;

/// What one lane sends next. At most one batch of a lane is out at a time.
pub(crate) struct Batch {
    pub(crate) channel: Channel,
    /// From memory; empty when the batch is on disk.
    pub(crate) items: Vec<Arc<Item>>,
    pub(crate) places: Vec<Place>,
    pub(crate) sequence: Sequence,
}

/// How many events were dropped for one that was pushed, itself perhaps among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dropped {
    pub(crate) count: u64,
    pub(crate) reason: Reason,
}

#[derive(Default)]
struct Lanes {
    by_channel: HashMap<Channel, Lane>,
    ready: VecDeque<Channel>,
    /// Everything queued in memory and not out, in the order of giving way.
    giving_way: BTreeMap<(Rank, u64), Channel>,
    /// In memory, queued or out.
    events: usize,
    bytes: usize,
    order: u64,
    closed: bool,
    spool: Option<Spool>,
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

    /// What finds no room goes to the spool, whose backlog is sent first. `last_ordinal` is the highest in it.
    pub(crate) fn with_spool(self, spool: Spool, backlogs: HashMap<Channel, Backlog>, last_ordinal: u64) -> Self {
        let mut lanes = self.lanes.lock();
        lanes.order = last_ordinal + BEYOND_FORMER;
        lanes.ready = backlogs.keys().cloned().collect();
        let order = lanes.order;
        let resumed = backlogs.into_iter().map(|(channel, backlog)| (channel, Lane::resumed(backlog, order)));
        lanes.by_channel = resumed.collect();
        lanes.spool = Some(spool);
        drop(lanes);
        self
    }

    /// Takes an event in, into memory, or, when that is full, onto disk. Answers what gave way for it.
    pub(crate) fn push(&self, channel: &Channel, message: Message, claims: Claims, rank: Rank) -> Dropped {
        let mut lanes = self.lanes.lock();
        if lanes.closed {
            return Dropped { count: 1, reason: Reason::Closed };
        }
        lanes.order += 1;
        let item = Item { message, claims, rank, order: lanes.order, ordinal: 0 };
        if item.size() > self.max_bytes || self.max_events == 0 {
            return Dropped { count: 1, reason: Reason::TooLarge };
        }
        let is_full = |lanes: &Lanes| lanes.events >= self.max_events || lanes.bytes + item.size() > self.max_bytes;
        let mut dropped = Dropped { count: 0, reason: Reason::QueueFull };
        if is_full(&lanes) {
            match lanes.spill(channel, &item) {
                Ok(()) => {
                    drop(lanes);
                    self.work.notify_one();
                    return dropped;
                }
                Err(reason) => dropped.reason = reason,
            }
        }
        while is_full(&lanes) {
            match lanes.make_room(rank, self.policy) {
                Some(lost) => dropped.count += lost,
                None => return Dropped { count: dropped.count + 1, ..dropped },
            }
        }
        lanes.insert(channel, item);
        drop(lanes);
        self.work.notify_one();
        dropped
    }

    /// The next batch of the lane that has waited longest.
    pub(crate) fn take(&self) -> Option<Batch> {
        self.lanes.lock().take()
    }

    /// Returns when there may be something to take.
    pub(crate) async fn work(&self) {
        self.work.notified().await;
    }

    /// The first `count` events of the batch that is out are sent or dropped; the lane goes on with `sequence`.
    pub(crate) fn settle(&self, channel: &Channel, count: usize, sequence: &Sequence) {
        let mut lanes = self.lanes.lock();
        let lanes = &mut *lanes;
        let Some(lane) = lanes.by_channel.get_mut(channel) else { return };
        let was_on_disk = lane.is_on_disk();
        let (mut events, mut bytes, mut places) = (0, 0, Vec::new());
        for slot in lane.settle(count, sequence) {
            match slot {
                Slot::Memory(item) => {
                    events += 1;
                    bytes += item.size();
                }
                Slot::Disk(place) => places.push(place),
            }
        }
        match &mut lanes.spool {
            Some(spool) if !places.is_empty() => spool.settle(channel, &lane.position(), &places),
            Some(spool) if was_on_disk => spool.note(channel, &lane.position()),
            _ => {}
        }
        lanes.forget(events, bytes);
    }

    /// The lane's batch is settled.
    pub(crate) fn release(&self, channel: &Channel) {
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.by_channel.get_mut(channel) {
            lane.engaged = lane.is_waiting();
            if lane.engaged {
                lanes.ready.push_back(channel.clone());
            }
        }
        lanes.forget_idle_lanes();
        if lanes.is_empty() {
            self.settled.notify_waiters();
        }
    }

    /// Takes nothing in any more.
    pub(crate) fn close(&self) {
        self.lanes.lock().closed = true;
    }

    /// Returns when nothing is queued, out or on disk.
    pub(crate) async fn empty(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if self.lanes.lock().is_empty() {
                return;
            }
            settled.await;
        }
    }

    /// How many events are in memory, queued or out.
    pub(crate) fn events(&self) -> usize {
        self.lanes.lock().events
    }

    /// How many events are on disk.
    pub(crate) fn spooled(&self) -> usize {
        self.lanes.lock().spool.as_ref().map_or(0, Spool::pending)
    }

    /// Where events on disk are read from.
    pub(crate) fn spool_directory(&self) -> Option<Arc<Path>> {
        self.lanes.lock().spool.as_ref().map(Spool::directory)
    }

    /// Empties the queue into the spool and lets go of it. Answers what is kept nowhere, by channel and in order,
    /// and how many events are on disk. Blocks for as long as writing takes.
    pub(crate) fn drain(&self, sync: bool) -> (BTreeMap<Channel, Vec<Bytes>>, usize) {
        let mut lanes = self.lanes.lock();
        let mut spool = lanes.spool.take();
        let mut lost: BTreeMap<Channel, Vec<Bytes>> = BTreeMap::new();
        for (channel, lane) in std::mem::take(&mut lanes.by_channel) {
            for item in lane.in_memory() {
                let keep = spool.as_mut().zip(kept(item, item.ordinal));
                if keep.is_none_or(|(spool, kept)| spool.keep(&channel, &lane.position(), &kept).is_err()) {
                    lost.entry(channel.clone()).or_default().push(item.message.bytes().clone());
                }
            }
        }
        let (events, bytes) = (lanes.events, lanes.bytes);
        lanes.forget(events, bytes);
        lanes.ready.clear();
        lanes.giving_way.clear();
        if let Some(spool) = spool.as_ref().filter(|_| sync) {
            spool.sync();
        }
        (lost, spool.map_or(0, |spool| spool.pending()))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.drain(false);
    }
}

impl Lanes {
    fn is_empty(&self) -> bool {
        self.events == 0 && self.spool.as_ref().is_none_or(|spool| spool.pending() == 0)
    }

    fn insert(&mut self, channel: &Channel, mut item: Item) {
        self.events += 1;
        self.bytes += item.size();
        gauge().increment(1.0);
        self.giving_way.insert((item.rank, item.order), channel.clone());
        let lane = self.by_channel.entry(channel.clone()).or_insert_with(|| Lane::new(item.order));
        item.ordinal = lane.next;
        lane.next += u64::from(matches!(item.message, Message::Logged(_)));
        lane.used = item.order;
        lane.queued.push_back(Arc::new(item));
        self.engage(channel);
    }

    /// Takes a newcomer in on disk, behind everything else of its channel.
    fn spill(&mut self, channel: &Channel, item: &Item) -> Result<(), Reason> {
        let Some(spool) = &mut self.spool else { return Err(Reason::QueueFull) };
        let lane = self.by_channel.entry(channel.clone()).or_insert_with(|| Lane::new(item.order));
        let kept = kept(item, lane.next).ok_or(Reason::QueueFull)?;
        let place = spool.keep(channel, &lane.position(), &kept)?;
        lane.spooled.insert(place.ordinal, place);
        lane.next += 1;
        lane.used = item.order;
        self.engage(channel);
        Ok(())
    }

    fn engage(&mut self, channel: &Channel) {
        let Some(lane) = self.by_channel.get_mut(channel) else { return };
        if !std::mem::replace(&mut lane.engaged, true) {
            self.ready.push_back(channel.clone());
        }
    }

    /// Takes out of memory what must give way first: onto disk where that has room, which a live newcomer meets.
    /// Answers how many events are lost; `None` when it is the newcomer, whose rank is given, that must give way.
    fn make_room(&mut self, newcomer: Rank, policy: DropPolicy) -> Option<u64> {
        let first = self.giving_way.first_entry()?;
        let (rank, order) = *first.key();
        if rank > newcomer || (rank == newcomer && policy == DropPolicy::Newest) {
            return None;
        }
        let channel = first.remove();
        let lane = self.by_channel.get_mut(&channel)?;
        let at = lane.queued.binary_search_by_key(&order, |item| item.order).ok()?;
        let item = lane.queued.remove(at)?;
        let place = self.spool.as_mut().zip(kept(&item, item.ordinal));
        let place = place.and_then(|(spool, kept)| spool.keep(&channel, &lane.position(), &kept).ok());
        lane.spooled.extend(place.map(|place| (place.ordinal, place)));
        self.forget(1, item.size());
        Some(u64::from(place.is_none()))
    }

    fn take(&mut self) -> Option<Batch> {
        while let Some(channel) = self.ready.pop_front() {
            let Some(lane) = self.by_channel.get_mut(&channel) else { continue };
            let (mut items, mut places) = (Vec::new(), Vec::new());
            if lane.spool_is_next() {
                places = lane.take_places();
            } else {
                items = lane.take_items(self.spool.is_some());
            }
            for item in &items {
                self.giving_way.remove(&(item.rank, item.order));
            }
            if items.is_empty() && places.is_empty() {
                // All of it gave way.
                lane.engaged = false;
                continue;
            }
            return Some(Batch { channel, items, places, sequence: lane.sequence() });
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
