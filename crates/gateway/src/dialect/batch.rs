//! Messages that wait for each other, to go out as one JSON array.

use std::{ops::RangeInclusive, time::Duration};

use tokio::time::Instant;

use super::{Action, Actions};
use crewcast_websocket::frame::text_frame;

/// How long a client may have its messages collected, in milliseconds.
pub const BATCH_MS: RangeInclusive<u64> = 1..=1000;

/// Bytes that a batch holds at most, unless one message alone is larger: as large as a frame of one event usually is, it
/// would save nothing, and a client that asks for long batches on a busy channel costs no more memory.
const MAX_BYTES: usize = 64 << 10;

/// What waits for one socket.
pub struct Batch {
    patience: Duration,
    /// The array so far, without its closing bracket; no room is kept while nothing waits.
    text: Vec<u8>,
    events: usize,
    /// When it goes out; `None` while it is empty.
    due: Option<Instant>,
}

impl Batch {
    /// Batches that wait for so long, counted from their first message.
    pub fn new(patience: Duration) -> Self {
        Self { patience, text: Vec::new(), events: 0, due: None }
    }

    /// Adds an event.
    pub fn add_event(&mut self, text: &[u8], out: &mut Actions) {
        self.add(text, 1, out);
    }

    /// Adds a message of the gateway's own.
    pub fn add_message(&mut self, text: &str, out: &mut Actions) {
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

    /// Sends what waits, if it has waited for long enough.
    pub fn on_timer(&mut self, now: Instant, out: &mut Actions) {
        match self.due {
            Some(due) if due <= now => self.flush(out),
            // An earlier batch had asked for this moment and was full before.
            Some(due) => out.push(Action::WakeAt(due)),
            None => {}
        }
    }

    /// Sends what waits.
    pub fn flush(&mut self, out: &mut Actions) {
        if self.due.take().is_some() {
            let mut text = std::mem::take(&mut self.text);
            text.push(b']');
            let events = std::mem::take(&mut self.events);
            out.push(Action::DeliverBatch { frame: text_frame(&text), events });
        }
    }
}
