//! The outbox of an event stream: the chunks of an HTTP body.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use crewcast_websocket::{CloseCode, Message, ProtocolError};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::{Closing, Outbox, PeerGone};

/// A chunk ends when it passes this many bytes.
const CHUNK: usize = 64 << 10;
/// How many chunks wait for the client at most. After them the reader is only a cursor.
const CHUNKS: usize = 2;
/// How long a client may take to read the rest when the stream ends.
const LAST_CHUNKS: Duration = Duration::from_secs(5);

/// The writing side of an event stream's body.
pub(crate) struct EventStream {
    pending: BytesMut,
    body: PollSender<Bytes>,
    written: u64,
    /// Ready when the client has closed the stream.
    closed: BoxFuture<'static, ()>,
}

impl EventStream {
    /// Creates a stream, and the chunks of its body.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Bytes>) {
        let (body, chunks) = mpsc::channel(CHUNKS);
        let sender = body.clone();
        let closed = Box::pin(async move { sender.closed().await });
        (Self { pending: BytesMut::new(), body: PollSender::new(body), written: 0, closed }, chunks)
    }

    fn take_chunk(&mut self) -> Bytes {
        let chunk = self.pending.split().freeze();
        self.written += chunk.len() as u64;
        chunk
    }
}

impl Outbox for EventStream {
    const HIGH_WATER: usize = CHUNK;
    const EXPECTS_PONG: bool = false;

    fn queue(&mut self, frame: Bytes) {
        self.pending.extend_from_slice(&frame);
    }

    fn queued_bytes(&self) -> usize {
        self.pending.len()
    }

    fn written_bytes(&self) -> u64 {
        self.written
    }

    /// Never fails: a closed stream is reported as a message, as on a socket.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PeerGone>> {
        while !self.pending.is_empty() {
            match self.body.poll_reserve(cx) {
                Poll::Ready(Ok(())) => {
                    let chunk = self.take_chunk();
                    let _ = self.body.send_item(chunk);
                }
                Poll::Ready(Err(_)) => self.pending.clear(),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn try_flush(&mut self) -> bool {
        if self.pending.is_empty() {
            return true;
        }
        let Some(body) = self.body.get_ref().cloned() else { return false };
        // If `poll_flush` waits for room, it gets the next permit, and this one fails.
        let Ok(permit) = body.try_reserve() else { return false };
        permit.send(self.take_chunk());
        true
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, ProtocolError>>> {
        self.closed.as_mut().poll(cx).map(|()| Some(Ok(Message::Close(None))))
    }

    /// Only waits until the rest is taken: the dialect has written the reason into the stream.
    fn close(mut self, _code: CloseCode, _reason: &str) -> Closing {
        Box::pin(async move {
            let _ = tokio::time::timeout(LAST_CHUNKS, poll_fn(|cx| self.poll_flush(cx))).await;
        })
    }
}
