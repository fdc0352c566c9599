//! Why a subscription ends for good, and why a socket was lost for a while.

use std::time::Duration;

/// Why a subscription ended, or never began. What a retry could mend never becomes one of these: the
/// client goes on trying and says so with [`crate::Delivery::Disconnected`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The address is none of a gateway.
    #[error("{url:?} is not the address of a gateway ({problem}); an example: https://crewcast.example.org")]
    Url {
        /// The address as it was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The channel's id is outside its grammar.
    #[error(transparent)]
    Channel(#[from] crewcast_events::BadChannel),
    /// A token that no header can carry.
    #[error("the token has characters that no token has")]
    BadToken,
    /// 4401: no token, or one that is bad, expired or revoked, and the token source had no better one.
    #[error("refused (4401): {reason}")]
    Unauthorized {
        /// The gateway's words.
        reason: String,
    },
    /// 4403: the token does not grant this channel.
    #[error("refused (4403): {reason}")]
    Forbidden {
        /// The gateway's words.
        reason: String,
    },
    /// 4404: no such endpoint, or a malformed id.
    #[error("refused (4404): {reason}")]
    NotFound {
        /// The gateway's words.
        reason: String,
    },
    /// 4409: a newer socket of the same client id took this one's place.
    #[error("replaced by a newer socket (4409): {reason}")]
    Replaced {
        /// The gateway's words.
        reason: String,
    },
    /// A close code that the same request would only meet again (1003, 1007, 1008, 1009, 4400).
    #[error("refused ({code}): {reason}")]
    Refused {
        /// The close code.
        code: u16,
        /// The gateway's words.
        reason: String,
    },
    /// The very first handshake was answered with a status that a retry would not change.
    #[error("the handshake was answered with HTTP {status}: is this the address of a gateway?")]
    Http {
        /// The status code.
        status: u16,
    },
    /// A message larger than this client takes.
    #[error("the gateway sent a message that is too large: {0}")]
    TooLarge(String),
}

/// Why a socket was lost or not opened. The client comes back by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The gateway closed it.
    #[error("closed by the gateway ({code}): {reason}")]
    Closed {
        /// The close code of RFC 6455 or of the gateway.
        code: u16,
        /// The gateway's words.
        reason: String,
    },
    /// The handshake was answered with a status instead of an upgrade.
    #[error("the handshake was answered with HTTP {0}")]
    Http(u16),
    /// Nothing was heard, not even a ping.
    #[error("nothing heard for {} s", .0.as_secs())]
    Silent(Duration),
    /// The token source failed.
    #[error("no token to be had: {0}")]
    Token(String),
    /// The network, TLS, or the other side's WebSocket failed.
    #[error("{0}")]
    Io(String),
}
