//! Channels in memory: the recent events of each, once, and who reads them.
//!
//! A [`ChannelState`] is one channel: a `Ring` of recent entries and the members that are woken
//! when there is more. A member is no queue, it only has a place in the ring. The hub knows no dialect, no
//! transport and no broker; the relay fills it, readers (`replay`) empty it.

mod channel;
mod entry;
mod fanout;
mod notifier;
mod ring;
mod shared_window;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crewcast_events::{Channel, EventId};
use dashmap::{DashMap, Entry as MapEntry};
use tokio::sync::mpsc;

pub use channel::{ChannelStart, ChannelState, ReadOutcome, RingUsage, Subscriber};
pub use entry::{DeflatePeer, EncodingSlot, Entry, Item};
pub use fanout::Fanout;
pub use notifier::{Deliver, Flag, Notifier};
pub(crate) use shared_window::SharedWindows;
pub use shared_window::WindowPosition;

/// How much the rings may hold.
#[derive(Clone, Debug)]
pub struct RingLimits {
    /// Entries of one channel.
    pub events: usize,
    /// Bytes of one channel.
    pub bytes: usize,
    /// Bytes of all channels of this process.
    pub total_bytes: usize,
}

/// What the hub tells whoever subscribes at the broker.
#[derive(Clone)]
pub enum Demand {
    /// A channel has its first member.
    Wanted(Arc<ChannelState>),
    /// A channel has lost its last member.
    Idle(Channel),
}

/// Every channel that somebody reads.
pub struct Hub {
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
    /// An empty hub, and what it will ask of whoever subscribes at the broker.
    pub fn new(limits: RingLimits) -> (Arc<Self>, mpsc::UnboundedReceiver<Demand>) {
        // Bounded by what sends: a room's first member and its last make one demand each.
        #[allow(clippy::disallowed_methods)]
        let (demand, demands) = mpsc::unbounded_channel();
        let budget = Arc::new(Budget { limits, held: AtomicUsize::new(0) });
        let fanout = Arc::new(Fanout::default());
        (Arc::new(Self { channels: DashMap::new(), budget, fanout, demand }), demands)
    }

    /// Makes `notifier` a member of a channel; `key` is what the member will find in its wake's list. The
    /// membership ends when the answer is dropped.
    pub fn subscribe(self: &Arc<Self>, channel: &Channel, notifier: &Arc<Notifier>, key: u32) -> Subscriber {
        // Under the map's entry, so that no room is removed between being found and being joined.
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
        let subscriber = Subscriber::register(self.clone(), channel_state.clone(), notifier.clone(), key);
        if is_new {
            // The receiver lives as long as the relay: without it nothing would be delivered anyway.
            let _ = self.demand.send(Demand::Wanted(channel_state));
        }
        subscriber
    }

    /// What hands out what has come: to be served by as many tasks as there are threads.
    pub fn fanout(&self) -> &Arc<Fanout> {
        &self.fanout
    }

    /// Raises a flag for every member of one channel.
    pub fn raise(&self, channel: &Channel, flag: Flag) {
        if let Some(channel_state) = self.channels.get(channel) {
            channel_state.raise(flag);
        }
    }

    /// Forgets what a channel's room remembers: the channel has another owner from now on.
    pub fn forget_past(&self, channel: &Channel) {
        if let Some(channel_state) = self.channels.get(channel) {
            channel_state.forget_past();
        }
    }

    /// Lets a channel's ring begin earlier: `stretch` was read from its log, oldest first, behind the entry
    /// `before` (`None`: none is known). Whoever comes back to the channel from there is served from memory. What does not lead
    /// up to the ring's beginning without a hole, and what has no room, is passed over.
    pub fn prepend(&self, channel: &Channel, before: Option<EventId>, stretch: &[Arc<Entry>]) {
        if let Some(channel_state) = self.channels.get(channel) {
            channel_state.prepend(before, stretch);
        }
    }

    /// Whether a channel's ring holds everything behind the event `id`.
    pub fn continues_from(&self, channel: &Channel, id: EventId) -> bool {
        self.channels.get(channel).is_some_and(|channel_state| channel_state.sequence_after(id).is_some())
    }

    /// Whether all rings together hold more than they may.
    pub fn is_over_budget(&self) -> bool {
        self.budget.is_exceeded()
    }

    /// Forgets a channel if nobody reads it; says whether it did.
    pub fn forget_if_idle(&self, channel: &Channel) -> bool {
        self.channels.remove_if(channel, |_, channel_state| channel_state.is_idle()).is_some()
    }

    pub(crate) fn became_idle(&self, channel: &Channel) {
        let _ = self.demand.send(Demand::Idle(channel.clone()));
    }

    /// Shows each channel that somebody reads, with its figures.
    pub fn each_channel(&self, mut show: impl FnMut(&Channel, RingUsage)) {
        self.channels.iter().for_each(|channel_state| show(channel_state.key(), channel_state.usage()));
    }

    /// Bytes that all rings hold now.
    pub fn held_bytes(&self) -> usize {
        self.budget.held()
    }

    /// Channels that somebody reads, or did a moment ago.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }
}

#[cfg(test)]
mod tests;
