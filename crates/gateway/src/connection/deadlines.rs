//! Everything that a connection must do or give up by some moment, on one timer.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::{Duration, Instant, Sleep, sleep_until};

/// How often the peer is pinged at protocol level (spec: dialect `crew`).
const PING: Duration = Duration::from_secs(30);
/// How long a peer may be silent.
const SILENCE: Duration = Duration::from_secs(75);

pub(super) struct Deadlines {
    timer: Pin<Box<Sleep>>,
    ping: Instant,
    /// When the peer last showed that it lives; `None`: nobody expects it to.
    heard: Option<Instant>,
    heartbeat: Option<(Instant, Duration)>,
    /// When the token expires: the Unix second, and that moment as it looked on the wall clock so far.
    expiry: Option<(u64, Instant)>,
    patience: Option<Instant>,
    dialect: Option<Instant>,
    /// The dialect's moment is nearer than what the timer was set for last.
    is_nearer: bool,
    /// When a draining replica sends this connection away.
    leave: Option<Instant>,
    stall: Duration,
    /// Bytes written when progress was last seen, and when; `None` while nothing waits.
    progress: Option<(u64, Instant)>,
}

impl Deadlines {
    /// Deadlines of a connection that opens now. `expires_at`: Unix second.
    pub(super) fn new(heartbeat: Option<Duration>, stall: Duration, expires_at: Option<u64>) -> Self {
        let now = Instant::now();
        let mut deadlines = Self {
            timer: Box::pin(sleep_until(now + PING)),
            ping: now + PING,
            heard: Some(now),
            heartbeat: heartbeat.map(|every| (now + every, every)),
            expiry: None,
            patience: None,
            dialect: None,
            is_nearer: false,
            leave: None,
            stall,
            progress: None,
        };
        deadlines.expires_at(expires_at);
        deadlines
    }

    /// Of an event stream: nobody answers there, a broken one is noticed by writing.
    pub(super) fn without_answers(mut self) -> Self {
        self.heard = None;
        self
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = self.heard.map(|_| now);
    }

    pub(super) fn expires_at(&mut self, unix_second: Option<u64>) {
        self.expiry = unix_second.map(|second| (second, moment_of(second, since_epoch())));
    }

    /// The wall clock may have been set forward, or the machine have slept: then the token expires earlier than
    /// it seemed. One that was set back moves nothing.
    fn look_at_wall_clock(&mut self, since_epoch: Duration) {
        if let Some((second, at)) = &mut self.expiry {
            *at = (*at).min(moment_of(*second, since_epoch));
        }
    }

    pub(super) fn lose_patience_at(&mut self, at: Option<Instant>) {
        self.patience = at;
    }

    pub(super) fn wake_dialect_at(&mut self, at: Instant) {
        self.dialect = Some(self.dialect.map_or(at, |earlier| earlier.min(at)));
        self.is_nearer |= at < self.timer.deadline();
    }

    /// Whether a poll is due because of a moment that is nearer than the timer's.
    pub(super) fn have_come_nearer(&self) -> bool {
        self.is_nearer
    }

    /// The replica drains: this connection goes at its own moment, counted from the first time that it is told.
    pub(super) fn leave_in(&mut self, moment: Duration) {
        self.leave.get_or_insert_with(|| Instant::now() + moment);
    }

    pub(super) fn leaves(&self, now: Instant) -> bool {
        self.leave.is_some_and(|at| at <= now)
    }

    /// Notes how far writing has come.
    pub(super) fn watch_progress(&mut self, written: u64, waits: bool) {
        self.progress = match self.progress {
            _ if !waits => None,
            Some((before, since)) if before == written => Some((before, since)),
            _ => {
                // A peer that takes what is written lives, even if its own messages wait to be read.
                let now = Instant::now();
                self.heard(now);
                Some((written, now))
            }
        };
    }

    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.expiry.is_some_and(|(_, at)| at <= now)
    }

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| heard + SILENCE <= now)
    }

    pub(super) fn has_stalled(&self, now: Instant, written: u64, waits: bool) -> bool {
        waits && self.progress.is_some_and(|(before, since)| before == written && since + self.stall <= now)
    }

    pub(super) fn has_lost_patience(&self, now: Instant) -> bool {
        self.patience.is_some_and(|at| at <= now)
    }

    pub(super) fn pings(&mut self, now: Instant) -> bool {
        let is_due = self.ping <= now;
        if is_due {
            self.ping = now + PING;
            self.look_at_wall_clock(since_epoch());
        }
        is_due
    }

    pub(super) fn beats(&mut self, now: Instant) -> bool {
        match &mut self.heartbeat {
            Some((at, every)) if *at <= now => {
                *at = now + *every;
                true
            }
            _ => false,
        }
    }

    pub(super) fn wakes_dialect(&mut self, now: Instant) -> bool {
        self.dialect.take_if(|at| *at <= now).is_some()
    }

    /// Ready when some deadline has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.is_nearer = false;
        let next = self.next();
        // A deadline that moved away is noticed when the timer fires too early: that is cheaper than
        // moving the timer with every message.
        if next < self.timer.deadline() {
            self.timer.as_mut().reset(next);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let next = self.next();
            if next <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }

    fn next(&self) -> Instant {
        let stall = self.progress.map(|(_, since)| since + self.stall);
        let heartbeat = self.heartbeat.map(|(at, _)| at);
        [
            Some(self.ping),
            self.heard.map(|heard| heard + SILENCE),
            heartbeat,
            self.expiry.map(|(_, at)| at),
            self.patience,
            self.dialect,
            self.leave,
            stall,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(self.ping)
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// When it will be `unix_second`, by a wall clock that shows `since_epoch` now.
fn moment_of(unix_second: u64, since_epoch: Duration) -> Instant {
    // An expiry in the far future must not overflow the clock.
    let left = Duration::from_secs(unix_second).saturating_sub(since_epoch).min(Duration::from_secs(86_400 * 365));
    Instant::now() + left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_jumps_ends_a_token_no_later_than_it_says() {
        let start = since_epoch();
        let mut deadlines = Deadlines::new(None, PING, Some(start.as_secs() + 3600));
        deadlines.look_at_wall_clock(start - Duration::from_secs(7200));
        assert!(deadlines.next() <= Instant::now() + Duration::from_secs(3600));
        deadlines.look_at_wall_clock(start + Duration::from_secs(3590));
        assert!(!deadlines.has_expired(Instant::now()), "ten seconds are left");
        assert!(deadlines.has_expired(Instant::now() + Duration::from_secs(11)));
        deadlines.look_at_wall_clock(start + Duration::from_secs(3601));
        assert!(deadlines.has_expired(Instant::now()));
        deadlines.look_at_wall_clock(start);
        assert!(deadlines.has_expired(Instant::now()), "what has expired does not come back");
        deadlines.expires_at(Some(u64::MAX));
        deadlines.look_at_wall_clock(Duration::ZERO);
        assert!(!deadlines.has_expired(Instant::now() + Duration::from_secs(86_400 * 300)));
        deadlines.expires_at(None);
        deadlines.look_at_wall_clock(Duration::MAX);
        assert!(!deadlines.has_expired(Instant::now() + Duration::from_secs(86_400 * 300)));
    }
}
