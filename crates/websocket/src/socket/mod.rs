//! A server's WebSocket over a bare TCP stream.
//!
//! Built for very many sockets that are mostly idle. An idle socket owns no buffer: reads go through one scratch buffer
//! per thread, and only the beginning of an unfinished message is kept. Outgoing frames are shared [`Bytes`], and all
//! queued frames go out in one gathered write.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{io::AsyncWrite, net::TcpStream};

use super::{
    decode::{Decoder, Message, ProtocolError},
    deflate::Agreed,
    frame::{binary_frame, close_frame},
};

/// Maximum number of bytes of one read.
const SCRATCH: usize = 16 * 1024;

/// Maximum number of frames of one gathered write.
const MAX_SLICES: usize = 64;

/// How long a closing server waits for the peer (the spec), so that the close frame is not lost to a reset.
const LINGER: Duration = Duration::from_secs(5);

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// One client's socket. Cancellation safe: every operation is a poll whose state is kept here.
pub struct Socket {
    stream: TcpStream,
    message_limit: usize,
    agreed: Option<Agreed>,
    /// The beginning of an unfinished message, or bytes behind a finished one.
    arriving: Option<Box<Arriving>>,
    /// The first frame may be written in part: its written bytes are cut off.
    queue: FrameQueue,
    queued_bytes: usize,
    written_bytes: u64,
    /// Messages leave in binary frames.
    sends_binary: bool,
}

/// Frames that wait to be written, with their capacity; `None` means empty and takes no memory.
pub type FrameQueue = Option<Box<VecDeque<Bytes>>>;

/// A decoder in the middle of a message, or after the last one.
struct Arriving {
    decoder: Decoder,
    /// Bytes that were read together with a message and not decoded yet.
    unread: Bytes,
}

impl Socket {
    /// Takes over a stream after its handshake. `message_limit` is in bytes, all fragments together; `leftover` is what
    /// was read behind the request's head.
    pub fn new(stream: TcpStream, message_limit: usize, leftover: Bytes) -> Self {
        // Fails only on a dead stream, which the first read reports.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            message_limit,
            agreed: None,
            arriving: (!leftover.is_empty())
                .then(|| Box::new(Arriving { decoder: Decoder::new(message_limit), unread: copy_of(&leftover) })),
            queue: None,
            queued_bytes: 0,
            written_bytes: 0,
            sends_binary: false,
        }
    }

    /// Enables compression if the handshake agreed on it.
    pub fn with_deflate(mut self, agreed: Option<Agreed>) -> Self {
        self.agreed = agreed;
        if let Some(arriving) = &mut self.arriving {
            arriving.decoder.agree(agreed);
        }
        self
    }

    /// Sends every message in a binary frame, for clients that asked for it.
    pub fn with_binary(mut self, sends_binary: bool) -> Self {
        self.sends_binary = sends_binary;
        self
    }

    /// What the handshake agreed on.
    pub fn agreed(&self) -> Option<Agreed> {
        self.agreed
    }

    /// Polls for the next client message. `Ready(None)` means that the peer is gone.
    ///
    /// After [`Message::Close`] and after an error everything is discarded until then. The socket answers nothing by
    /// itself: the caller queues the pong for a ping.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, ProtocolError>>> {
        loop {
            if let Some(message) = self.decode_unread() {
                return Poll::Ready(Some(message));
            }
            // Also replaces the waker of the finished HTTP task that the stream's registration still holds.
            if ready!(self.stream.poll_read_ready(cx)).is_err() {
                return Poll::Ready(None);
            }
            match READ_BUFFER.with_borrow_mut(|buffer| self.read(buffer)) {
                Ok(Some(message)) => return Poll::Ready(Some(message)),
                Ok(None) => {}
                Err(error) if is_transient(&error) => {}
                Err(_) => return Poll::Ready(None),
            }
        }
    }

    fn decode_unread(&mut self) -> Option<Result<Message, ProtocolError>> {
        let mut arriving = self.arriving.take()?;
        let mut input = &arriving.unread[..];
        let message = arriving.decoder.decode(&mut input).transpose();
        let taken = arriving.unread.len() - input.len();
        arriving.unread.advance(taken);
        self.keep(arriving);
        message
    }

    /// Performs one read, and decodes the message that it completes. At the end, the error has the kind
    /// `UnexpectedEof`.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<Result<Message, ProtocolError>>> {
        let read = self.stream.try_read(buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut arriving = self.arriving.take().unwrap_or_else(|| {
            let mut decoder = Decoder::new(self.message_limit);
            decoder.agree(self.agreed);
            Box::new(Arriving { decoder, unread: Bytes::new() })
        });
        let mut input = &buffer[..read];
        let message = arriving.decoder.decode(&mut input).transpose();
        arriving.unread = copy_of(input);
        self.keep(arriving);
        Ok(message)
    }

    /// Keeps nothing between messages.
    fn keep(&mut self, arriving: Box<Arriving>) {
        if !arriving.unread.is_empty() || !arriving.decoder.is_at_rest() {
            self.arriving = Some(arriving);
        }
    }

    /// Queues an encoded frame; [`Socket::poll_flush`] sends it.
    pub fn queue(&mut self, frame: Bytes) {
        let frame = if self.sends_binary { binary_frame(&frame) } else { frame };
        self.queued_bytes += frame.len();
        self.queue.get_or_insert_default().push_back(frame);
    }

    /// Bytes queued and not yet taken by the kernel.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Frames queued and not yet wholly taken by the kernel.
    pub fn queued_frames(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len())
    }

    /// Bytes that the kernel has taken since the beginning. Grows while the peer reads.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Writes what is queued. `Ready(Ok)` means that the kernel has all of it. With `Pending` the kernel takes no more
    /// for now, and the task is woken when it does.
    ///
    /// # Errors
    /// The peer is gone.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.queued_bytes > 0 {
            match self.write_gathered() {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.wrote(written),
                Err(error) if is_transient(&error) => ready!(self.stream.poll_write_ready(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what the kernel takes now; returns whether that was all. Otherwise [`Socket::poll_flush`] continues, or
    /// reports the error.
    pub fn write(&mut self) -> bool {
        while self.queued_bytes > 0 {
            match self.write_gathered() {
                Ok(written) if written > 0 => self.wrote(written),
                _ => return false,
            }
        }
        true
    }

    /// Borrows the queue in `spare`, if the socket has none.
    pub fn lend_queue(&mut self, spare: &mut FrameQueue) {
        if self.queue.is_none() {
            self.queue = spare.take();
        }
    }

    /// Returns the queue to `spare` once nothing waits in it: an idle socket has none.
    pub fn give_back_queue(&mut self, spare: &mut FrameQueue) {
        if self.queued_bytes == 0
            && let Some(queue) = self.queue.take()
        {
            *spare = Some(queue);
        }
    }

    fn write_gathered(&self) -> io::Result<usize> {
        let Some(queue) = &self.queue else { return Ok(0) };
        if let (1, Some(frame)) = (queue.len(), queue.front()) {
            // The kernel does less work for one buffer than for a list of one.
            return self.stream.try_write(frame);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = queue.len().min(MAX_SLICES);
        for (slice, frame) in slices.iter_mut().zip(queue.iter()) {
            *slice = IoSlice::new(frame);
        }
        self.stream.try_write_vectored(&slices[..count])
    }

    fn wrote(&mut self, mut written: usize) {
        self.written_bytes += written as u64;
        self.queued_bytes -= written;
        let Some(queue) = &mut self.queue else { return };
        while let Some(frame) = queue.front_mut() {
            if written < frame.len() {
                frame.advance(written);
                return;
            }
            written -= frame.len();
            queue.pop_front();
        }
    }

    /// Sends what is queued and then a close frame. Then reads and discards until the peer closes, for at most five
    /// seconds. The write side is shut down once the peer's own close frame has arrived or its framing is lost.
    ///
    /// The future is boxed, so that an idle connection does not carry the memory that closing needs.
    pub fn close(mut self, code: impl Into<u16>, reason: &str) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.queue(close_frame(code.into(), reason));
        Box::pin(async move {
            let mut shut = false;
            let linger = poll_fn(|cx| self.poll_linger(&mut shut, cx));
            // A slower peer may miss the close code.
            let _ = tokio::time::timeout(LINGER, linger).await;
        })
    }

    /// Whether a close frame or an error has ended the peer's messages.
    fn has_ended(&self) -> bool {
        self.arriving.as_ref().is_some_and(|arriving| arriving.decoder.has_ended())
    }

    /// Ready when the peer is gone. `shut` is whether the write side is shut down.
    fn poll_linger(&mut self, shut: &mut bool, cx: &mut Context<'_>) -> Poll<()> {
        let flushed = match self.poll_flush(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Pending => false,
        };
        // Reading continues while writing is stuck: a peer that writes before it reads would wait forever.
        let gone = loop {
            match self.poll_message(cx) {
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        if flushed && !*shut && (gone || self.has_ended()) {
            *shut = Pin::new(&mut self.stream).poll_shutdown(cx).is_ready();
        }
        if flushed && gone { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A copy of exact size, without the (larger) allocation that `bytes` may be a part of.
fn copy_of(bytes: &[u8]) -> Bytes {
    if bytes.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(bytes) }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
