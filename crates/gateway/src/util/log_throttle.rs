//! Throttles log lines, so that a flood of invalid input does not flood the log.

use std::time::{Duration, Instant};

use dashmap::DashMap;

const EVERY: Duration = Duration::from_secs(60);

/// Runs `log` unless the same `what` was logged within the last minute.
pub(crate) fn once_a_minute(what: &'static str, log: impl FnOnce()) {
    static LAST: std::sync::LazyLock<DashMap<&'static str, Instant>> = std::sync::LazyLock::new(DashMap::new);
    let now = Instant::now();
    let mut is_due = false;
    LAST.entry(what)
        .and_modify(|last| {
            if now.duration_since(*last) >= EVERY {
                *last = now;
                is_due = true;
            }
        })
        .or_insert_with(|| {
            is_due = true;
            now
        });
    if is_due {
        log();
    }
}

#[cfg(test)]
mod tests {
    use super::once_a_minute;

    #[test]
    fn a_line_is_logged_once_a_minute() {
        let mut logged = 0;
        for _ in 0..100 {
            once_a_minute("throttle_test", || logged += 1);
        }
        assert_eq!(logged, 1);
    }
}
