//! Channels in memory: the recent events of each, held once, and its subscribers.
//!
//! A [`ChannelState`] is one channel: a `Ring` of recent entries and the subscribers that are notified of new ones. A
//! subscriber has no queue, only a cursor in the ring. The hub knows no dialect, no transport and no broker: the relay
//! fills it, readers (`replay`) empty it.
//!
//! - `channel.rs`, `ring.rs`, `entry.rs`: what a channel holds
//! - `subscriber.rs`: where its subscribers are
//! - `fanout/`, `notifier.rs`: how new entries reach connections
//! - `shared_window.rs`: the deflate window that a channel's subscribers share

mod channel;
mod entry;
mod fanout;
mod notifier;
mod ring;
mod shared_window;
mod subscriber;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crewcast_events::{Channel, EventId};
use dashmap::{DashMap, Entry as MapEntry};
use tokio::sync::mpsc;

pub(crate) use channel::{ChannelState, RingUsage};
pub(crate) use entry::{DeflatePeer, EncodingSlot, Entry, Item};
pub(crate) use fanout::Fanout;
pub(crate) use notifier::{Deliver, Flag, Notifier};
pub(crate) use shared_window::SharedWindows;
pub(crate) use shared_window::WindowPosition;
pub(crate) use subscriber::{ChannelHold, ChannelStart, ReadOutcome, Subscriber};

/// Limits of the rings.
#[derive(Clone, Debug)]
pub(crate) struct RingLimits {
    /// Entries of one channel.
    pub events: usize,
    /// Bytes of one channel.
    pub bytes: usize,
    /// Bytes of all channels of this process.
    pub total_bytes: usize,
}

/// What the hub asks of the relay, which subscribes at the broker.
#[derive(Clone)]
pub(crate) enum Demand {
    /// A channel has its first subscriber.
    Wanted(Arc<ChannelState>),
    /// A channel has lost its last subscriber.
    Idle(Channel),
}

/// Every channel that has subscribers.
pub(crate) struct Hub {
    channels: DashMap<Channel, Arc<ChannelState>>,
    budget: Arc<Budget>,
    fanout: Arc<Fanout>,
    demand: mpsc::UnboundedSender<Demand>,
}

/// Bytes of all rings together.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) limits: RingLimits,
    held: AtomicUsize,
}

impl Budget {
    pub(crate) fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.held() > self.limits.total_bytes
    }
}

impl Hub {
    /// An empty hub, and the demands that the relay must serve.
    pub(crate) fn new(limits: RingLimits) -> (Arc<Self>, mpsc::UnboundedReceiver<Demand>) {
        // Bounded by its senders: the first and the last subscriber of a channel make one demand each.
        #[allow(clippy::disallowed_methods)]
        let (demand, demands) = mpsc::unbounded_channel();
        let budget = Arc::new(Budget { limits, held: AtomicUsize::new(0) });
        let fanout = Arc::new(Fanout::default());
        (Arc::new(Self { channels: DashMap::new(), budget, fanout, demand }), demands)
    }

    /// Subscribes `notifier` to a channel; `key` identifies the subscription in the notifier's list of ready ones.
    /// Dropping the subscriber ends the subscription.
    pub(crate) fn subscribe(self: &Arc<Self>, channel: &Channel, notifier: &Arc<Notifier>, key: u32) -> Subscriber {
        self.join(channel, |hub, channel_state| Subscriber::register(hub, channel_state, notifier.clone(), key))
    }

    /// Keeps a channel subscribed without reading it, until the answer is dropped.
    pub(crate) fn hold(self: &Arc<Self>, channel: &Channel) -> ChannelHold {
        self.join(channel, ChannelHold::register)
    }

    fn join<T>(self: &Arc<Self>, channel: &Channel, register: impl FnOnce(Arc<Hub>, Arc<ChannelState>) -> T) -> T {
        // Under the map's lock, so that the channel is not removed between being found and being joined.
        let entry = self.channels.entry(channel.clone());
        let (channel_state, is_new) = match entry {
            MapEntry::Occupied(ref found) => (found.get().clone(), false),
            MapEntry::Vacant(vacant) => {
                let channel_state =
                    Arc::new(ChannelState::new(channel.clone(), self.budget.clone(), self.fanout.clone()));
                vacant.insert(channel_state.clone());
                (channel_state, true)
            }
        };
        let joined = register(self.clone(), channel_state.clone());
        if is_new {
            // The receiver lives as long as the relay: without it nothing would be delivered anyway.
            let _ = self.demand.send(Demand::Wanted(channel_state));
        }
        joined
    }

    /// The fan-out, to be served by one task per thread.
    pub(crate) fn fanout(&self) -> &Arc<Fanout> {
        &self.fanout
    }

    /// Raises a flag for every subscriber of one channel.
    pub(crate) fn raise(&self, channel: &Channel, flag: Flag) {
        if let Some(channel_state) = self.channels.get(channel) {
            channel_state.raise(flag);
        }
    }

    /// Forgets what a channel's ring holds: the channel has another owner from now on.
    pub(crate) fn forget_past(&self, channel: &Channel) {
        if let Some(channel_state) = self.channels.get(channel) {
            channel_state.forget_past();
        }
    }

    /// Lets a channel's ring begin earlier, so that readers that resume there are served from memory.
    ///
    /// `entries` were read from its log, oldest first, behind the entry `before` (`None`: unknown). Entries that do not
    /// lead up to the ring's beginning without a hole, or do not fit, are skipped.
    pub(crate) fn prepend(&self, channel: &Channel, before: Option<EventId>, entries: &[Arc<Entry>]) {
        if let Some(channel_state) = self.channels.get(channel) {
            channel_state.prepend(before, entries);
        }
    }

    /// Whether a channel's ring holds everything behind the event `id`.
    pub(crate) fn continues_from(&self, channel: &Channel, id: EventId) -> bool {
        self.channels.get(channel).is_some_and(|channel_state| channel_state.sequence_after(id).is_some())
    }

    /// Whether all rings together hold more than they may.
    pub(crate) fn is_over_budget(&self) -> bool {
        self.budget.is_exceeded()
    }

    /// Forgets a channel if it has no subscribers; returns whether it did.
    pub(crate) fn forget_if_idle(&self, channel: &Channel) -> bool {
        self.channels.remove_if(channel, |_, channel_state| channel_state.is_idle()).is_some()
    }

    pub(crate) fn became_idle(&self, channel: &Channel) {
        let _ = self.demand.send(Demand::Idle(channel.clone()));
    }

    /// Calls `show` for each channel that has subscribers, with its usage.
    pub(crate) fn each_channel(&self, mut show: impl FnMut(&Channel, RingUsage)) {
        self.channels.iter().for_each(|channel_state| show(channel_state.key(), channel_state.usage()));
    }

    /// Bytes that all rings hold now.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.budget.held()
    }

    /// Channels that have subscribers, or had some a moment ago.
    #[cfg(test)]
    pub(crate) fn channels(&self) -> usize {
        self.channels.len()
    }
}

#[cfg(test)]
mod tests;
