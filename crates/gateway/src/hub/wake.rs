//! How a connection learns that there is something for it.

use std::sync::atomic::{AtomicU8, Ordering};
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
}

/// One connection's bell, shared by all its memberships: which of them have more, and flags.
#[derive(Default)]
pub struct Wake {
    waker: AtomicWaker,
    flags: AtomicU8,
    ready: Mutex<Vec<u32>>,
}

impl Wake {
    /// The task to wake from now on.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
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
        keys.append(&mut self.ready.lock());
    }

    /// Says that the membership `key` has more.
    pub fn ring(&self, key: u32) {
        self.ready.lock().push(key);
        self.waker.wake();
    }
}
