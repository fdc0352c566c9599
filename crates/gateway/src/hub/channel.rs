//! One channel: its ring, its position, and its subscribers.

use std::sync::Arc;

use crewcast_events::{Channel, Event, EventId};
use parking_lot::{Mutex, MutexGuard};

use super::{Budget, Entry, Fanout, Flag, Hub, Item, Notifier, SharedWindows, fanout::Notification, ring::Ring};
use crate::telemetry::metrics::{Metric, gauge};

/// A read ends with the entry that exceeds this many bytes: entries that a slow socket has taken stay in memory.
const READ_BYTES: usize = 256 << 10;

/// One channel that has subscribers.
pub(crate) struct ChannelState {
    channel: Channel,
    state: Mutex<State>,
    fanout: Arc<Fanout>,
    /// Counts the subscriptions of the whole namespace.
    subscriptions: metrics::Gauge,
}

struct State {
    ring: Ring,
    /// The shared windows of the channel's compressed messages.
    windows: Arc<SharedWindows>,
    /// Whether the channel is subscribed and its position known.
    open: bool,
    position: Option<EventId>,
    retained: Option<Arc<Entry>>,
    /// The past was forgotten before the channel was open: the retained event that was read then is not shown either.
    forgotten: bool,
    subscribers: Vec<Option<SubscriberSlot>>,
    free: Vec<u32>,
    /// Holds, which keep the channel subscribed without reading it.
    holds: u32,
    /// A fan-out that begins with the first subscriber is queued.
    fanout_scheduled: bool,
}

struct SubscriberSlot {
    notifier: Arc<Notifier>,
    key: u32,
    /// The sequence number of the next entry to read.
    next: i64,
    /// Notified and not yet read to the end: another notification would cost time and change nothing.
    notified: bool,
}

impl SubscriberSlot {
    fn notify(&mut self) {
        if !std::mem::replace(&mut self.notified, true) {
            self.notifier.notify(self.key);
        }
    }
}

/// What a channel's ring holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingUsage {
    /// Entries of the ring.
    pub events: usize,
    /// Their weight in bytes.
    pub bytes: usize,
    /// Entries by which the slowest subscriber lags. For a subscriber that reads the log, these are all entries since
    /// it last read the ring.
    pub lag: u64,
}

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

impl ChannelState {
    pub(crate) fn new(channel: Channel, budget: Arc<Budget>, fanout: Arc<Fanout>) -> Self {
        let state = State {
            ring: Ring::new(budget),
            windows: Arc::default(),
            open: false,
            position: None,
            retained: None,
            forgotten: false,
            subscribers: Vec::new(),
            free: Vec::new(),
            holds: 0,
            fanout_scheduled: false,
        };
        let subscriptions = gauge(Metric::Subscriptions, &[("namespace", channel.namespace())]);
        Self { channel, state: Mutex::new(state), fanout, subscriptions }
    }

    /// The channel's name.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// What the ring holds now.
    pub(crate) fn usage(&self) -> RingUsage {
        let state = self.state.lock();
        let (first, next) = (state.ring.first(), state.ring.next());
        let slowest = state.subscribers.iter().flatten().map(|slot| slot.next).min();
        let lag = slowest.map_or(0, |slowest| u64::try_from(next - slowest).unwrap_or(0));
        RingUsage { events: (next - first) as usize, bytes: state.ring.bytes(), lag }
    }

    /// Opens a channel of which no event is known.
    #[cfg(test)]
    pub(crate) fn open(&self, position: Option<EventId>, retained: Option<Arc<Entry>>) {
        self.open_behind(Vec::new(), position, retained, false);
    }

    /// Opens the channel: it is subscribed, and its position is `position`. `first` are live events that were published
    /// before; with `retain` the last of them becomes the retained event.
    pub(crate) fn open_behind(
        &self,
        first: Vec<Event>,
        position: Option<EventId>,
        retained: Option<Arc<Entry>>,
        retain: bool,
    ) {
        let mut state = self.state.lock();
        state.ring.start_at(position);
        state.position = position;
        state.retained = retained.filter(|_| !state.forgotten);
        for event in first {
            state.push(Entry::new(Item::Event(event), position), retain);
        }
        state.open = true;
        state.notify_all();
    }

    /// Appends an item after which the channel's position is `position`; with `retain` it becomes the retained event.
    pub(crate) fn append(self: &Arc<Self>, item: Item, position: Option<EventId>, retain: bool) {
        let entry = Entry::new(item, position);
        let mut state = self.state.lock();
        state.push(entry, retain);
        self.schedule_fanout(state);
    }

    /// Appends a reset together with the event that it announces. A subscriber that began between the two would take
    /// that event for the channel's first.
    pub(crate) fn append_announced(
        self: &Arc<Self>,
        reset: Item,
        event: Item,
        position: Option<EventId>,
        retain: bool,
    ) {
        let (reset, event) = (Entry::new(reset, None), Entry::new(event, position));
        let mut state = self.state.lock();
        state.push(reset, false);
        state.push(event, retain);
        self.schedule_fanout(state);
    }

    /// Queues a fan-out, unless one is queued or the channel has no subscribers.
    fn schedule_fanout(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if !state.open {
            return;
        }
        let is_read = state.subscribers.len() > state.free.len();
        if is_read && !std::mem::replace(&mut state.fanout_scheduled, true) {
            drop(state);
            self.fanout.add(self.clone());
        }
    }

    /// Takes the subscribers to notify from the slots `from` to `from + most`. Returns where the rest begins.
    pub(super) fn take_notifications(
        &self,
        from: usize,
        most: usize,
        notifications: &mut Vec<Notification>,
    ) -> Option<usize> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if from == 0 {
            state.fanout_scheduled = false;
        }
        let (next, end) = (state.ring.next(), state.subscribers.len().min(from + most));
        for slot in state.subscribers.get_mut(from..end).into_iter().flatten().flatten() {
            // A subscriber at the end was already served by a later fan-out, which has overtaken this one.
            if !slot.notified && slot.next != next {
                slot.notified = true;
                notifications.push(Notification { notifier: slot.notifier.clone(), key: slot.key });
            }
        }
        (end < state.subscribers.len()).then_some(end)
    }

    /// Lets the ring begin earlier; see [`Hub::prepend`].
    pub(crate) fn prepend(&self, before: Option<EventId>, entries: &[Arc<Entry>]) {
        self.state.lock().ring.prepend(before, entries);
    }

    /// See [`Subscriber::sequence_after`].
    pub(crate) fn sequence_after(&self, id: EventId) -> Option<i64> {
        let state = self.state.lock();
        if state.position == Some(id) && state.ring.position_before(state.ring.next()) == Some(id) {
            return state.ring.sequence_after(id).or(Some(state.ring.next()));
        }
        state.ring.sequence_after(id)
    }

    /// Keeps only the newest entry.
    pub(crate) fn trim(&self) {
        let mut state = self.state.lock();
        state.ring.trim_to(1);
        state.windows.clear();
    }

    /// Forgets every entry and the retained event: they belonged to another owner. The position stays, and subscribers
    /// that had not read these entries find that they fell off the ring.
    pub(crate) fn forget_past(&self) {
        let mut state = self.state.lock();
        state.ring.trim_to(0);
        state.windows.clear();
        state.retained = None;
        state.forgotten = !state.open;
    }

    /// Raises a flag for every subscriber.
    pub(crate) fn raise(&self, flag: Flag) {
        self.state.lock().subscribers.iter().flatten().for_each(|slot| slot.notifier.raise(flag));
    }

    /// Whether the ring holds a logged event with this very id.
    pub(crate) fn holds(&self, id: EventId) -> bool {
        self.state.lock().ring.holds(id)
    }

    /// Whether the channel has neither subscribers nor holds.
    pub(crate) fn is_idle(&self) -> bool {
        self.state.lock().is_idle()
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.holds == 0 && self.subscribers.len() == self.free.len()
    }

    fn push(&mut self, entry: Entry, retain: bool) {
        let entry = Arc::new(entry.at(&self.windows, self.ring.next()));
        self.position = entry.position();
        if retain && entry.event().is_some() {
            self.retained = Some(entry.clone());
        }
        self.ring.push(entry);
    }

    fn notify_all(&mut self) {
        self.subscribers.iter_mut().flatten().for_each(SubscriberSlot::notify);
    }
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
            self.hub.became_idle(&self.channel_state.channel);
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
        if state.open {
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
        &self.channel_state.channel
    }

    /// The channel's start when the subscription began; `None` until the channel is open.
    pub(crate) fn start_at_join(&self) -> Option<ChannelStart> {
        let state = self.channel_state.state.lock();
        state.open.then(|| {
            let next = self.joined.max(state.ring.first());
            state.start_at(next)
        })
    }

    /// The start of what the ring holds; `None` until the channel is open.
    pub(crate) fn start_at_first(&self) -> Option<ChannelStart> {
        let state = self.channel_state.state.lock();
        state.open.then(|| state.start_at(state.ring.first()))
    }

    /// The channel's start now; `None` until the channel is open.
    pub(crate) fn current_start(&self) -> Option<ChannelStart> {
        let state = self.channel_state.state.lock();
        state.open.then(|| state.start_at(state.ring.next()))
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

impl State {
    fn start_at(&self, next: i64) -> ChannelStart {
        let live = if next == self.ring.next() { self.ring.live_total() } else { self.ring.live_before(next) };
        ChannelStart { next, position: self.ring.position_before(next), retained: self.retained.clone(), live }
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
            self.hub.became_idle(&self.channel_state.channel);
        }
    }
}
