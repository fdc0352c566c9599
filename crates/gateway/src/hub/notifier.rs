//! How a connection learns that there is something for it.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicU8, Ordering},
};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

/// Why a connection is woken besides new entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Flag {
    /// What its identity may read, or whether it is revoked, may have changed.
    Grants = 1,
    /// This replica is going away.
    Drain = 2,
    /// The link to the broker changed.
    Link = 4,
    /// A newer socket of the same client has come.
    TakenOver = 8,
    /// A deadline may have come near.
    Timer = 16,
}

/// Who can be handed what there is without being woken: waking a task costs as much as the rest of a delivery.
pub trait Deliver: Send + Sync {
    /// The membership `key` has more. False when the task is to be woken for it.
    fn try_deliver(&self, key: u32) -> bool;
}

/// One connection's bell, shared by all its memberships: which of them have more, and flags.
#[derive(Default)]
pub struct Notifier {
    waker: AtomicWaker,
    flags: AtomicU8,
    ready: Mutex<Vec<u32>>,
    delivery: OnceLock<Weak<dyn Deliver>>,
}

impl Notifier {
    /// The task to wake from now on.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// From now on a sweep hands over what there is. Said once, before there is any membership.
    pub fn deliver_with(&self, delivery: Weak<dyn Deliver>) {
        let _ = self.delivery.set(delivery);
    }

    /// Hands over what the membership `key` has, or wakes the task for it.
    pub(super) fn deliver_or_notify(&self, key: u32) {
        let delivery: Option<Arc<dyn Deliver>> = self.delivery.get().and_then(Weak::upgrade);
        if !delivery.is_some_and(|delivery| delivery.try_deliver(key)) {
            self.notify(key);
        }
    }

    /// Raises a flag.
    pub fn raise(&self, flag: Flag) {
        self.flags.fetch_or(flag as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Lowers a flag; says whether it was raised.
    pub fn take(&self, flag: Flag) -> bool {
        self.flags.load(Ordering::Acquire) & flag as u8 != 0
            && self.flags.fetch_and(!(flag as u8), Ordering::AcqRel) & flag as u8 != 0
    }

    /// Whether any flag is raised.
    pub fn is_raised(&self) -> bool {
        self.flags.load(Ordering::Acquire) != 0
    }

    /// Whether a membership has more.
    pub fn has_ready(&self) -> bool {
        !self.ready.lock().is_empty()
    }

    /// Moves the keys of memberships that have more into `keys`.
    pub fn take_ready(&self, keys: &mut Vec<u32>) {
        let notified = std::mem::take(&mut *self.ready.lock());
        keys.extend(notified);
    }

    /// Says that the membership `key` has more.
    pub fn notify(&self, key: u32) {
        self.ready.lock().push(key);
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock, Weak};

    use super::*;

    /// Looks, when it is woken, for what it was woken for.
    #[derive(Default)]
    struct Looking {
        notifier: OnceLock<Weak<Notifier>>,
        found: Mutex<Vec<(bool, bool)>>,
    }

    impl std::task::Wake for Looking {
        fn wake(self: Arc<Self>) {
            let notifier = self.notifier.get().and_then(Weak::upgrade).expect("set");
            self.found.lock().push((notifier.has_ready(), notifier.is_raised()));
        }
    }

    /// Who registers and then looks misses nothing only if it is there before the waker is called.
    #[test]
    fn what_a_task_is_woken_for_is_there_when_it_wakes() {
        let (notifier, looking) = (Arc::new(Notifier::default()), Arc::new(Looking::default()));
        looking.notifier.set(Arc::downgrade(&notifier)).expect("once");
        let waker = Waker::from(looking.clone());
        notifier.register(&waker);
        notifier.notify(3);
        let mut keys = Vec::new();
        notifier.take_ready(&mut keys);
        assert_eq!((keys, notifier.has_ready()), (vec![3], false));
        notifier.raise(Flag::Drain);
        assert!(looking.found.lock().len() == 1, "a waker is called once; who wants more registers again");
        notifier.register(&waker);
        notifier.raise(Flag::Link);
        assert_eq!(*looking.found.lock(), [(true, false), (false, true)]);
        assert!(
            !notifier.take(Flag::Grants)
                && notifier.take(Flag::Drain)
                && notifier.take(Flag::Link)
                && !notifier.is_raised()
        );
    }
}
