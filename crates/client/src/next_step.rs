//! What a client does after a socket has ended: one row per close code of the spec.

use crate::error::{ClientError, Cut};

/// How to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is over, and well (1000).
    End { reason: String },
    /// It is over: the same request would fail again.
    Fail(ClientError),
    /// Come back with another token; the error if there is none.
    FreshToken(ClientError),
    /// Come back at once, jittered: the gateway is fine, this replica goes away.
    AtOnce,
    /// Come back with backoff.
    Backoff,
}

/// Decides by close code or status. `proven`: this subscription has worked before, so that a strange
/// HTTP status is a proxy's bad moment and not a wrong address.
pub(crate) fn outcome(cut: &Cut, proven: bool) -> Outcome {
    match cut {
        Cut::Closed { code, reason } => of_code(*code, reason.clone()),
        Cut::Http(status) => of_status(*status, proven),
        Cut::Silent(_) | Cut::Token(_) | Cut::Io(_) => Outcome::Backoff,
    }
}

fn of_code(code: u16, reason: String) -> Outcome {
    match code {
        1000 => Outcome::End { reason },
        1003 | 1007 | 1008 | 1009 | 4400 => Outcome::Fail(ClientError::Refused { code, reason }),
        1012 => Outcome::AtOnce,
        4401 => Outcome::FreshToken(ClientError::Unauthorized { reason }),
        4403 => Outcome::Fail(ClientError::Forbidden { reason }),
        4404 => Outcome::Fail(ClientError::NotFound { reason }),
        4409 => Outcome::Fail(ClientError::Replaced { reason }),
        _ => Outcome::Backoff,
    }
}

fn of_status(status: u16, proven: bool) -> Outcome {
    match status {
        401 => Outcome::FreshToken(ClientError::Unauthorized { reason: "HTTP 401".to_owned() }),
        403 if !proven => Outcome::Fail(ClientError::Forbidden { reason: "HTTP 403".to_owned() }),
        404 if !proven => Outcome::Fail(ClientError::NotFound { reason: "HTTP 404".to_owned() }),
        408 | 425 | 429 | 500.. => Outcome::Backoff,
        _ if proven => Outcome::Backoff,
        _ => Outcome::Fail(ClientError::Http { status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u16) -> Outcome {
        outcome(&Cut::Closed { code, reason: "why".to_owned() }, true)
    }

    #[test]
    fn every_close_code_of_the_spec() {
        let reason = || "why".to_owned();
        assert_eq!(of(1000), Outcome::End { reason: reason() });
        for code in [1003, 1007, 1008, 1009, 4400] {
            assert_eq!(of(code), Outcome::Fail(ClientError::Refused { code, reason: reason() }));
        }
        for code in [1001, 1005, 1006, 1011, 1013, 4408, 4429, 4999] {
            assert_eq!(of(code), Outcome::Backoff, "{code}");
        }
        assert_eq!(of(1012), Outcome::AtOnce);
        assert_eq!(of(4401), Outcome::FreshToken(ClientError::Unauthorized { reason: reason() }));
        assert_eq!(of(4403), Outcome::Fail(ClientError::Forbidden { reason: reason() }));
        assert_eq!(of(4404), Outcome::Fail(ClientError::NotFound { reason: reason() }));
        assert_eq!(of(4409), Outcome::Fail(ClientError::Replaced { reason: reason() }));
    }

    #[test]
    fn a_status_ends_only_what_never_worked() {
        for status in [302, 400, 403, 404, 405] {
            assert!(matches!(outcome(&Cut::Http(status), false), Outcome::Fail(_)), "{status}");
            assert_eq!(outcome(&Cut::Http(status), true), Outcome::Backoff, "{status}");
        }
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(outcome(&Cut::Http(status), false), Outcome::Backoff, "{status}");
        }
        assert!(matches!(outcome(&Cut::Http(401), true), Outcome::FreshToken(_)));
    }
}
