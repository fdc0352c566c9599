//! Everything that a connection must do or give up by some moment.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::{Duration, Instant, Sleep, sleep_until};

use super::coarse_timer::{CoarseTimer, RESOLUTION};
use crate::hub::Notifier;

/// How often the peer is pinged at protocol level (spec: dialect `crew`).
const PING: Duration = Duration::from_secs(30);
/// How long a peer may be silent.
const SILENCE: Duration = Duration::from_secs(75);

/// Nearer than this the connection waits by a timer of its own.
const NEAR: Duration = RESOLUTION.saturating_mul(2);

/// A moment in nanoseconds of the process's life: half the size of an `Instant`, of which each socket keeps many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Moment(u64);

impl Moment {
    const NEVER: Self = Self(u64::MAX);

    fn at(instant: Instant) -> Self {
        Self(u64::try_from(instant.saturating_duration_since(beginning()).as_nanos()).unwrap_or(u64::MAX))
    }

    fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }

    fn has_come(self, now: Instant) -> bool {
        self <= Self::at(now)
    }

    fn instant(self) -> Instant {
        beginning() + Duration::from_nanos(self.0)
    }
}

/// Milliseconds, up to 49 days: half the size of a `Duration`.
#[derive(Clone, Copy)]
struct Millis(u32);

impl Millis {
    fn of(duration: Duration) -> Self {
        Self(u32::try_from(duration.as_millis()).unwrap_or(u32::MAX))
    }

    fn duration(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

/// Before any moment that there is, also for clocks of tests, which begin when they like.
fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(|| {
        let now = Instant::now();
        now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
    })
}

pub(super) struct Deadlines {
    /// Only while some deadline is near.
    timer: Option<Pin<Box<Sleep>>>,
    /// For when an alarm is set that has not rung.
    alarm: Moment,
    ping: Moment,
    /// When the peer has been silent for too long; never, where nobody expects it to speak.
    silence: Moment,
    heartbeat: Moment,
    heartbeat_every: Millis,
    /// When the token expires, as it looked on the wall clock so far …
    expiry: Moment,
    /// … and the Unix second of it.
    expiry_second: u64,
    patience: Moment,
    dialect: Moment,
    /// The dialect's moment is nearer than what was waited for.
    is_nearer: bool,
    /// When a draining replica sends this connection away.
    leave: Moment,
    stall: Millis,
    /// When what waits has waited too long, unless more is written than was then; never while nothing waits.
    stalled: Moment,
    written: u64,
}

impl Deadlines {
    /// Deadlines of a connection that opens now. `expires_at`: Unix second.
    pub(super) fn new(
        heartbeat: Option<Duration>,
        stall: Duration,
        expires_at: Option<u64>,
        expects_pong: bool,
    ) -> Self {
        let now = Moment::at(Instant::now());
        let mut deadlines = Self {
            timer: None,
            alarm: Moment::NEVER,
            ping: now.after(PING),
            silence: if expects_pong { now.after(SILENCE) } else { Moment::NEVER },
            heartbeat: heartbeat.map_or(Moment::NEVER, |every| now.after(every)),
            heartbeat_every: Millis::of(heartbeat.unwrap_or_default()),
            expiry: Moment::NEVER,
            expiry_second: u64::MAX,
            patience: Moment::NEVER,
            dialect: Moment::NEVER,
            is_nearer: false,
            leave: Moment::NEVER,
            stall: Millis::of(stall),
            stalled: Moment::NEVER,
            written: 0,
        };
        deadlines.expires_at(expires_at);
        deadlines
    }

    pub(super) fn heard(&mut self, now: Instant) {
        if self.silence != Moment::NEVER {
            self.silence = Moment::at(now).after(SILENCE);
        }
    }

    pub(super) fn expires_at(&mut self, unix_second: Option<u64>) {
        self.expiry_second = unix_second.unwrap_or(u64::MAX);
        self.expiry = unix_second.map_or(Moment::NEVER, |second| moment_of(second, since_epoch()));
    }

    /// The wall clock may have been set forward, or the machine have slept: then the token expires earlier than
    /// it seemed. One that was set back moves nothing.
    fn look_at_wall_clock(&mut self, since_epoch: Duration) {
        if self.expiry != Moment::NEVER {
            self.expiry = self.expiry.min(moment_of(self.expiry_second, since_epoch));
        }
    }

    pub(super) fn give_up_at(&mut self, at: Option<Instant>) {
        self.patience = at.map_or(Moment::NEVER, Moment::at);
    }

    pub(super) fn wake_dialect_at(&mut self, at: Instant) {
        let at = Moment::at(at);
        self.is_nearer |= at < self.next();
        self.dialect = self.dialect.min(at);
    }

    /// Whether a poll is due because of a moment that is nearer than what was waited for.
    pub(super) fn have_come_nearer(&self) -> bool {
        self.is_nearer
    }

    /// The replica drains: this connection goes at its own moment, counted from the first time that it is told.
    pub(super) fn leave_in(&mut self, moment: Duration) {
        if self.leave == Moment::NEVER {
            self.leave = Moment::at(Instant::now()).after(moment);
        }
    }

    pub(super) fn leaves(&self, now: Instant) -> bool {
        self.leave.has_come(now)
    }

    /// Notes how far writing has come.
    pub(super) fn watch_progress(&mut self, written: u64, waits: bool) {
        if !waits {
            self.stalled = Moment::NEVER;
        } else if self.stalled == Moment::NEVER || self.written != written {
            // A peer that takes what is written lives, even if its own messages wait to be read.
            let now = Instant::now();
            self.heard(now);
            (self.stalled, self.written) = (Moment::at(now).after(self.stall.duration()), written);
        }
    }

    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.expiry.has_come(now)
    }

    pub(super) fn missed_pong(&self, now: Instant) -> bool {
        self.silence.has_come(now)
    }

    pub(super) fn has_stalled(&self, now: Instant, written: u64, waits: bool) -> bool {
        waits && self.written == written && self.stalled.has_come(now)
    }

    pub(super) fn has_given_up(&self, now: Instant) -> bool {
        self.patience.has_come(now)
    }

    pub(super) fn pings(&mut self, now: Instant) -> bool {
        let is_due = self.ping.has_come(now);
        if is_due {
            self.ping = Moment::at(now).after(PING);
            self.look_at_wall_clock(since_epoch());
        }
        is_due
    }

    pub(super) fn beats(&mut self, now: Instant) -> bool {
        let is_due = self.heartbeat.has_come(now);
        if is_due {
            self.heartbeat = Moment::at(now).after(self.heartbeat_every.duration());
        }
        is_due
    }

    pub(super) fn wakes_dialect(&mut self, now: Instant) -> bool {
        let is_due = self.dialect.has_come(now);
        if is_due {
            self.dialect = Moment::NEVER;
        }
        is_due
    }

    /// The alarm that was set has rung.
    pub(super) fn timer_fired(&mut self) {
        self.alarm = Moment::NEVER;
    }

    /// Ready when some deadline has passed. `notifier` is what an alarm wakes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, timer: &CoarseTimer, notifier: &Arc<Notifier>) -> Poll<()> {
        self.is_nearer = false;
        let (next, now) = (self.next(), Instant::now());
        if next.has_come(now) {
            self.timer = None;
            return Poll::Ready(());
        }
        if next > Moment::at(now).after(NEAR) {
            self.timer = None;
            // A deadline that moved away is noticed when the alarm rings too early.
            if next < self.alarm {
                self.alarm = next;
                timer.set(next.instant(), notifier);
            }
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next.instant())));
        if timer.deadline() != next.instant() {
            timer.as_mut().reset(next.instant());
        }
        timer.as_mut().poll(cx)
    }

    fn next(&self) -> Moment {
        [self.ping, self.silence, self.heartbeat, self.expiry, self.patience, self.dialect, self.leave, self.stalled]
            .into_iter()
            .fold(Moment::NEVER, Moment::min)
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// When it will be `unix_second`, by a wall clock that shows `since_epoch` now.
fn moment_of(unix_second: u64, since_epoch: Duration) -> Moment {
    // An expiry in the far future must not overflow the clock.
    let left = Duration::from_secs(unix_second).saturating_sub(since_epoch).min(Duration::from_secs(86_400 * 365));
    Moment::at(Instant::now()).after(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_jumps_ends_a_token_no_later_than_it_says() {
        let start = since_epoch();
        let mut deadlines = Deadlines::new(None, PING, Some(start.as_secs() + 3600), true);
        deadlines.look_at_wall_clock(start - Duration::from_secs(7200));
        assert!(deadlines.next().instant() <= Instant::now() + Duration::from_secs(3600));
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
