//! Where a connection writes: a WebSocket, or the body of an event stream.
//!
//! A connection is the same for both. What differs is here: how bytes leave, whether a peer can speak, and how the
//! end is said.

mod event_stream;
mod websocket;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use crewcast_websocket::{Agreed, CloseCode, Message, ProtocolError, socket::FrameQueue};

pub use event_stream::EventStream;

/// The peer is gone: nothing more can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerGone;

/// What closes an outbox, in a box: an idle connection does not carry the room that closing needs.
pub type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The transport's end of one connection.
pub trait Outbox: Send + Sized + 'static {
    /// Reading from the rings pauses while this many bytes wait: a slow reader stays a cursor.
    const HIGH_WATER: usize;
    /// Whether the peer answers pings, so that silence means it is gone.
    const EXPECTS_PONG: bool;

    /// Queues what a dialect has encoded for this transport.
    fn queue(&mut self, frame: Bytes);

    /// Bytes queued and not yet handed on.
    fn queued_bytes(&self) -> usize;

    /// Bytes handed on since the beginning: grows while the peer reads.
    fn written_bytes(&self) -> u64;

    /// Hands on what is queued. `Pending`: no more is taken for now, and the task is woken when more is.
    ///
    /// # Errors
    /// [`PeerGone`].
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PeerGone>>;

    /// Hands on what is taken right now, without a task to wake. Returns whether that was everything.
    fn try_flush(&mut self) -> bool;

    /// The peer's next message; `None` when it is gone without a close.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, ProtocolError>>>;

    /// Flushes what is queued, says how the connection ends and waits for a bounded time until the peer has it.
    fn close(self, code: CloseCode, reason: &str) -> Closing;

    /// Queues a protocol-level ping, where there is one.
    fn ping(&mut self) {}

    /// Queues the answer to a protocol-level ping.
    fn pong(&mut self, _payload: &[u8]) {}

    /// The compression that the handshake agreed on.
    fn agreed(&self) -> Option<Agreed> {
        None
    }

    /// Takes the thread's room for frames, if it uses such and has none.
    fn borrow_queue(&mut self, _room: &mut FrameQueue) {}

    /// Gives its room for frames back once nothing waits in it: an idle connection has none.
    fn restore_queue(&mut self, _room: &mut FrameQueue) {}
}
