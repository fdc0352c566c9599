//! Handing out what has come into the rings, to all who wait for it, in one go.
//!
//! A room whose ring has grown is swept once, whatever has come until its turn: so each member gets all that there is with
//! one write. Who lags is passed over, and comes back by himself. Several sweepers share a large room's members
//! stretch by stretch.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::yield_now};

use super::{Room, Wake};

/// Members that are attended to before others have their turn on the same thread: half a millisecond's writes.
const STRETCH: usize = 100;

/// The rooms that wait for a sweep.
#[derive(Default)]
pub struct Sweeps {
    waiting: Mutex<VecDeque<Sweep>>,
    more: Notify,
}

/// The rest of a room, from one place on.
struct Sweep {
    room: Arc<Room>,
    from: usize,
}

/// A member to attend to.
pub(super) struct Call {
    pub(super) wake: Arc<Wake>,
    pub(super) key: u32,
}

impl Sweeps {
    /// A room's ring has grown.
    pub(super) fn add(&self, room: Arc<Room>) {
        self.waiting.lock().push_back(Sweep { room, from: 0 });
        self.more.notify_one();
    }

    /// Sweeps for ever; one for each thread does it.
    pub async fn serve(self: Arc<Self>) {
        let mut calls = Vec::with_capacity(STRETCH);
        let mut attended = 0;
        loop {
            if !self.sweep_stretch(&mut calls) {
                self.more.notified().await;
                continue;
            }
            // A stretch in which nobody waits costs something, too.
            attended += 1 + calls.len();
            for call in calls.drain(..) {
                call.wake.call(call.key);
            }
            if attended >= STRETCH {
                attended = 0;
                yield_now().await;
            }
        }
    }

    /// Takes the next stretch of members to attend to; false when nothing waits.
    fn sweep_stretch(&self, calls: &mut Vec<Call>) -> bool {
        let next = self.waiting.lock().pop_front();
        let Some(Sweep { room, from }) = next else { return false };
        let rest = room.take_calls(from, STRETCH, calls);
        let mut waiting = self.waiting.lock();
        if let Some(from) = rest {
            waiting.push_front(Sweep { room, from });
        }
        if !waiting.is_empty() {
            drop(waiting);
            self.more.notify_one();
        }
        true
    }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
