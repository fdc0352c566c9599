//! What wakes a connection's task.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use crewcast_websocket::decode::{Message, ProtocolError};

use super::{Connection, jobs::Done};
use crate::outbox::Outbox;

/// Why a connection's task woke up.
pub(super) enum Wakeup {
    /// The client sent a message.
    Message(Message),
    /// The client broke the protocol.
    Violation(ProtocolError),
    /// The client is gone.
    PeerGone,
    /// A channel has entries, and the socket has room.
    Entries,
    /// A flag was raised.
    Flags,
    /// A job has finished.
    Done(Done),
    /// A deadline has passed.
    Deadline,
}

impl<O: Outbox> Connection<O> {
    /// The next wakeup, the most urgent first.
    pub(super) fn poll_wakeup(&mut self, cx: &mut Context<'_>) -> Poll<Wakeup> {
        // Register the waker before the checks: a notification in between is not lost.
        self.notifier.register(cx.waker());
        if let Poll::Ready(Err(_)) = self.outbox.poll_flush(cx) {
            return Poll::Ready(Wakeup::PeerGone);
        }
        self.deadlines.watch_progress(self.outbox.written_bytes(), self.outbox.queued_bytes() > 0);
        // Before everything that a client can cause without end.
        if self.deadlines.poll(cx, &self.shared.timer, &self.notifier).is_ready() {
            return Poll::Ready(Wakeup::Deadline);
        }
        if self.notifier.is_raised() {
            return Poll::Ready(Wakeup::Flags);
        }
        let has_room = self.outbox.queued_bytes() < O::HIGH_WATER;
        // While a client does not read the answers it caused, its messages are not read.
        if has_room && !self.jobs.block_client() {
            match self.outbox.poll_message(cx) {
                Poll::Ready(Some(Ok(message))) => return Poll::Ready(Wakeup::Message(message)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Wakeup::Violation(error)),
                Poll::Ready(None) => return Poll::Ready(Wakeup::PeerGone),
                Poll::Pending => {}
            }
        }
        if let Poll::Ready(done) = self.jobs.poll(cx) {
            return Poll::Ready(Wakeup::Done(done));
        }
        if has_room && let Poll::Ready(done) = self.jobs.poll_reads(cx) {
            return Poll::Ready(Wakeup::Done(done));
        }
        if has_room && self.subscriptions.have_entries() {
            return Poll::Ready(Wakeup::Entries);
        }
        Poll::Pending
    }

    /// Waits until everything queued is written, or until nothing was written for `limits.stall`.
    pub(super) async fn flush_rest(&mut self) {
        loop {
            let before = self.outbox.written_bytes();
            let flushing = poll_fn(|cx| self.outbox.poll_flush(cx));
            let flushed = tokio::time::timeout(self.shared.limits.stall, flushing).await;
            if flushed.is_ok() || self.outbox.written_bytes() == before {
                return;
            }
        }
    }
}
