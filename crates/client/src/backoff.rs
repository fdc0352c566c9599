//! The delay before the next connection attempt.

use std::time::Duration;

/// The first delay, and the jitter after close code 1012.
pub(crate) const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(5);
/// The longest delay that a gateway may request.
const MAX_REQUESTED_DELAY: Duration = Duration::from_secs(60);

/// Exponential backoff: 100 ms, 200 ms … 5 s, each shortened by a random part of up to one half.
///
/// The jitter spreads clients that were disconnected at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let full = FIRST_DELAY.saturating_mul(1 << self.failures.min(16)).min(MAX_DELAY);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(1.0 - fastrand::f64() / 2.0)
    }

    /// Starts over after a successful attempt.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The delay after a draining gateway: the rest of the time that it requested, plus jitter.
pub(crate) fn after_drain(requested: Duration) -> Duration {
    requested.min(MAX_REQUESTED_DELAY) + FIRST_DELAY.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_longest_and_start_over() {
        let mut backoff = Backoff::default();
        for expected in [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000] {
            let delay = backoff.next().as_millis();
            assert!((expected / 2..=expected).contains(&delay), "{delay} ms, expected at most {expected}");
        }
        backoff.failures = u32::MAX;
        assert!(backoff.next() <= MAX_DELAY);
        backoff.reset();
        assert!(backoff.next() <= FIRST_DELAY);
    }

    #[test]
    fn delays_differ() {
        let delays: std::collections::HashSet<_> = (0..20).map(|_| Backoff::default().next()).collect();
        assert!(delays.len() > 10, "{delays:?}");
    }

    #[test]
    fn the_delay_that_a_gateway_requests_is_bounded() {
        assert!(after_drain(Duration::from_secs(9_999)) <= MAX_REQUESTED_DELAY + FIRST_DELAY);
        assert!(after_drain(Duration::ZERO) <= FIRST_DELAY);
    }
}
