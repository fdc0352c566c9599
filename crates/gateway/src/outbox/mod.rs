//! Where a connection writes: a WebSocket, or the body of an event stream.
//!
//! A connection is the same for both. They differ in how bytes leave, whether the peer can send messages, and how the
//! end is reported.

mod event_stream;
mod websocket;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use crewcast_websocket::{Agreed, CloseCode, Message, ProtocolError, socket::FrameQueue};

pub(crate) use event_stream::EventStream;

/// The peer is gone: nothing more can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PeerGone;

/// The future that closes an outbox; in a box, so that the future of an idle connection stays small.
pub(crate) type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The transport's end of one connection.
pub(crate) trait Outbox: Send + Sized + 'static {
    /// Reading from the rings pauses while this many bytes are queued: a slow reader stays a cursor.
    const HIGH_WATER: usize;
    /// Whether the peer answers pings, so that silence means it is gone.
    const EXPECTS_PONG: bool;

    /// Queues what a dialect has encoded for this transport.
    fn queue(&mut self, frame: Bytes);

    /// Bytes that are queued and not yet handed on.
    fn queued_bytes(&self) -> usize;

    /// Bytes handed on since the connection opened: grows while the peer reads.
    fn written_bytes(&self) -> u64;

    /// Hands on what is queued. `Pending`: the transport takes no more for now, and wakes the task when it does.
    ///
    /// # Errors
    /// [`PeerGone`], if the peer is gone.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PeerGone>>;

    /// Hands on what the transport takes at once, without registering a waker. Returns whether that was everything.
    fn try_flush(&mut self) -> bool;

    /// The peer's next message; `None` when it is gone without a close.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, ProtocolError>>>;

    /// Flushes what is queued, reports the end to the peer, and waits for a bounded time until the peer has it.
    fn close(self, code: CloseCode, reason: &str) -> Closing;

    /// Queues a protocol-level ping, if the transport has pings.
    fn ping(&mut self) {}

    /// Queues the answer to a protocol-level ping.
    fn pong(&mut self, _payload: &[u8]) {}

    /// The compression that the handshake agreed on, if any.
    fn agreed(&self) -> Option<Agreed> {
        None
    }

    /// Takes the thread's frame queue, if this outbox uses one and has none.
    fn borrow_queue(&mut self, _queue: &mut FrameQueue) {}

    /// Gives the frame queue back once it is empty: an idle connection has none.
    fn restore_queue(&mut self, _queue: &mut FrameQueue) {}
}
