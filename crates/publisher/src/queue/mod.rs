//! The bounded queue between emitters and the background task: a [`ChannelQueue`] per channel.

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
    channel_queue::{ChannelQueue, Item, Message, Ownerships, Sequence, Slot, spooled_event},
    counters::Reason,
    priority::{DropPolicy, Priority},
    spool::{Backlog, Place, Spool},
};

/// How many idle channels are remembered, so that their producers continue their numbers. At most twice as many exist.
const IDLE_CHANNELS: usize = 1024;
/// Distance of new ordinals from those in a spool. The ordinals that the former process used only in memory are below.
const BEYOND_FORMER: u64 = 1 << 32;

/// The next events of one channel. At most one batch of a channel is being sent at a time.
pub(crate) struct Batch {
    pub(crate) channel: Channel,
    /// The events, when they are in memory.
    pub(crate) items: Vec<Arc<Item>>,
    pub(crate) places: Vec<Place>,
    pub(crate) sequence: Sequence,
}

/// How many events were dropped for a pushed one, perhaps including itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dropped {
    pub(crate) count: u64,
    pub(crate) reason: Reason,
}

#[derive(Default)]
struct QueueState {
    by_channel: HashMap<Channel, ChannelQueue>,
    ready: VecDeque<Channel>,
    /// The queued events in memory, in the order in which a full queue drops them. Without the batches that are being
    /// sent.
    by_priority: BTreeMap<(Priority, u64), Channel>,
    /// Events in memory: queued, or being sent.
    events: usize,
    bytes: usize,
    order: u64,
    closed: bool,
    spool: Option<Spool>,
}

pub(crate) struct Queue {
    state: Mutex<QueueState>,
    work: Notify,
    settled: Notify,
    closing: Notify,
    max_events: usize,
    max_bytes: usize,
    policy: DropPolicy,
}

impl Queue {
    pub(crate) fn new(max_events: usize, max_bytes: usize, policy: DropPolicy) -> Self {
        let (state, work, settled, closing) = Default::default();
        Self { state, work, settled, closing, max_events, max_bytes, policy }
    }

    /// Adds a spool for events that find no room. Its backlog is sent first; `last_ordinal` is the highest ordinal in
    /// it.
    pub(crate) fn with_spool(self, spool: Spool, backlogs: HashMap<Channel, Backlog>, last_ordinal: u64) -> Self {
        let mut state = self.state.lock();
        state.order = last_ordinal + BEYOND_FORMER;
        state.ready = backlogs.keys().cloned().collect();
        let order = state.order;
        let resumed = backlogs.into_iter().map(|(channel, backlog)| (channel, ChannelQueue::resumed(backlog, order)));
        state.by_channel = resumed.collect();
        state.spool = Some(spool);
        drop(state);
        self
    }

    /// Queues an event in memory or, when memory is full, on disk. Answers what was dropped for it.
    pub(crate) fn push(
        &self,
        channel: &Channel,
        message: Message,
        ownerships: Ownerships,
        priority: Priority,
    ) -> Dropped {
        let subject = (priority == Priority::Progress).then(|| message.subject()).flatten();
        let mut state = self.state.lock();
        if state.closed {
            return Dropped { count: 1, reason: Reason::Closed };
        }
        state.order += 1;
        let item = Item { message, ownerships, priority, subject, order: state.order, ordinal: 0 };
        if item.size() > self.max_bytes || self.max_events == 0 {
            return Dropped { count: 1, reason: Reason::TooLarge };
        }
        let is_full =
            |state: &QueueState| state.events >= self.max_events || state.bytes + item.size() > self.max_bytes;
        let mut dropped = Dropped { count: 0, reason: Reason::QueueFull };
        if is_full(&state) {
            match state.spill(channel, &item) {
                Ok(()) => {
                    drop(state);
                    self.work.notify_one();
                    return dropped;
                }
                Err(reason) => dropped.reason = reason,
            }
        }
        while is_full(&state) {
            match state.make_room(priority, self.policy) {
                Some(lost) => dropped.count += lost,
                None => return Dropped { count: dropped.count + 1, ..dropped },
            }
        }
        state.insert(channel, item);
        drop(state);
        self.work.notify_one();
        dropped
    }

    /// The next batch of the channel that has waited longest.
    pub(crate) fn take(&self) -> Option<Batch> {
        self.state.lock().take()
    }

    /// Returns when there may be a batch to take.
    pub(crate) async fn work(&self) {
        self.work.notified().await;
    }

    /// Records that the first `count` events of the batch are sent or dropped. The channel continues with `sequence`.
    pub(crate) fn settle(&self, channel: &Channel, count: usize, sequence: &Sequence) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(queue) = state.by_channel.get_mut(channel) else { return };
        let was_on_disk = queue.is_on_disk();
        let (mut events, mut bytes, mut places) = (0, 0, Vec::new());
        for slot in queue.settle(count, sequence) {
            match slot {
                Slot::Memory(item) => {
                    events += 1;
                    bytes += item.size();
                }
                Slot::Disk(place) => places.push(place),
            }
        }
        match &mut state.spool {
            Some(spool) if !places.is_empty() => spool.settle(channel, &queue.position(), &places),
            Some(spool) if was_on_disk => spool.note(channel, &queue.position()),
            _ => {}
        }
        state.forget(events, bytes);
    }

    /// Records that the channel's whole batch is settled.
    pub(crate) fn release(&self, channel: &Channel) {
        let mut state = self.state.lock();
        if let Some(queue) = state.by_channel.get_mut(channel) {
            queue.engaged = queue.is_waiting();
            if queue.engaged {
                state.ready.push_back(channel.clone());
            }
        }
        state.forget_idle_channels();
        if state.is_empty() {
            self.settled.notify_waiters();
        }
    }

    /// Refuses new events from now on.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.closing.notify_waiters();
    }

    /// Returns when the queue is closed.
    pub(crate) async fn closed(&self) {
        let mut closing = std::pin::pin!(self.closing.notified());
        closing.as_mut().enable();
        if !self.state.lock().closed {
            closing.await;
        }
    }

    /// Returns when no event is queued, being sent or on disk.
    pub(crate) async fn empty(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if self.state.lock().is_empty() {
                return;
            }
            settled.await;
        }
    }

    /// How many events are in memory: queued, or being sent.
    pub(crate) fn events(&self) -> usize {
        self.state.lock().events
    }

    /// How many events are on disk.
    pub(crate) fn spooled(&self) -> usize {
        self.state.lock().spool.as_ref().map_or(0, Spool::pending)
    }

    /// The directory of the spool.
    pub(crate) fn spool_directory(&self) -> Option<Arc<Path>> {
        self.state.lock().spool.as_ref().map(Spool::directory)
    }

    /// Moves the queued events to the spool and closes the spool. Answers the events that were not kept, by channel and
    /// in order, and how many events are on disk. Blocks while writing.
    pub(crate) fn drain(&self, sync: bool) -> (BTreeMap<Channel, Vec<Bytes>>, usize) {
        let mut state = self.state.lock();
        let mut spool = state.spool.take();
        let mut lost: BTreeMap<Channel, Vec<Bytes>> = BTreeMap::new();
        for (channel, queue) in std::mem::take(&mut state.by_channel) {
            for item in queue.in_memory() {
                let keep = spool.as_mut().zip(spooled_event(item, item.ordinal));
                if keep.is_none_or(|(spool, kept)| spool.keep(&channel, &queue.position(), &kept).is_err()) {
                    lost.entry(channel.clone()).or_default().push(item.message.bytes().clone());
                }
            }
        }
        let (events, bytes) = (state.events, state.bytes);
        state.forget(events, bytes);
        state.ready.clear();
        state.by_priority.clear();
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

impl QueueState {
    fn is_empty(&self) -> bool {
        self.events == 0 && self.spool.as_ref().is_none_or(|spool| spool.pending() == 0)
    }

    fn insert(&mut self, channel: &Channel, mut item: Item) {
        self.events += 1;
        self.bytes += item.size();
        gauge().increment(1.0);
        self.by_priority.insert((item.priority, item.order), channel.clone());
        let queue = self.by_channel.entry(channel.clone()).or_insert_with(|| ChannelQueue::new(item.order));
        item.ordinal = queue.next;
        queue.next += u64::from(matches!(item.message, Message::Logged(_)));
        queue.used = item.order;
        if let Some(older) = queue.push(item) {
            self.by_priority.remove(&(Priority::Progress, older));
            self.by_priority.insert((Priority::OutdatedProgress, older), channel.clone());
        }
        self.engage(channel);
    }

    /// Queues a new event on disk, behind all events of its channel.
    fn spill(&mut self, channel: &Channel, item: &Item) -> Result<(), Reason> {
        let Some(spool) = &mut self.spool else { return Err(Reason::QueueFull) };
        let queue = self.by_channel.entry(channel.clone()).or_insert_with(|| ChannelQueue::new(item.order));
        let kept = spooled_event(item, queue.next).ok_or(Reason::QueueFull)?;
        let place = spool.keep(channel, &queue.position(), &kept)?;
        queue.spooled.insert(place.ordinal, place);
        queue.next += 1;
        queue.used = item.order;
        self.engage(channel);
        Ok(())
    }

    fn engage(&mut self, channel: &Channel) {
        let Some(queue) = self.by_channel.get_mut(channel) else { return };
        if !std::mem::replace(&mut queue.engaged, true) {
            self.ready.push_back(channel.clone());
        }
    }

    /// Removes the first event to drop from memory, and moves it to disk when the spool has room, which happens when
    /// the new event is live. Answers how many events are lost, or `None` when the new event itself must be dropped.
    fn make_room(&mut self, newcomer: Priority, policy: DropPolicy) -> Option<u64> {
        let first = self.by_priority.first_entry()?;
        let (priority, order) = *first.key();
        if priority > newcomer || (priority == newcomer && policy == DropPolicy::Newest) {
            return None;
        }
        let channel = first.remove();
        let queue = self.by_channel.get_mut(&channel)?;
        let item = queue.remove(order)?;
        let place = self.spool.as_mut().zip(spooled_event(&item, item.ordinal));
        let place = place.and_then(|(spool, kept)| spool.keep(&channel, &queue.position(), &kept).ok());
        queue.spooled.extend(place.map(|place| (place.ordinal, place)));
        self.forget(1, item.size());
        Some(u64::from(place.is_none()))
    }

    fn take(&mut self) -> Option<Batch> {
        while let Some(channel) = self.ready.pop_front() {
            let Some(queue) = self.by_channel.get_mut(&channel) else { continue };
            let (mut items, mut places) = (Vec::new(), Vec::new());
            if queue.spool_is_next() {
                places = queue.take_places();
            } else {
                items = queue.take_items(self.spool.is_some());
            }
            for item in &items {
                self.by_priority.remove(&(item.priority, item.order));
            }
            if items.is_empty() && places.is_empty() {
                // All its events were dropped.
                queue.engaged = false;
                continue;
            }
            return Some(Batch { channel, items, places, sequence: queue.sequence() });
        }
        None
    }

    fn forget(&mut self, events: usize, bytes: usize) {
        self.events -= events;
        self.bytes -= bytes;
        gauge().decrement(events as f64);
    }

    /// A forgotten channel continues as a new producer, so no event is lost.
    fn forget_idle_channels(&mut self) {
        if self.by_channel.len() <= 2 * IDLE_CHANNELS {
            return;
        }
        let mut idle: Vec<u64> =
            self.by_channel.values().filter(|queue| !queue.engaged).map(|queue| queue.used).collect();
        if idle.len() <= IDLE_CHANNELS {
            return;
        }
        idle.sort_unstable();
        let oldest_kept = idle[idle.len() - IDLE_CHANNELS];
        self.by_channel.retain(|_, queue| queue.engaged || queue.used >= oldest_kept);
    }
}

fn gauge() -> metrics::Gauge {
    metrics::gauge!("crewcast_publisher_queue_events")
}

#[cfg(test)]
mod tests;
