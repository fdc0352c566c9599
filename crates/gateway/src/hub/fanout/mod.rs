//! Handing out what has come into the rings, to all who wait for it, in one go.
//!
//! A room whose ring has grown is swept once, whatever has come until its turn: so each member gets all that there is with
//! one write. Who lags is passed over, and comes back by himself. Several sweepers share a large room's members
//! stretch by stretch.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::yield_now};

use super::{ChannelState, Notifier};

/// Members that are attended to before others have their turn on the same thread: half a millisecond's writes.
const BATCH: usize = 100;

/// The rooms that wait for a sweep.
#[derive(Default)]
pub struct Fanout {
    waiting: Mutex<VecDeque<FanoutJob>>,
    more: Notify,
}

/// The rest of a room, from one place on.
struct FanoutJob {
    channel_state: Arc<ChannelState>,
    from: usize,
}

/// A member to attend to.
pub(super) struct Notification {
    pub(super) notifier: Arc<Notifier>,
    pub(super) key: u32,
}

impl Fanout {
    /// A room's ring has grown.
    pub(super) fn add(&self, channel_state: Arc<ChannelState>) {
        self.waiting.lock().push_back(FanoutJob { channel_state, from: 0 });
        self.more.notify_one();
    }

    /// Sweeps for ever; one for each thread does it.
    pub async fn serve(self: Arc<Self>) {
        let mut notifications = Vec::with_capacity(BATCH);
        let mut attended = 0;
        loop {
            if !self.next_batch(&mut notifications) {
                self.more.notified().await;
                continue;
            }
            // A stretch in which nobody waits costs something, too.
            attended += 1 + notifications.len();
            for notification in notifications.drain(..) {
                notification.notifier.deliver_or_notify(notification.key);
            }
            if attended >= BATCH {
                attended = 0;
                yield_now().await;
            }
        }
    }

    /// Takes the next stretch of members to attend to; false when nothing waits.
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
