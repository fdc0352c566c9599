//! A connection between its task and the sweeps, which both work on it: one at a time.
//!
//! Its task does everything that takes waiting. A sweep that comes along with entries does all that takes none: it
//! reads, lets the dialect speak, and writes, and wakes the task only for what is left.

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

/// Rounds of reading and writing in one visit: a reader of very many is left to its task, and the next one has its turn.
const ROUNDS: usize = 4;

/// A connection that is open; nothing when it has ended.
pub(super) struct SharedConnection<O>(Mutex<Option<Box<Connection<O>>>>);

/// Ends the connection with its task, however that ends: its memberships would hold each other for ever.
pub(super) struct TaskGuard<O>(pub(super) Arc<SharedConnection<O>>);

impl<O> Drop for TaskGuard<O> {
    fn drop(&mut self) {
        drop(self.0.0.lock().take());
    }
}

impl<O: Outbox> SharedConnection<O> {
    pub(super) fn new(connection: Box<Connection<O>>) -> Arc<Self> {
        let notifier = connection.notifier.clone();
        let attended = Arc::new(Self(Mutex::new(Some(connection))));
        let delivery: Arc<dyn Deliver> = attended.clone();
        notifier.deliver_with(Arc::downgrade(&delivery));
        attended
    }

    /// Lets the task begin with the connection.
    pub(super) fn begin(&self, work: impl FnOnce(&mut Connection<O>)) {
        if let Some(connection) = &mut *self.0.lock() {
            connection.work(work);
        }
    }

    /// Handles whatever happens until the connection ends; `None` when it was taken away.
    pub(super) async fn ended(&self) -> Option<Box<Connection<O>>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Box<Connection<O>>>> {
        let mut held = self.0.lock();
        let Some(connection) = &mut *held else { return Poll::Ready(None) };
        connection.work(|connection| {
            while connection.end.is_none()
                && let Poll::Ready(wakeup) = connection.poll_wakeup(cx)
            {
                connection.handle(wakeup);
            }
        });
        match held.take_if(|connection| connection.end.is_some()) {
            Some(connection) => Poll::Ready(Some(connection)),
            None => Poll::Pending,
        }
    }
}

impl<O: Outbox> Deliver for SharedConnection<O> {
    fn try_deliver(&self, key: u32) -> bool {
        // Whoever works on it now may have looked already.
        let Some(mut held) = self.0.try_lock() else { return false };
        let Some(connection) = &mut *held else { return true };
        // A dialect that panics ends its own connection, not the sweep of all others.
        let attended = catch_unwind(AssertUnwindSafe(|| connection.work(|connection| connection.deliver(key))));
        attended.unwrap_or_else(|_| {
            connection.close(CloseCode::Internal, "internal error");
            false
        })
    }
}

impl<O: Outbox> Connection<O> {
    /// Works on the connection with the thread's buffers: between times it has none of its own.
    fn work<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        thread_local!(static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) });
        let mut scratch = SCRATCH.take().unwrap_or_default();
        scratch.lend_to(self);
        let done = work(self);
        scratch.restore(self);
        SCRATCH.set(Some(scratch));
        done
    }

    /// Reads a channel and writes what it gave. False when something is left to the task.
    fn deliver(&mut self, key: u32) -> bool {
        // A flag may say that nothing more is to be sent: that is looked at first.
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
            self.subscriptions.ask_for_page(&mut self.jobs, &self.shared);
            let is_written = self.outbox.try_flush();
            if !is_written || self.needs_task() {
                return false;
            }
            if step == ReadStep::HasNoMore {
                return true;
            }
        }
        // What the key still has is left to the task, which is told by it.
        false
    }

    /// Who rang meanwhile has woken it already.
    fn needs_task(&self) -> bool {
        self.subscriptions.have_ready()
            || self.end.is_some()
            || self.jobs.have_begun()
            || self.deadlines.have_come_nearer()
    }
}
