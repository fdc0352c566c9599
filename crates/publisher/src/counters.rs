//! Counts what happens to events, and logs it at most once a minute per reason.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

const LOG_EVERY: Duration = Duration::from_secs(60);

/// Why an event was dropped: the `reason` of `crewcast_publisher_dropped_total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    /// Dropped from a full queue.
    QueueFull,
    /// Larger than an event or the queue may be.
    TooLarge,
    /// Refused by the transport.
    Refused,
    /// Another org owns its crew, run or stream.
    NotOwner,
    /// Live, and the transport did not answer: a retry might duplicate it.
    Live,
    /// Emitted after the publisher was closed.
    Closed,
    /// Emitted with an invalid id.
    Invalid,
    /// Dropped from a full queue while the spool was full too.
    SpoolFull,
    /// Dropped from a full queue because the disk failed.
    SpoolFailed,
    /// Torn, damaged or missing in the spool.
    SpoolDamaged,
    /// Confirmed, then lost by a failover or a flush, and no longer kept or not safe to send again.
    LostByRedis,
}

impl Reason {
    const ALL: [Reason; 11] = [
        Reason::QueueFull,
        Reason::TooLarge,
        Reason::Refused,
        Reason::NotOwner,
        Reason::Live,
        Reason::Closed,
        Reason::Invalid,
        Reason::SpoolFull,
        Reason::SpoolFailed,
        Reason::SpoolDamaged,
        Reason::LostByRedis,
    ];

    fn label(self) -> &'static str {
        match self {
            Reason::QueueFull => "queue_full",
            Reason::TooLarge => "too_large",
            Reason::Refused => "refused",
            Reason::NotOwner => "not_owner",
            Reason::Live => "live",
            Reason::Closed => "closed",
            Reason::Invalid => "invalid",
            Reason::SpoolFull => "spool_full",
            Reason::SpoolFailed => "spool_failed",
            Reason::SpoolDamaged => "spool_damaged",
            Reason::LostByRedis => "lost_by_redis",
        }
    }
}

/// A publisher's counters so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Events that the transport confirmed.
    pub published: u64,
    /// Attempts that were retried.
    pub retried: u64,
    /// Events that were dropped, for any reason.
    pub dropped: u64,
    /// Events that were sent again after a failover. Each was counted as published before.
    pub resent: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    published: AtomicU64,
    retried: AtomicU64,
    dropped: AtomicU64,
    resent: AtomicU64,
    throttles: [Mutex<LogThrottle>; Reason::ALL.len()],
    away_throttle: Mutex<LogThrottle>,
    spool_throttle: Mutex<LogThrottle>,
    resent_throttle: Mutex<LogThrottle>,
}

#[derive(Default)]
struct LogThrottle {
    at: Option<Instant>,
    since: u64,
}

impl LogThrottle {
    /// Adds `count`. Answers the sum since the last log line when it is time for the next one.
    fn due(&mut self, count: u64) -> Option<u64> {
        self.since += count;
        if self.at.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            return None;
        }
        self.at = Some(Instant::now());
        Some(std::mem::take(&mut self.since))
    }
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            published: self.published.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            resent: self.resent.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn published(&self, count: u64) {
        self.published.fetch_add(count, Ordering::Relaxed);
        metrics::counter!("crewcast_publisher_published_total").increment(count);
    }

    pub(crate) fn retried(&self, why: &str) {
        self.retried.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("crewcast_publisher_retried_total").increment(1);
        if let Some(attempts) = self.away_throttle.lock().due(1) {
            tracing::warn!(attempts, why, "events wait: publishing is repeated");
        }
    }

    pub(crate) fn resent(&self, count: u64) {
        self.resent.fetch_add(count, Ordering::Relaxed);
        metrics::counter!("crewcast_publisher_resent_total").increment(count);
        if let Some(events) = self.resent_throttle.lock().due(count) {
            tracing::warn!(events, "confirmed events were lost by a failover and are sent again");
        }
    }

    /// The disk failed the spool. Lost events are counted separately.
    pub(crate) fn spool_failed(&self, why: &str) {
        if let Some(times) = self.spool_throttle.lock().due(1) {
            tracing::warn!(times, why, "the spool does not work as it should");
        }
    }

    pub(crate) fn dropped(&self, reason: Reason, count: u64, why: &str) {
        if count == 0 {
            return;
        }
        self.dropped.fetch_add(count, Ordering::Relaxed);
        metrics::counter!("crewcast_publisher_dropped_total", "reason" => reason.label()).increment(count);
        if let Some(events) = self.throttles[reason as usize].lock().due(count) {
            tracing::warn!(events, reason = reason.label(), why, "events dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_apart_and_documented() {
        let document = include_str!("../../../docs/metrics.md");
        let row = document.lines().find(|line| line.contains("crewcast_publisher_dropped_total")).unwrap();
        for (n, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, n);
            assert!(row.contains(&format!("`{}`", reason.label())), "{reason:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn logs_once_a_minute_with_the_sum_since_the_last_line() {
        let mut throttle = LogThrottle::default();
        assert_eq!(throttle.due(2), Some(2));
        assert_eq!((throttle.due(3), throttle.due(4)), (None, None));
        tokio::time::advance(LOG_EVERY).await;
        assert_eq!(throttle.due(1), Some(8));
        assert_eq!(throttle.due(1), None);
    }
}
