//! How long to wait before the next attempt.

use std::time::Duration;

/// The first wait, and what 1012 is jittered by.
pub(crate) const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
pub(crate) const LONGEST: Duration = Duration::from_secs(5);
/// How long a gateway may ask clients to stay away.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// Exponential backoff: 100 ms, 200 ms … 5 s, each shortened by up to a half at random, so that clients
/// that were cut together do not return together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(1.0 - fastrand::f64() / 2.0)
    }

    /// The last attempt was a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The wait after a gateway that is going away: what is left of the time that it asked for, jittered.
pub(crate) fn at_once(asked_left: Duration) -> Duration {
    asked_left.min(LONGEST_ASKED) + FIRST.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_longest_and_starts_over() {
        let mut backoff = Backoff::default();
        for expected in [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000] {
            let wait = backoff.next().as_millis();
            assert!((expected / 2..=expected).contains(&wait), "{wait} ms where at most {expected} were due");
        }
        backoff.failures = u32::MAX;
        assert!(backoff.next() <= LONGEST);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }

    #[test]
    fn waits_differ() {
        let waits: std::collections::HashSet<_> = (0..20).map(|_| Backoff::default().next()).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }

    #[test]
    fn a_gateway_cannot_send_clients_away_for_ever() {
        assert!(at_once(Duration::from_secs(9_999)) <= LONGEST_ASKED + FIRST);
        assert!(at_once(Duration::ZERO) <= FIRST);
    }
}
