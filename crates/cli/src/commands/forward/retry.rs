//! The meaning of a webhook's response, and the delay before the next attempt.

use std::time::{Duration, SystemTime};

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

/// The first delay.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// The longest delay without a `Retry-After`.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// The longest `Retry-After` that is honoured, so that a wrong one does not stop a channel for a year.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The meaning of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The webhook has accepted the event.
    Accepted,
    /// The webhook may accept the event later.
    Retry,
    /// The webhook will refuse the event again.
    Refused,
}

/// Judges a response by its status.
pub(super) fn verdict(status: StatusCode) -> Verdict {
    let is_temporary =
        matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    if status.is_success() {
        Verdict::Accepted
    } else if status.is_redirection() || (status.is_client_error() && !is_temporary) {
        Verdict::Refused
    } else {
        Verdict::Retry
    }
}

/// The delay that a response requests with `Retry-After`: seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(delay.min(MAX_RETRY_AFTER))
}

/// Exponential backoff from 0.5 s to one minute, each delay shortened by a random part of up to one half.
///
/// The jitter spreads the load on a webhook that recovers.
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST_DELAY }
    }
}

impl Backoff {
    /// The next delay, at least as long as requested.
    pub(super) fn delay(&mut self, requested: Option<Duration>) -> Duration {
        let delay = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(MAX_DELAY);
        requested.map_or(delay, |requested| requested.max(delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_to_retry() {
        let of = |status| verdict(StatusCode::from_u16(status).unwrap());
        for status in [200, 201, 202, 204] {
            assert_eq!(of(status), Verdict::Accepted, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(of(status), Verdict::Retry, "{status}");
        }
        for status in [301, 302, 307, 400, 401, 404, 410, 413, 422] {
            assert_eq!(of(status), Verdict::Refused, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_is_bounded() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let requested = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, now).map(|delay| delay.as_secs())
        };
        assert_eq!(requested("7"), Some(7));
        assert_eq!(requested("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(requested("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(requested("99999999"), Some(3600));
        for bad in ["-1", "soon", ""] {
            assert_eq!(requested(bad), None, "{bad}");
        }
    }

    #[test]
    fn delays_grow_and_honour_retry_after() {
        let mut backoff = Backoff::default();
        let delays: Vec<Duration> = (0..20).map(|_| backoff.delay(None)).collect();
        assert!(delays[0] >= FIRST_DELAY / 2 && delays[0] <= FIRST_DELAY);
        assert!(delays[10..].iter().all(|delay| (MAX_DELAY / 2..=MAX_DELAY).contains(delay)), "{delays:?}");
        assert!(delays[10..].iter().any(|delay| *delay != delays[10]), "jitter");
        assert_eq!(Backoff::default().delay(Some(Duration::from_secs(9))), Duration::from_secs(9));
        assert!(Backoff::default().delay(Some(Duration::ZERO)) >= FIRST_DELAY / 2);
    }
}
