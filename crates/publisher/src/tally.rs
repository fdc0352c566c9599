//! What became of the events: counted, and said at most once a minute per reason.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

const SAY_EVERY: Duration = Duration::from_secs(60);

/// Why an event was dropped: the `reason` of `crewcast_publisher_dropped_total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    /// It gave way in a full queue.
    QueueFull,
    /// It alone is larger than an event or the queue may be.
    TooLarge,
    /// The transport refused it.
    Refused,
    /// Its crew or run belongs to another org.
    NotOwner,
    /// It was live, and the transport did not answer: a repetition might double it.
    Live,
    /// The publisher was closed already.
    Closed,
    /// An emitter was given an id that is none.
    Invalid,
    /// It gave way in a full queue, and the spool is full as well.
    SpoolFull,
    /// It gave way in a full queue, and the disk did not take it.
    SpoolFailed,
    /// It was in the spool and is torn, damaged or gone.
    SpoolDamaged,
    /// It had been confirmed, a failover or a flush lost it, and it is kept no longer, or must not be sent again.
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

/// What a publisher has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Events that the transport confirmed.
    pub published: u64,
    /// Attempts that were repeated.
    pub retried: u64,
    /// Events that were dropped, for whatever reason.
    pub dropped: u64,
    /// Events that were sent again because a failover had lost them. Each was counted as published before.
    pub resent: u64,
}

#[derive(Default)]
pub(crate) struct Tally {
    published: AtomicU64,
    retried: AtomicU64,
    dropped: AtomicU64,
    resent: AtomicU64,
    said: [Mutex<Said>; Reason::ALL.len()],
    said_away: Mutex<Said>,
    said_spool: Mutex<Said>,
    said_resent: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    at: Option<Instant>,
    since: u64,
}

impl Said {
    /// How many there are to speak of, when it is time to speak.
    fn due(&mut self, count: u64) -> Option<u64> {
        self.since += count;
        if self.at.is_some_and(|at| at.elapsed() < SAY_EVERY) {
            return None;
        }
        self.at = Some(Instant::now());
        Some(std::mem::take(&mut self.since))
    }
}

impl Tally {
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
        if let Some(attempts) = self.said_away.lock().due(1) {
            tracing::warn!(attempts, why, "events wait: publishing is repeated");
        }
    }

    pub(crate) fn resent(&self, count: u64) {
        self.resent.fetch_add(count, Ordering::Relaxed);
        metrics::counter!("crewcast_publisher_resent_total").increment(count);
        if let Some(events) = self.said_resent.lock().due(count) {
            tracing::warn!(events, "confirmed events were lost by a failover and are sent again");
        }
    }

    /// The disk does not do what the spool asks of it. What is lost by that is counted by itself.
    pub(crate) fn spool_failed(&self, why: &str) {
        if let Some(times) = self.said_spool.lock().due(1) {
            tracing::warn!(times, why, "the spool does not work as it should");
        }
    }

    pub(crate) fn dropped(&self, reason: Reason, count: u64, why: &str) {
        if count == 0 {
            return;
        }
        self.dropped.fetch_add(count, Ordering::Relaxed);
        metrics::counter!("crewcast_publisher_dropped_total", "reason" => reason.label()).increment(count);
        if let Some(events) = self.said[reason as usize].lock().due(count) {
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
    async fn speaks_once_a_minute_of_all_that_happened_since() {
        let mut said = Said::default();
        assert_eq!(said.due(2), Some(2));
        assert_eq!((said.due(3), said.due(4)), (None, None));
        tokio::time::advance(SAY_EVERY).await;
        assert_eq!(said.due(1), Some(8));
        assert_eq!(said.due(1), None);
    }
}
