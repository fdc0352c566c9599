//! What a client does after a socket has ended, by close code or HTTP status.

use crate::error::{ClientError, Cut};

/// How a subscription goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// The subscription has ended normally (1000).
    End { reason: String },
    /// The subscription has failed: the same request would fail again.
    Fail(ClientError),
    /// Reconnect with another token. Fail with this error if there is none.
    FreshToken(ClientError),
    /// Reconnect at once, with jitter: this replica drains, others can serve.
    AtOnce,
    /// Reconnect with backoff.
    Backoff,
}

/// Decides by close code or status.
///
/// `proven` says that this subscription has worked before. An odd HTTP status is then a temporary fault of a proxy, not
/// a wrong address.
pub(crate) fn next_step(cut: &Cut, proven: bool) -> NextStep {
    match cut {
        Cut::Closed { code, reason } => after_close(*code, reason.clone()),
        Cut::Http(status) => after_http_status(*status, proven),
        Cut::Silent(_) | Cut::Token(_) | Cut::Io(_) => NextStep::Backoff,
    }
}

fn after_close(code: u16, reason: String) -> NextStep {
    match code {
        1000 => NextStep::End { reason },
        1003 | 1007 | 1008 | 1009 | 4400 => NextStep::Fail(ClientError::Refused { code, reason }),
        1012 => NextStep::AtOnce,
        4401 => NextStep::FreshToken(ClientError::Unauthorized { reason }),
        4403 => NextStep::Fail(ClientError::Forbidden { reason }),
        4404 => NextStep::Fail(ClientError::NotFound { reason }),
        4409 => NextStep::Fail(ClientError::Replaced { reason }),
        _ => NextStep::Backoff,
    }
}

fn after_http_status(status: u16, proven: bool) -> NextStep {
    match status {
        401 => NextStep::FreshToken(ClientError::Unauthorized { reason: "HTTP 401".to_owned() }),
        403 if !proven => NextStep::Fail(ClientError::Forbidden { reason: "HTTP 403".to_owned() }),
        404 if !proven => NextStep::Fail(ClientError::NotFound { reason: "HTTP 404".to_owned() }),
        408 | 425 | 429 | 500.. => NextStep::Backoff,
        _ if proven => NextStep::Backoff,
        _ => NextStep::Fail(ClientError::Http { status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u16) -> NextStep {
        next_step(&Cut::Closed { code, reason: "why".to_owned() }, true)
    }

    #[test]
    fn every_documented_close_code() {
        let reason = || "why".to_owned();
        assert_eq!(of(1000), NextStep::End { reason: reason() });
        for code in [1003, 1007, 1008, 1009, 4400] {
            assert_eq!(of(code), NextStep::Fail(ClientError::Refused { code, reason: reason() }));
        }
        for code in [1001, 1005, 1006, 1011, 1013, 4408, 4429, 4999] {
            assert_eq!(of(code), NextStep::Backoff, "{code}");
        }
        assert_eq!(of(1012), NextStep::AtOnce);
        assert_eq!(of(4401), NextStep::FreshToken(ClientError::Unauthorized { reason: reason() }));
        assert_eq!(of(4403), NextStep::Fail(ClientError::Forbidden { reason: reason() }));
        assert_eq!(of(4404), NextStep::Fail(ClientError::NotFound { reason: reason() }));
        assert_eq!(of(4409), NextStep::Fail(ClientError::Replaced { reason: reason() }));
    }

    #[test]
    fn an_http_status_is_final_only_before_the_first_success() {
        for status in [302, 400, 403, 404, 405] {
            assert!(matches!(next_step(&Cut::Http(status), false), NextStep::Fail(_)), "{status}");
            assert_eq!(next_step(&Cut::Http(status), true), NextStep::Backoff, "{status}");
        }
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(next_step(&Cut::Http(status), false), NextStep::Backoff, "{status}");
        }
        assert!(matches!(next_step(&Cut::Http(401), true), NextStep::FreshToken(_)));
    }
}
