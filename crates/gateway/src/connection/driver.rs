//! Shares a connection between its task and the fan-out workers. One of them works on it at a time.
//!
//! The task does everything that waits. A fan-out worker that brings entries does everything that does not wait: it
//! reads, calls the dialect, and writes. It wakes the task only for the rest.

use std::{
    cell::Cell,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use crewcast_websocket::close::CloseCode;
use parking_lot::Mutex;

use super::{Connection, scratch::Scratch, subscriptions::ReadStep};
use crate::{hub::Deliver, outbox::Outbox};

/// Rounds of reading and writing in one delivery. After them a fan-out worker leaves the rest to the task and goes on
/// to the next connection.
const ROUNDS: usize = 4;

/// A connection behind a lock; `None` after its end.
pub(super) struct SharedConnection<O>(Mutex<Option<Box<Connection<O>>>>);

/// Drops the connection when its task ends, however it ends. Otherwise the connection and its subscriptions would keep
/// each other in memory forever.
pub(super) struct TaskGuard<O>(pub(super) Arc<SharedConnection<O>>);

impl<O> Drop for TaskGuard<O> {
    fn drop(&mut self) {
        drop(self.0.0.lock().take());
    }
}

impl<O: Outbox> SharedConnection<O> {
    pub(super) fn new(connection: Box<Connection<O>>) -> Arc<Self> {
        let notifier = connection.notifier.clone();
        let shared = Arc::new(Self(Mutex::new(Some(connection))));
        let delivery: Arc<dyn Deliver> = shared.clone();
        notifier.deliver_with(Arc::downgrade(&delivery));
        shared
    }

    /// Opens the connection with `work`, before anything is delivered.
    pub(super) fn begin(&self, work: impl FnOnce(&mut Connection<O>)) {
        if let Some(connection) = &mut *self.0.lock() {
            connection.work(work);
        }
    }

    /// Handles every wakeup until the connection ends, and returns it; `None` if it was dropped.
    pub(super) async fn ended(&self) -> Option<Box<Connection<O>>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Box<Connection<O>>>> {
        let mut guard = self.0.lock();
        let Some(connection) = &mut *guard else { return Poll::Ready(None) };
        connection.work(|connection| {
            while connection.end.is_none()
                && let Poll::Ready(wakeup) = connection.poll_wakeup(cx)
            {
                connection.handle(wakeup);
            }
        });
        match guard.take_if(|connection| connection.end.is_some()) {
            Some(connection) => Poll::Ready(Some(connection)),
            None => Poll::Pending,
        }
    }
}

impl<O: Outbox> Deliver for SharedConnection<O> {
    fn try_deliver(&self, key: u32) -> bool {
        // Its current holder may have read the ring already: wake the task.
        let Some(mut guard) = self.0.try_lock() else { return false };
        let Some(connection) = &mut *guard else { return true };
        // A dialect that panics ends its own connection, not the fan-out to all others.
        let delivered = catch_unwind(AssertUnwindSafe(|| connection.work(|connection| connection.deliver(key))));
        delivered.unwrap_or_else(|_| {
            connection.close(CloseCode::Internal, "internal error");
            false
        })
    }
}

impl<O: Outbox> Connection<O> {
    /// Runs `work` with the scratch buffers of the thread. In between, the connection owns none.
    fn work<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        thread_local!(static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) });
        let mut scratch = SCRATCH.take().unwrap_or_default();
        scratch.lend_to(self);
        let done = work(self);
        scratch.restore(self);
        SCRATCH.set(Some(scratch));
        done
    }

    /// Reads a channel and writes its entries. False if something is left to the task.
    fn deliver(&mut self, key: u32) -> bool {
        // A flag may mean that nothing more may be sent: the task handles flags first.
        if self.end.is_some()
            || self.notifier.is_raised()
            || self.outbox.queued_bytes() > 0
            || self.subscriptions.have_entries()
        {
            return false;
        }
        for _ in 0..ROUNDS {
            let mut step = ReadStep::MayHaveMore;
            while step != ReadStep::HasNoMore && self.end.is_none() && self.outbox.queued_bytes() < O::HIGH_WATER {
                step = self.subscriptions.read(key, &mut *self.dialect, &mut self.actions);
                self.perform();
            }
            self.subscriptions.request_page(&mut self.jobs, &self.shared);
            let is_written = self.outbox.try_flush();
            if !is_written || self.needs_task() {
                return false;
            }
            if step == ReadStep::HasNoMore {
                return true;
            }
        }
        // The channel may have more: false makes the notifier wake the task for this key.
        false
    }

    /// Whether the task has more to do. The notifier does not count: what it reports has woken the task already.
    fn needs_task(&self) -> bool {
        self.subscriptions.have_ready()
            || self.end.is_some()
            || self.jobs.have_unpolled()
            || self.deadlines.have_moved_earlier()
    }
}
