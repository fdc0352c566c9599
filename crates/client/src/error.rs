//! Why a subscription ends for good, and why a connection is lost for a while.

use std::time::Duration;

/// Why a subscription has ended or never began.
///
/// Failures that a retry could fix are not errors: the client retries and reports
/// [`Delivery::Disconnected`](crate::Delivery::Disconnected).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be the address of a gateway.
    #[error("{url:?} is not the address of a gateway ({problem}): use for example https://crewcast.example.org")]
    Url {
        /// The given address.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The channel's id is invalid.
    #[error(transparent)]
    Channel(#[from] crewcast_events::BadChannel),
    /// The token contains characters that an HTTP header cannot carry.
    #[error("the token contains characters that are not allowed in a token: pass the token alone, on one line")]
    BadToken,
    /// 4401: the token is missing, invalid, expired or revoked, and the token source had no other.
    #[error("refused (4401): {reason}")]
    Unauthorized {
        /// The gateway's reason.
        reason: String,
    },
    /// 4403: the token does not grant this channel.
    #[error("refused (4403): {reason}")]
    Forbidden {
        /// The gateway's reason.
        reason: String,
    },
    /// 4404: the endpoint does not exist, or the id is malformed.
    #[error("refused (4404): {reason}")]
    NotFound {
        /// The gateway's reason.
        reason: String,
    },
    /// 4409: a newer connection with the same client id has taken over.
    #[error("replaced by a newer socket (4409): {reason}")]
    Replaced {
        /// The gateway's reason.
        reason: String,
    },
    /// A close code that the same request would get again: 1003, 1007, 1008, 1009 or 4400.
    #[error("refused ({code}): {reason}")]
    Refused {
        /// The close code.
        code: u16,
        /// The gateway's reason.
        reason: String,
    },
    /// The first handshake was answered with an HTTP status that a retry would not change.
    #[error("the handshake was answered with HTTP {status}: is this the address of a gateway?")]
    Http {
        /// The status code.
        status: u16,
    },
    /// The gateway sent a message that is larger than this client accepts.
    #[error("the gateway sent a message that is too large: {0}")]
    TooLarge(String),
}

/// Why a connection was lost or could not be opened. The client reconnects by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The gateway closed the connection.
    #[error("closed by the gateway ({code}): {reason}")]
    Closed {
        /// The close code, of RFC 6455 or of the gateway.
        code: u16,
        /// The gateway's reason.
        reason: String,
    },
    /// The handshake was answered with an HTTP status instead of an upgrade.
    #[error("the handshake was answered with HTTP {0}")]
    Http(u16),
    /// The gateway sent nothing for this long, not even a ping.
    #[error("the gateway sent nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// The token source failed.
    #[error("the token source failed: {0}")]
    Token(String),
    /// The network, TLS or the WebSocket protocol failed.
    #[error("{0}")]
    Io(String),
}
