//! The outbox of a WebSocket: queued frames leave in one write.

use std::task::{Context, Poll};

use bytes::Bytes;
use crewcast_websocket::{
    Agreed, CloseCode, Message, ProtocolError, Socket, ping_frame, pong_frame, socket::FrameQueue,
};

use super::{Closing, Outbox, PeerGone};

impl Outbox for Socket {
    const HIGH_WATER: usize = 128 << 10;
    const EXPECTS_PONG: bool = true;

    fn queue(&mut self, frame: Bytes) {
        Socket::queue(self, frame);
    }

    fn queued_bytes(&self) -> usize {
        Socket::queued_bytes(self)
    }

    fn written_bytes(&self) -> u64 {
        Socket::written_bytes(self)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PeerGone>> {
        Socket::poll_flush(self, cx).map_err(|_| PeerGone)
    }

    fn try_flush(&mut self) -> bool {
        self.write()
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, ProtocolError>>> {
        Socket::poll_message(self, cx)
    }

    fn close(self, code: CloseCode, reason: &str) -> Closing {
        Socket::close(self, code, reason)
    }

    fn ping(&mut self) {
        Socket::queue(self, ping_frame(b""));
    }

    fn pong(&mut self, payload: &[u8]) {
        Socket::queue(self, pong_frame(payload));
    }

    fn agreed(&self) -> Option<Agreed> {
        Socket::agreed(self)
    }

    fn borrow_queue(&mut self, queue: &mut FrameQueue) {
        self.lend_queue(queue);
    }

    fn restore_queue(&mut self, queue: &mut FrameQueue) {
        self.give_back_queue(queue);
    }
}
