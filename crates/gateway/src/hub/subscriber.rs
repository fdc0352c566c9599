//! A subscription: a cursor in the ring of one channel, or a hold that only keeps the channel subscribed.

use std::{sync::Arc, time::Duration};

use crewcast_events::{Channel, EventId, timestamp};

use super::{ChannelState, Entry, Hub, Notifier, channel::SubscriberSlot};

/// A read ends with the entry that exceeds this many bytes: entries that a slow socket has taken stay in memory.
const READ_BYTES: usize = 256 << 10;

/// Where a subscriber begins, read atomically.
#[derive(Debug, Clone)]
pub(crate) struct ChannelStart {
    /// Sequence number of the next entry.
    pub next: i64,
    /// The channel's position there.
    pub position: Option<EventId>,
    /// The channel's last event, if the channel retains one.
    pub retained: Option<Arc<Entry>>,
    /// Live events before the next entry.
    pub live: u64,
}

/// What a subscriber finds at its cursor.
#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// Entries were put into the buffer.
    Entries {
        /// The buffer holds all entries; the subscriber will be notified of more.
        at_end: bool,
    },
    /// There is nothing more; the subscriber will be notified.
    UpToDate,
    /// The cursor has left the ring; the subscriber continues at `first`, if it can.
    FellOff {
        /// The oldest entry's sequence number.
        first: i64,
        /// The channel's position before that entry.
        position: Option<EventId>,
        /// Live events before that entry.
        live: u64,
    },
}

/// Keeps a channel subscribed without reading it, until it is dropped.
pub(crate) struct ChannelHold {
    hub: Arc<Hub>,
    channel_state: Arc<ChannelState>,
}

impl ChannelHold {
    pub(super) fn register(hub: Arc<Hub>, channel_state: Arc<ChannelState>) -> Self {
        channel_state.state.lock().holds += 1;
        Self { hub, channel_state }
    }
}

impl Drop for ChannelHold {
    fn drop(&mut self) {
        let mut state = self.channel_state.state.lock();
        state.holds -= 1;
        let idle = state.is_idle();
        drop(state);
        if idle {
            self.hub.became_idle(self.channel_state.channel());
        }
    }
}

/// A subscription; dropping it ends it.
pub(crate) struct Subscriber {
    hub: Arc<Hub>,
    channel_state: Arc<ChannelState>,
    index: u32,
    /// The next entry's sequence number when the subscription began.
    joined: i64,
}

impl Subscriber {
    pub(crate) fn register(hub: Arc<Hub>, channel_state: Arc<ChannelState>, notifier: Arc<Notifier>, key: u32) -> Self {
        let mut state = channel_state.state.lock();
        let joined = state.ring.next();
        let mut slot = SubscriberSlot { notifier, key, next: joined, notified: false };
        if state.is_open() {
            // An open channel does not notify of its opening.
            slot.notified = true;
            slot.notifier.notify(key);
        }
        let index = match state.free.pop() {
            Some(index) => {
                state.subscribers[index as usize] = Some(slot);
                index
            }
            None => {
                state.subscribers.push(Some(slot));
                state.subscribers.len() as u32 - 1
            }
        };
        drop(state);
        channel_state.subscriptions.increment(1.0);
        Self { hub, channel_state, index, joined }
    }

    /// The channel's name.
    pub(crate) fn channel(&self) -> &Channel {
        self.channel_state.channel()
    }

    /// The channel's start when the subscription began; `None` until the channel is open.
    pub(crate) fn start_at_join(&self) -> Option<ChannelStart> {
        let state = self.channel_state.state.lock();
        state.is_open().then(|| {
            let next = self.joined.max(state.ring.first());
            state.start_at(next)
        })
    }

    /// The start of what the ring holds, if the channel was opened a moment ago. `live` counts what left the ring.
    pub(crate) fn start_of_fresh(&self) -> Option<ChannelStart> {
        let state = self.channel_state.state.lock();
        state.is_fresh().then(|| state.start_at(state.ring.first()))
    }

    /// The start of the newest entries, not older than `age`, since the subscription began; `None` until the channel is
    /// open.
    pub(crate) fn start_of_recent(&self, age: Duration) -> Option<ChannelStart> {
        let state = self.channel_state.state.lock();
        let earliest = timestamp::since_epoch().saturating_sub(age);
        let is_recent = |sequence: i64| {
            let entry = state.ring.get(sequence);
            entry.is_some_and(|entry| {
                entry.published_at().map_or(entry.arrived_at(), |at| at.max(entry.arrived_at())) >= earliest
            })
        };
        state.is_open().then(|| {
            let mut next = state.ring.next();
            while next > self.joined && is_recent(next - 1) {
                next -= 1;
            }
            state.start_at(next)
        })
    }

    /// The channel's start now; `None` until the channel is open.
    pub(crate) fn current_start(&self) -> Option<ChannelStart> {
        let state = self.channel_state.state.lock();
        state.is_open().then(|| state.start_at(state.ring.next()))
    }

    /// Whether the ring holds entries from `sequence` on.
    pub(crate) fn has_entries_from(&self, sequence: i64) -> bool {
        self.channel_state.state.lock().ring.next() > sequence
    }

    /// The sequence number behind the event `id`, if the ring continues from there without a hole.
    pub(crate) fn sequence_after(&self, id: EventId) -> Option<i64> {
        self.channel_state.sequence_after(id)
    }

    /// Copies at most `limit` entries from `sequence` on into `buffer`. A read to the end lets the subscriber be
    /// notified again.
    pub(crate) fn read(&self, sequence: i64, limit: usize, buffer: &mut Vec<Arc<Entry>>) -> ReadOutcome {
        let mut state = self.channel_state.state.lock();
        let first = state.ring.first();
        if sequence < first {
            let (position, live) = (state.ring.position_before(first), state.ring.live_before(first));
            return ReadOutcome::FellOff { first, position, live };
        }
        let end = state.ring.next().min(sequence + limit as i64);
        if sequence >= end {
            if let Some(slot) = &mut state.subscribers[self.index as usize] {
                (slot.notified, slot.next) = (false, sequence);
            }
            return ReadOutcome::UpToDate;
        }
        let (mut bytes, mut next) = (0, sequence);
        for entry in (sequence..end).map_while(|sequence| state.ring.get(sequence)) {
            buffer.push(entry.clone());
            next += 1;
            bytes += entry.weight();
            if bytes > READ_BYTES {
                break;
            }
        }
        let at_end = next == state.ring.next();
        if let Some(slot) = &mut state.subscribers[self.index as usize] {
            slot.next = next;
            slot.notified &= !at_end;
        }
        ReadOutcome::Entries { at_end }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.channel_state.subscriptions.decrement(1.0);
        let mut state = self.channel_state.state.lock();
        state.subscribers[self.index as usize] = None;
        state.free.push(self.index);
        if state.subscribers.len() == state.free.len() {
            // A channel that once had thousands of subscribers does not keep their slots.
            state.subscribers = Vec::new();
            state.free = Vec::new();
        }
        let idle = state.is_idle();
        drop(state);
        if idle {
            self.hub.became_idle(self.channel_state.channel());
        }
    }
}
