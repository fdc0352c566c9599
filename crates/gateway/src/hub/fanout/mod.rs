//! Fan-out: hands new ring entries to all waiting subscribers at once.
//!
//! A channel whose ring has grown is queued once, however many entries arrive before its turn. Each subscriber gets all
//! of them with one write. Lagging subscribers are skipped, and come back by themselves. Several workers share the
//! subscribers of a large channel, batch by batch.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::yield_now};

use super::{ChannelState, Notifier};

/// Subscribers served before other tasks have their turn on the same thread: half a millisecond's writes.
const BATCH: usize = 100;

/// The channels that wait for a fan-out.
#[derive(Default)]
pub(crate) struct Fanout {
    waiting: Mutex<VecDeque<FanoutJob>>,
    more: Notify,
}

/// The rest of a channel's subscribers, from one slot on.
struct FanoutJob {
    channel_state: Arc<ChannelState>,
    from: usize,
}

/// A subscriber to notify.
pub(super) struct Notification {
    pub(super) notifier: Arc<Notifier>,
    pub(super) key: u32,
}

impl Fanout {
    /// Queues a channel whose ring has grown.
    pub(super) fn add(&self, channel_state: Arc<ChannelState>) {
        self.waiting.lock().push_back(FanoutJob { channel_state, from: 0 });
        self.more.notify_one();
    }

    /// Runs the fan-out. Never returns; each thread runs one.
    pub(crate) async fn serve(self: Arc<Self>) {
        let mut notifications = Vec::with_capacity(BATCH);
        let mut served = 0;
        loop {
            if !self.next_batch(&mut notifications) {
                self.more.notified().await;
                continue;
            }
            // A batch without waiting subscribers costs something too.
            served += 1 + notifications.len();
            for notification in notifications.drain(..) {
                notification.notifier.deliver_or_notify(notification.key);
            }
            if served >= BATCH {
                served = 0;
                yield_now().await;
            }
        }
    }

    /// Delivers everything that waits, on this thread: for tests without workers.
    #[cfg(test)]
    pub(crate) fn deliver_pending(&self) {
        let mut notifications = Vec::new();
        while self.next_batch(&mut notifications) {
            notifications.drain(..).for_each(|notification| notification.notifier.deliver_or_notify(notification.key));
        }
    }

    /// Takes the next batch of subscribers to notify; false if nothing waits.
    fn next_batch(&self, notifications: &mut Vec<Notification>) -> bool {
        let next = self.waiting.lock().pop_front();
        let Some(FanoutJob { channel_state, from }) = next else { return false };
        let rest = channel_state.take_notifications(from, BATCH, notifications);
        let mut waiting = self.waiting.lock();
        if let Some(from) = rest {
            waiting.push_front(FanoutJob { channel_state, from });
        }
        if !waiting.is_empty() {
            drop(waiting);
            self.more.notify_one();
        }
        true
    }
}

#[cfg(test)]
mod tests;
