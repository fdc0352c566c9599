//! Batches of messages that go out as one JSON array.

use std::{ops::RangeInclusive, time::Duration};

use tokio::time::Instant;

use super::{Action, Actions};
use crewcast_websocket::frame::text_frame;

/// How long a client may have its messages collected, in milliseconds.
pub(crate) const BATCH_MS: RangeInclusive<u64> = 1..=1000;

/// Most bytes of a batch, unless a single message is larger. Larger batches would save nothing, and a client that asks
/// for long batches on a busy channel would cost more memory.
const MAX_BYTES: usize = 64 << 10;

/// The batch of one socket.
pub(crate) struct Batch {
    patience: Duration,
    /// The array so far, without its closing bracket. Allocates nothing while no message waits.
    text: Vec<u8>,
    events: usize,
    /// When the batch goes out; `None` while it is empty.
    due: Option<Instant>,
}

impl Batch {
    /// A batch goes out this long after its first message.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, text: Vec::new(), events: 0, due: None }
    }

    /// Adds an event.
    pub(crate) fn add_event(&mut self, text: &[u8], out: &mut Actions) {
        self.add(text, 1, out);
    }

    /// Adds a message of the gateway itself.
    pub(crate) fn add_message(&mut self, text: &str, out: &mut Actions) {
        self.add(text.as_bytes(), 0, out);
    }

    fn add(&mut self, text: &[u8], events: usize, out: &mut Actions) {
        if self.text.len() + text.len() > MAX_BYTES {
            self.flush(out);
        }
        if self.due.is_none() {
            let due = Instant::now() + self.patience;
            self.due = Some(due);
            out.push(Action::WakeAt(due));
        }
        self.text.push(if self.text.is_empty() { b'[' } else { b',' });
        self.text.extend_from_slice(text);
        self.events += events;
        if self.text.len() >= MAX_BYTES {
            self.flush(out);
        }
    }

    /// Sends the batch if it is due.
    pub(crate) fn on_timer(&mut self, now: Instant, out: &mut Actions) {
        match self.due {
            Some(due) if due <= now => self.flush(out),
            // An earlier batch asked for this moment, and went out before because it was full.
            Some(due) => out.push(Action::WakeAt(due)),
            None => {}
        }
    }

    /// Sends the batch.
    pub(crate) fn flush(&mut self, out: &mut Actions) {
        if self.due.take().is_some() {
            let mut text = std::mem::take(&mut self.text);
            text.push(b']');
            let events = std::mem::take(&mut self.events);
            out.push(Action::DeliverBatch { frame: text_frame(&text), events });
        }
    }
}
