//! How long a client may be silent, and how much it may say.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{Bucket, Rate};

/// How long a client is silent before it is asked.
const SILENCE: Duration = Duration::from_secs(30);
/// Pings that may go without an answer.
const PINGS: u32 = 2;
/// Messages a minute.
const MESSAGES: u32 = 60;
/// Refused messages that a socket survives.
const REFUSED: u32 = 10;
/// How long nothing must have been refused, so that it is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Asks a client that says nothing. That its library answers pings of the protocol does not count: a page may hang.
pub struct Keepalive {
    since: Instant,
    pings: u32,
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A `ping`.
    Ping,
    /// The end.
    Close,
}

impl Keepalive {
    /// Of a client that has just come.
    pub fn new(now: Instant) -> Self {
        Self { since: now, pings: 0 }
    }

    /// The client has said something.
    pub fn heard(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// What is due now.
    pub fn due(&mut self, now: Instant) -> Due {
        if now < self.next() {
            return Due::Nothing;
        }
        self.since = now;
        self.pings += 1;
        if self.pings > PINGS { Due::Close } else { Due::Ping }
    }

    /// When something will be due.
    pub fn next(&self) -> Instant {
        self.since + SILENCE
    }
}

/// Holds a client to so many messages a minute.
pub struct MessageRate {
    rate: Rate,
    bucket: Bucket,
    refused: u32,
    refused_at: Instant,
}

impl MessageRate {
    /// Of a client that has just come.
    pub fn new(now: Instant) -> Self {
        Self { rate: Rate::per_minute(MESSAGES), bucket: Bucket::new(now), refused: 0, refused_at: now }
    }

    /// Whether one more message may be looked at.
    pub fn allows(&mut self, now: Instant) -> bool {
        self.bucket.take(&self.rate, now)
    }

    /// One was refused; whether that is too much.
    pub fn refuse(&mut self, now: Instant) -> bool {
        if now.duration_since(self.refused_at) >= FORGOTTEN {
            self.refused = 0;
        }
        self.refused += 1;
        self.refused_at = now;
        self.refused >= REFUSED
    }
}
