//! How long a client may be silent, and how many messages it may send.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{Bucket, Rate};

/// How long a client may be silent before it is pinged.
const SILENCE: Duration = Duration::from_secs(30);
/// Pings that may remain unanswered.
const PINGS: u32 = 2;
/// Messages per minute.
const MESSAGES: u32 = 60;
/// A socket is closed after this many refused messages.
const REFUSED: u32 = 10;
/// Refusals are forgotten after this long without another one.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Pings a silent client. The client library's answers to WebSocket pings do not count, because the page behind it may
/// hang.
pub(crate) struct Keepalive {
    since: Instant,
    pings: u32,
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// A `ping`.
    Ping,
    /// The client did not answer: close the socket.
    Close,
}

impl Keepalive {
    /// The keepalive of a new connection.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, pings: 0 }
    }

    /// A message of the client arrived.
    pub(crate) fn heard(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// What is due now.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if now < self.next() {
            return Due::Nothing;
        }
        self.since = now;
        self.pings += 1;
        if self.pings > PINGS { Due::Close } else { Due::Ping }
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Instant {
        self.since + SILENCE
    }
}

/// Limits a client to `MESSAGES` per minute.
pub(crate) struct MessageRate {
    rate: Rate,
    bucket: Bucket,
    refused: u32,
    refused_at: Instant,
}

impl MessageRate {
    /// The rate of a new connection.
    pub(crate) fn new(now: Instant) -> Self {
        Self { rate: Rate::per_minute(MESSAGES), bucket: Bucket::new(now), refused: 0, refused_at: now }
    }

    /// Whether one more message is allowed.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        self.bucket.take(&self.rate, now)
    }

    /// Counts a refused message. Returns whether the limit of refusals is reached.
    pub(crate) fn refuse(&mut self, now: Instant) -> bool {
        if now.duration_since(self.refused_at) >= FORGOTTEN {
            self.refused = 0;
        }
        self.refused += 1;
        self.refused_at = now;
        self.refused >= REFUSED
    }
}
