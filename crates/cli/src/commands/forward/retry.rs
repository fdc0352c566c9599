//! What a webhook's answer means, and how long to wait before the next attempt.

use std::time::{Duration, SystemTime};

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause that is not asked for.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest `Retry-After` that is honoured, so that a mistaken one does not stop a channel for a year.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// What an answer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The event is the webhook's.
    Accepted,
    /// It may be accepted later.
    Again,
    /// It will be refused as often as it is sent.
    Refused,
}

/// Judges an answer by its status.
pub fn verdict(status: StatusCode) -> Verdict {
    let passes = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    if status.is_success() {
        Verdict::Accepted
    } else if status.is_redirection() || (status.is_client_error() && !passes) {
        Verdict::Refused
    } else {
        Verdict::Again
    }
}

/// How long an answer asks to be left alone: seconds, or a moment.
pub fn asked(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(pause.min(LONGEST_ASKED))
}

/// Doubles from 0.5 s to a minute, each pause shortened by up to a half at random, so that what fell over is not run over
/// when it stands up.
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The next pause, and at least as long as was asked for.
    pub fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        asked.map_or(pause, |asked| asked.max(pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_to_come_again() {
        let of = |status| verdict(StatusCode::from_u16(status).unwrap());
        for status in [200, 201, 202, 204] {
            assert_eq!(of(status), Verdict::Accepted, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(of(status), Verdict::Again, "{status}");
        }
        for status in [301, 302, 307, 400, 401, 404, 410, 413, 422] {
            assert_eq!(of(status), Verdict::Refused, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_moment_and_bounded() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let asked = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            asked(&headers, now).map(|pause| pause.as_secs())
        };
        assert_eq!(asked("7"), Some(7));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(asked("99999999"), Some(3600));
        for bad in ["-1", "soon", ""] {
            assert_eq!(asked(bad), None, "{bad}");
        }
    }

    #[test]
    fn pauses_grow_and_honour_what_is_asked() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.pause(None)).collect();
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST);
        assert!(pauses[10..].iter().all(|pause| (LONGEST / 2..=LONGEST).contains(pause)), "{pauses:?}");
        assert!(pauses[10..].iter().any(|pause| *pause != pauses[10]), "jitter");
        assert_eq!(Backoff::default().pause(Some(Duration::from_secs(9))), Duration::from_secs(9));
        assert!(Backoff::default().pause(Some(Duration::ZERO)) >= FIRST / 2);
    }
}
