//! Pauses between attempts, with jitter.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Doubles from 50 ms to 2 s. Each pause is shortened at random by up to half, so that publishers do not retry in step.
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// A random wait before attempt number `failures` + 1: anything up to `first`, which doubles with each failure up to
/// `longest`. Replicas that lost the same server do not come back together.
pub fn full_jitter(first: Duration, longest: Duration, failures: u32) -> Duration {
    let most = first.saturating_mul(1 << failures.min(10)).min(longest);
    most.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_no_further() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.pause()).collect();
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST);
        assert!(pauses[10..].iter().all(|pause| (LONGEST / 2..=LONGEST).contains(pause)), "{pauses:?}");
        assert!(pauses[10..].iter().any(|pause| *pause != pauses[10]), "jitter");
    }
}
