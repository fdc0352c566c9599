//! One channel: its ring, its position, and its subscribers.

use std::sync::Arc;

use crewcast_events::{Channel, EventId};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Duration, Instant};

use super::{
    Budget, ChannelStart, Entry, Fanout, Flag, Item, Notifier, SharedWindows, fanout::Notification, ring::Ring,
};
use crate::telemetry::metrics::{Metric, gauge};

/// How long everything that an opened channel holds is news to a reader that learns of the channel.
const FRESH: Duration = Duration::from_secs(30);

/// One channel that has subscribers.
pub(crate) struct ChannelState {
    channel: Channel,
    pub(super) state: Mutex<State>,
    fanout: Arc<Fanout>,
    /// Counts the subscriptions of the whole namespace.
    pub(super) subscriptions: metrics::Gauge,
}

pub(super) struct State {
    pub(super) ring: Ring,
    /// The shared windows of the channel's compressed messages.
    windows: Arc<SharedWindows>,
    /// Since when the channel is subscribed and its position known.
    opened_at: Option<Instant>,
    position: Option<EventId>,
    retained: Option<Arc<Entry>>,
    /// The past was forgotten before the channel was open: the retained event that was read then is not shown either.
    forgotten: bool,
    pub(super) subscribers: Vec<Option<SubscriberSlot>>,
    pub(super) free: Vec<u32>,
    /// Holds, which keep the channel subscribed without reading it.
    pub(super) holds: u32,
    /// A fan-out that begins with the first subscriber is queued.
    fanout_scheduled: bool,
}

pub(super) struct SubscriberSlot {
    pub(super) notifier: Arc<Notifier>,
    pub(super) key: u32,
    /// The sequence number of the next entry to read.
    pub(super) next: i64,
    /// Notified and not yet read to the end: another notification would cost time and change nothing.
    pub(super) notified: bool,
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

impl ChannelState {
    pub(crate) fn new(channel: Channel, budget: Arc<Budget>, fanout: Arc<Fanout>) -> Self {
        let state = State {
            ring: Ring::new(budget),
            windows: Arc::default(),
            opened_at: None,
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
        first: Vec<Item>,
        position: Option<EventId>,
        retained: Option<Arc<Entry>>,
        retain: bool,
    ) {
        let mut state = self.state.lock();
        state.ring.start_at(position);
        state.position = position;
        state.retained = retained.filter(|_| !state.forgotten);
        for item in first {
            state.push(Entry::new(item, position), retain);
        }
        state.opened_at = Some(Instant::now());
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
        if !state.is_open() {
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
        state.forgotten = !state.is_open();
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
    pub(super) fn is_open(&self) -> bool {
        self.opened_at.is_some()
    }

    /// Whether the channel was opened a moment ago.
    pub(super) fn is_fresh(&self) -> bool {
        self.opened_at.is_some_and(|at| at.elapsed() < FRESH)
    }

    pub(super) fn is_idle(&self) -> bool {
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

impl State {
    pub(super) fn start_at(&self, next: i64) -> ChannelStart {
        let live = if next == self.ring.next() { self.ring.live_total() } else { self.ring.live_before(next) };
        ChannelStart { next, position: self.ring.position_before(next), retained: self.retained.clone(), live }
    }
}
