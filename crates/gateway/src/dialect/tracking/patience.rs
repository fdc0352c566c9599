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
/// A socket is closed after sending too many messages for this long.
const SURPLUS: Duration = Duration::from_secs(60);
/// The surplus has ended after this long without a refused message.
const PAUSE: Duration = Duration::from_secs(10);

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
    /// The first and the last refused message of the current surplus.
    surplus: Option<(Instant, Instant)>,
}

impl MessageRate {
    /// The rate of a new connection.
    pub(crate) fn new(now: Instant) -> Self {
        Self { rate: Rate::per_minute(MESSAGES), bucket: Bucket::new(now), surplus: None }
    }

    /// Whether one more message is allowed.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        self.bucket.take(&self.rate, now)
    }

    /// Notes a refused message. Returns whether the surplus has lasted too long.
    pub(crate) fn refuse(&mut self, now: Instant) -> bool {
        let current = self.surplus.filter(|(_, last)| now.duration_since(*last) < PAUSE);
        let first = current.map_or(now, |(first, _)| first);
        self.surplus = Some((first, now));
        now.duration_since(first) >= SURPLUS
    }
}
