//! Why a credential was refused, and why authentication could not be set up.

use std::borrow::Cow;

use crate::registry::BrokerError;

/// RFC 6455, 5.5: a control frame's payload has at most 125 bytes, two of which are the code.
const REASON_BYTES: usize = 123;

/// Why a request or socket has no identity. No text contains the token, a part of it, or a ticket.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthError {
    /// No credential, and `auth.anonymous` is not set.
    #[error("no token")]
    Missing,
    /// A token in the query, where tokens are not accepted.
    #[error("tokens in the query are switched off")]
    QueryTokenOff,
    /// Not three base64url parts of JSON, or too large.
    #[error("not a JSON Web Token")]
    Malformed,
    /// The token's algorithm is not one of the configured ones.
    #[error("signature algorithm is not accepted")]
    Algorithm,
    /// The signature is invalid.
    #[error("bad signature")]
    Signature,
    /// No known key has the token's `kid`.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// `exp` is in the past.
    #[error("token expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("token not valid yet")]
    NotYetValid,
    /// `iss` is not the configured one.
    #[error("wrong issuer")]
    Issuer,
    /// `aud` does not name this gateway.
    #[error("wrong audience")]
    Audience,
    /// A claim is missing or malformed.
    #[error("bad claim: {0}")]
    Claim(BadClaim),
    /// Revoked by its `jti` or `sub`.
    #[error("token revoked")]
    Revoked,
    /// Unknown, used, or older than a minute.
    #[error("bad ticket")]
    Ticket,
    /// A refresh with the token of another user.
    #[error("token of another user")]
    AnotherUser,
    /// The page's origin is not allowed to connect.
    #[error("origin not allowed")]
    Origin {
        /// As the browser sent it.
        origin: Box<str>,
        /// The key of the list that it would have to be in.
        key: &'static str,
    },
    /// The broker, which stores tickets, does not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// No key could be fetched from the JWKS URL yet.
    #[error("no signing keys could be fetched")]
    KeysUnavailable,
}

impl AuthError {
    /// Whether the credential could not be checked, and may still be valid.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Broker(_) | Self::KeysUnavailable)
    }

    /// The close code of the spec: 4401, 4403 for a foreign origin, 1013 when the client is not at fault.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::Broker(_) | Self::KeysUnavailable => 1013,
            Self::Origin { .. } => 4403,
            _ => 4401,
        }
    }

    /// The status for HTTP and SSE.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::Broker(_) | Self::KeysUnavailable => 503,
            Self::Origin { .. } => 403,
            _ => 401,
        }
    }

    /// The reason for the client: what is wrong and what to do, without internals. At most 123 bytes, so that a close
    /// frame holds it (RFC 6455, 5.5.1).
    pub fn reason(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Missing => "no token: send Sec-WebSocket-Protocol: token, <jwt> or Authorization: Bearer <jwt>",
            Self::QueryTokenOff => {
                "no token: tokens in the query are switched off; use a ticket from POST /api/v1/tickets"
            }
            Self::Malformed => "not a JSON Web Token: get a new token",
            Self::Algorithm => "signature algorithm not accepted: get a token signed otherwise",
            Self::Signature => "bad signature: get a new token",
            Self::UnknownKey => "unknown signing key: get a new token",
            Self::Expired => "token expired",
            Self::NotYetValid => "token not valid yet: check nbf and the clocks",
            Self::Issuer => "token of another issuer",
            Self::Audience => "token for another audience",
            Self::Claim(claim) => return Cow::Owned(format!("bad claim: {claim}")),
            Self::Revoked => "token revoked",
            Self::Ticket => "ticket unknown, used or expired: get a new one",
            Self::AnotherUser => "refresh with a token of another sub or org",
            Self::Origin { origin, key } => return Cow::Owned(foreign_origin(origin, key)),
            Self::Broker(_) | Self::KeysUnavailable => "cannot check tokens at the moment: try again",
        })
    }

    /// The value of the metric's label `reason`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing => "no_token",
            Self::QueryTokenOff => "query_token_off",
            Self::Malformed => "malformed_token",
            Self::Algorithm => "algorithm",
            Self::Signature => "bad_signature",
            Self::UnknownKey => "unknown_key",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claim(_) => "bad_claim",
            Self::Revoked => "revoked",
            Self::Ticket => "bad_ticket",
            Self::AnotherUser => "another_user",
            Self::Origin { .. } => "origin",
            Self::Broker(_) | Self::KeysUnavailable => "unavailable",
        }
    }
}

/// The key matters more than the end of a long origin.
fn foreign_origin(origin: &str, key: &str) -> String {
    let rest = format!(" is not allowed: add it to {key}");
    let room = REASON_BYTES - "origin ".len() - rest.len();
    if origin.len() <= room {
        return format!("origin {origin}{rest}");
    }
    let kept = origin.floor_char_boundary(room - "…".len());
    format!("origin {}…{rest}", &origin[..kept])
}

/// A malformed claim. Names the claim, never its value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{claim} {wants}")]
pub struct BadClaim {
    /// The claim's name.
    pub claim: &'static str,
    /// What it should be.
    pub wants: &'static str,
}

/// Why authentication cannot work as configured. The texts say what to set.
#[derive(Debug, thiserror::Error)]
pub enum AuthSetupError {
    /// No key and no `auth.anonymous`: nothing could connect.
    #[error(
        "no way to authenticate: set auth.hs256_secret (32 bytes or more), auth.public_key or auth.jwks_url; \
         or auth.anonymous, to let sockets in without a token"
    )]
    Nothing,
    /// It is not clear which key counts.
    #[error("set only one of auth.hs256_secret, auth.public_key and auth.jwks_url")]
    SeveralKeys,
    /// The secret is short enough to guess.
    #[error("auth.hs256_secret has {0} bytes: use 32 or more random ones, for example from `openssl rand -hex 32`")]
    ShortSecret(usize),
    /// Not a usable public key.
    #[error("auth.public_key: {0}")]
    PublicKey(&'static str),
    /// A configured algorithm needs another kind of key.
    #[error("auth.algorithms names {algorithm:?}, which does not go with {key}")]
    Algorithm {
        /// The algorithm.
        algorithm: jsonwebtoken::Algorithm,
        /// What the key is.
        key: &'static str,
    },
    /// Not a URL to fetch keys from.
    #[error("auth.jwks_url: {0}")]
    JwksUrl(String),
    /// The claims of anonymous sockets.
    #[error("auth.anonymous: {0}")]
    Anonymous(String),
    /// The claims that tokens have by default.
    #[error("{key}: {problem}")]
    DefaultClaims {
        /// The table.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Not an id.
    #[error("auth.default_org must be 1 to 128 characters of [A-Za-z0-9._-]")]
    DefaultOrg,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_fits_a_close_frame() {
        let all = [
            AuthError::Missing,
            AuthError::QueryTokenOff,
            AuthError::Malformed,
            AuthError::Algorithm,
            AuthError::Signature,
            AuthError::UnknownKey,
            AuthError::Expired,
            AuthError::NotYetValid,
            AuthError::Issuer,
            AuthError::Audience,
            AuthError::Revoked,
            AuthError::Ticket,
            AuthError::AnotherUser,
            AuthError::Origin { origin: "http://localhost:5173".into(), key: "auth.allowed_origins" },
            AuthError::Origin { origin: "é".repeat(400).into(), key: "auth.allowed_origins" },
            AuthError::Origin { origin: "x".repeat(400).into(), key: "cors.allowed_origins" },
            AuthError::KeysUnavailable,
        ];
        for error in all {
            assert!(error.reason().len() <= REASON_BYTES, "{error:?}");
        }
    }

    #[test]
    fn errors_that_are_not_the_clients_fault_ask_it_to_try_again() {
        let away = AuthError::Broker(BrokerError::Unavailable("10.0.0.1:6379 refused".to_owned()));
        assert_eq!((away.close_code(), away.http_status()), (1013, 503));
        assert!(!away.reason().contains("6379"), "internals stay out");
        assert_eq!((AuthError::Expired.close_code(), AuthError::Expired.http_status()), (4401, 401));
        let foreign = AuthError::Origin { origin: "null".into(), key: "allowed_origins" };
        assert_eq!((foreign.close_code(), foreign.http_status()), (4403, 403));
    }
}
