//! How the hub reaches a connection: it delivers new entries on the calling thread, or wakes the connection's task.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicU8, Ordering},
};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

/// Why a connection is woken, apart from new entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Flag {
    /// The grants of its identity may have changed, or it may have been revoked.
    Grants = 1,
    /// This replica is going away.
    Drain = 2,
    /// The link to the broker changed.
    Link = 4,
    /// A newer socket of the same client has connected.
    TakenOver = 8,
    /// A deadline may be near.
    Timer = 16,
}

/// Delivers without waking a task: waking one costs as much as the rest of a delivery.
pub(crate) trait Deliver: Send + Sync {
    /// Delivers the new entries of subscription `key`. False if the task must be woken for it.
    fn try_deliver(&self, key: u32) -> bool;
}

/// One connection's notifier, shared by all its subscriptions: which of them have new entries, and flags.
#[derive(Default)]
pub(crate) struct Notifier {
    waker: AtomicWaker,
    flags: AtomicU8,
    ready: Mutex<Vec<u32>>,
    delivery: OnceLock<Weak<dyn Deliver>>,
}

impl Notifier {
    /// Sets the task to wake from now on.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Sets the fan-out's way to deliver. Call it once, before there is any subscription.
    pub(crate) fn deliver_with(&self, delivery: Weak<dyn Deliver>) {
        let _ = self.delivery.set(delivery);
    }

    /// Delivers the new entries of subscription `key`, or wakes the task for them.
    pub(super) fn deliver_or_notify(&self, key: u32) {
        let delivery: Option<Arc<dyn Deliver>> = self.delivery.get().and_then(Weak::upgrade);
        if !delivery.is_some_and(|delivery| delivery.try_deliver(key)) {
            self.notify(key);
        }
    }

    /// Raises a flag.
    pub(crate) fn raise(&self, flag: Flag) {
        self.flags.fetch_or(flag as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Lowers a flag; returns whether it was raised.
    pub(crate) fn take(&self, flag: Flag) -> bool {
        self.flags.load(Ordering::Acquire) & flag as u8 != 0
            && self.flags.fetch_and(!(flag as u8), Ordering::AcqRel) & flag as u8 != 0
    }

    /// Whether any flag is raised.
    pub(crate) fn is_raised(&self) -> bool {
        self.flags.load(Ordering::Acquire) != 0
    }

    /// Whether any subscription has new entries.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.lock().is_empty()
    }

    /// Moves the keys of subscriptions with new entries into `keys`.
    pub(crate) fn take_ready(&self, keys: &mut Vec<u32>) {
        let notified = std::mem::take(&mut *self.ready.lock());
        keys.extend(notified);
    }

    /// Marks subscription `key` as having new entries, and wakes the task.
    pub(crate) fn notify(&self, key: u32) {
        self.ready.lock().push(key);
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock, Weak};

    use super::*;

    /// A waker that records what it finds when it is woken.
    #[derive(Default)]
    struct RecordingWaker {
        notifier: OnceLock<Weak<Notifier>>,
        found: Mutex<Vec<(bool, bool)>>,
    }

    impl std::task::Wake for RecordingWaker {
        fn wake(self: Arc<Self>) {
            let notifier = self.notifier.get().and_then(Weak::upgrade).expect("set");
            self.found.lock().push((notifier.has_ready(), notifier.is_raised()));
        }
    }

    /// A task that registers and then looks misses nothing only if the cause is visible before the waker is called.
    #[test]
    fn the_cause_is_visible_when_the_task_wakes() {
        let (notifier, recording) = (Arc::new(Notifier::default()), Arc::new(RecordingWaker::default()));
        recording.notifier.set(Arc::downgrade(&notifier)).expect("once");
        let waker = Waker::from(recording.clone());
        notifier.register(&waker);
        notifier.notify(3);
        let mut keys = Vec::new();
        notifier.take_ready(&mut keys);
        assert_eq!((keys, notifier.has_ready()), (vec![3], false));
        notifier.raise(Flag::Drain);
        assert!(recording.found.lock().len() == 1, "a waker is called once: register again for the next");
        notifier.register(&waker);
        notifier.raise(Flag::Link);
        assert_eq!(*recording.found.lock(), [(true, false), (false, true)]);
        assert!(
            !notifier.take(Flag::Grants)
                && notifier.take(Flag::Drain)
                && notifier.take(Flag::Link)
                && !notifier.is_raised()
        );
    }
}
