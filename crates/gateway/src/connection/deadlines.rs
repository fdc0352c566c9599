//! The deadlines of a connection: pings, heartbeats, expiry, stalls, and its end in a drain.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use crewcast_events::timestamp::since_epoch;
use tokio::time::{Duration, Instant, Sleep, sleep_until};

use super::coarse_timer::{CoarseTimer, RESOLUTION};
use crate::hub::Notifier;

/// How often the peer is pinged at protocol level (the rules of the dialect `crew`).
const PING: Duration = Duration::from_secs(30);
/// How long the connection waits for any sign of life from a peer that must answer pings.
const PONG_TIMEOUT: Duration = Duration::from_secs(75);

/// For a deadline nearer than this the connection uses a timer of its own.
const NEAR: Duration = RESOLUTION.saturating_mul(2);

/// A moment, in nanoseconds since [`beginning`]. Half the size of an `Instant`: each socket keeps many.
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

/// A duration in milliseconds, up to 49 days. Half the size of a `Duration`.
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

/// A moment before every deadline. The hour is for tests: their clocks may show less than the first call saw.
fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(|| {
        let now = Instant::now();
        now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
    })
}

pub(super) struct Deadlines {
    /// Set only while the next deadline is nearer than [`NEAR`].
    timer: Option<Pin<Box<Sleep>>>,
    /// When the coarse timer was set to fire; never if it has fired since.
    timer_set_for: Moment,
    ping: Moment,
    /// When the peer has been silent for too long; never if the transport has no pongs.
    pong_due: Moment,
    heartbeat: Moment,
    heartbeat_every: Millis,
    /// When the token expires, as computed from the wall clock so far.
    expiry: Moment,
    /// The Unix second at which the token expires.
    expiry_second: u64,
    /// When the connection stops waiting for a broker that is away.
    give_up: Moment,
    /// When the dialect asked to be woken.
    dialect: Moment,
    /// The dialect asked for a moment before the next deadline, and `poll` has not seen it yet.
    moved_earlier: bool,
    /// When this connection leaves a draining replica.
    leave: Moment,
    stall: Millis,
    /// When the peer counts as stalled, unless `written` has grown by then; never while nothing is queued.
    stalled: Moment,
    /// Bytes that were written when `stalled` was set.
    written: u64,
}

impl Deadlines {
    /// The deadlines of a connection that opens now. `expires_at` is a Unix second.
    pub(super) fn new(
        heartbeat: Option<Duration>,
        stall: Duration,
        expires_at: Option<u64>,
        expects_pong: bool,
    ) -> Self {
        let now = Moment::at(Instant::now());
        let mut deadlines = Self {
            timer: None,
            timer_set_for: Moment::NEVER,
            ping: now.after(PING),
            pong_due: if expects_pong { now.after(PONG_TIMEOUT) } else { Moment::NEVER },
            heartbeat: heartbeat.map_or(Moment::NEVER, |every| now.after(every)),
            heartbeat_every: Millis::of(heartbeat.unwrap_or_default()),
            expiry: Moment::NEVER,
            expiry_second: u64::MAX,
            give_up: Moment::NEVER,
            dialect: Moment::NEVER,
            moved_earlier: false,
            leave: Moment::NEVER,
            stall: Millis::of(stall),
            stalled: Moment::NEVER,
            written: 0,
        };
        deadlines.expires_at(expires_at);
        deadlines
    }

    /// The peer showed a sign of life.
    pub(super) fn heard(&mut self, now: Instant) {
        if self.pong_due != Moment::NEVER {
            self.pong_due = Moment::at(now).after(PONG_TIMEOUT);
        }
    }

    pub(super) fn expires_at(&mut self, unix_second: Option<u64>) {
        self.expiry_second = unix_second.unwrap_or(u64::MAX);
        self.expiry = unix_second.map_or(Moment::NEVER, |second| moment_of(second, since_epoch()));
    }

    /// Makes the expiry earlier if the wall clock was set forward or the machine slept. A clock that was set back
    /// changes nothing.
    fn check_wall_clock(&mut self, since_epoch: Duration) {
        if self.expiry != Moment::NEVER {
            self.expiry = self.expiry.min(moment_of(self.expiry_second, since_epoch));
        }
    }

    pub(super) fn give_up_at(&mut self, at: Option<Instant>) {
        self.give_up = at.map_or(Moment::NEVER, Moment::at);
    }

    pub(super) fn wake_dialect_at(&mut self, at: Instant) {
        let at = Moment::at(at);
        self.moved_earlier |= at < self.next();
        self.dialect = self.dialect.min(at);
    }

    /// Whether a deadline was added that is nearer than the one that the last poll waits for.
    pub(super) fn have_moved_earlier(&self) -> bool {
        self.moved_earlier
    }

    /// The replica drains: the connection leaves `moment` after the first call.
    pub(super) fn leave_in(&mut self, moment: Duration) {
        if self.leave == Moment::NEVER {
            self.leave = Moment::at(Instant::now()).after(moment);
        }
    }

    pub(super) fn leaves(&self, now: Instant) -> bool {
        self.leave.has_come(now)
    }

    /// Notes how many bytes are written so far, and whether more are queued.
    pub(super) fn watch_progress(&mut self, written: u64, has_queued: bool) {
        if !has_queued {
            self.stalled = Moment::NEVER;
        } else if self.stalled == Moment::NEVER || self.written != written {
            // A peer that takes bytes is alive, even if its own messages are not read yet.
            let now = Instant::now();
            self.heard(now);
            (self.stalled, self.written) = (Moment::at(now).after(self.stall.duration()), written);
        }
    }

    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.expiry.has_come(now)
    }

    pub(super) fn missed_pong(&self, now: Instant) -> bool {
        self.pong_due.has_come(now)
    }

    pub(super) fn has_stalled(&self, now: Instant, written: u64, has_queued: bool) -> bool {
        has_queued && self.written == written && self.stalled.has_come(now)
    }

    pub(super) fn has_given_up(&self, now: Instant) -> bool {
        self.give_up.has_come(now)
    }

    pub(super) fn pings(&mut self, now: Instant) -> bool {
        let is_due = self.ping.has_come(now);
        if is_due {
            self.ping = Moment::at(now).after(PING);
            self.check_wall_clock(since_epoch());
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

    /// The coarse timer has fired.
    pub(super) fn timer_fired(&mut self) {
        self.timer_set_for = Moment::NEVER;
    }

    /// Ready when a deadline has passed. The coarse `timer` wakes `notifier`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, timer: &CoarseTimer, notifier: &Arc<Notifier>) -> Poll<()> {
        self.moved_earlier = false;
        let (next, now) = (self.next(), Instant::now());
        if next.has_come(now) {
            self.timer = None;
            return Poll::Ready(());
        }
        if next > Moment::at(now).after(NEAR) {
            self.timer = None;
            // If a deadline was postponed meanwhile, the timer fires too early, and the next poll sets it again.
            if next < self.timer_set_for {
                self.timer_set_for = next;
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
        [self.ping, self.pong_due, self.heartbeat, self.expiry, self.give_up, self.dialect, self.leave, self.stalled]
            .into_iter()
            .fold(Moment::NEVER, Moment::min)
    }
}

/// The moment of `unix_second`, if the wall clock now shows `since_epoch`.
fn moment_of(unix_second: u64, since_epoch: Duration) -> Moment {
    // An expiry in the far future must not overflow the clock.
    let left = Duration::from_secs(unix_second).saturating_sub(since_epoch).min(Duration::from_secs(86_400 * 365));
    Moment::at(Instant::now()).after(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_expires_no_later_than_its_expiry_when_the_wall_clock_jumps() {
        let start = since_epoch();
        let mut deadlines = Deadlines::new(None, PING, Some(start.as_secs() + 3600), true);
        deadlines.check_wall_clock(start - Duration::from_secs(7200));
        assert!(deadlines.next().instant() <= Instant::now() + Duration::from_secs(3600));
        deadlines.check_wall_clock(start + Duration::from_secs(3590));
        assert!(!deadlines.has_expired(Instant::now()), "ten seconds are left");
        assert!(deadlines.has_expired(Instant::now() + Duration::from_secs(11)));
        deadlines.check_wall_clock(start + Duration::from_secs(3601));
        assert!(deadlines.has_expired(Instant::now()));
        deadlines.check_wall_clock(start);
        assert!(deadlines.has_expired(Instant::now()), "an expired token stays expired");
        deadlines.expires_at(Some(u64::MAX));
        deadlines.check_wall_clock(Duration::ZERO);
        assert!(!deadlines.has_expired(Instant::now() + Duration::from_secs(86_400 * 300)));
        deadlines.expires_at(None);
        deadlines.check_wall_clock(Duration::MAX);
        assert!(!deadlines.has_expired(Instant::now() + Duration::from_secs(86_400 * 300)));
    }
}
