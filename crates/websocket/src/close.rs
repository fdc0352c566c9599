//! Every close code that a gateway sends.

/// Why a socket is closed, as the client sees it (the spec's table; RFC 6455 section 7.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseCode {
    /// 1000: the run is over.
    RunCompleted,
    /// 1000: the client said goodbye first.
    Goodbye,
    /// 1002: the client broke the framing rules of RFC 6455.
    Protocol,
    /// 1003: a binary message that is not UTF-8.
    Binary,
    /// 1007: text that is not UTF-8, or compressed text that cannot be inflated.
    InvalidText,
    /// 1008: first-message authentication missing or wrong; an invalid client id.
    Policy,
    /// 1009: a message over `limits.message`.
    TooBig,
    /// 1011: an internal error.
    Internal,
    /// 1012: this replica is going away.
    GoingAway,
    /// 1013: overloaded, or the broker has been away for too long.
    Overloaded,
    /// 4400: malformed messages or unknown actions, too many of them.
    BadMessage,
    /// 4401: no token, or one that is bad, expired or revoked.
    Unauthorized,
    /// 4403: the token does not grant the channel.
    Forbidden,
    /// 4404: no such endpoint, or a malformed id.
    NotFound,
    /// 4408: the reader has stalled, or does not answer pings.
    Stalled,
    /// 4409: a newer socket of the same client id has connected.
    Replaced,
    /// 4429: too many connections or messages.
    TooMany,
}

impl CloseCode {
    /// All close codes.
    pub const ALL: [Self; 17] = [
        Self::RunCompleted,
        Self::Goodbye,
        Self::Protocol,
        Self::Binary,
        Self::InvalidText,
        Self::Policy,
        Self::TooBig,
        Self::Internal,
        Self::GoingAway,
        Self::Overloaded,
        Self::BadMessage,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Stalled,
        Self::Replaced,
        Self::TooMany,
    ];

    /// The number in the close frame.
    pub fn number(self) -> u16 {
        self.parts().0
    }

    /// The number as a metric label.
    pub fn label(self) -> &'static str {
        self.parts().1
    }

    /// The close frame's text if there is no more specific one.
    pub fn reason(self) -> &'static str {
        self.parts().2
    }

    fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::RunCompleted => (1000, "1000", "run completed"),
            Self::Goodbye => (1000, "1000", "goodbye"),
            Self::Protocol => (1002, "1002", "not a valid WebSocket frame"),
            Self::Binary => (1003, "1003", "a binary message must hold UTF-8: send JSON"),
            Self::InvalidText => (1007, "1007", "text must be valid UTF-8"),
            Self::Policy => (1008, "1008", "the first message must authenticate"),
            Self::TooBig => (1009, "1009", "message too big"),
            Self::Internal => (1011, "1011", "internal error: reconnect"),
            Self::GoingAway => (1012, "1012", "replica going away: reconnect and resume"),
            Self::Overloaded => (1013, "1013", "overloaded: reconnect later"),
            Self::BadMessage => (4400, "4400", "malformed or unknown messages"),
            Self::Unauthorized => (4401, "4401", "a valid token is needed"),
            Self::Forbidden => (4403, "4403", "the token does not grant this channel"),
            Self::NotFound => (4404, "4404", "no such endpoint or malformed id"),
            Self::Stalled => (4408, "4408", "stalled: reconnect and resume"),
            Self::Replaced => (4409, "4409", "replaced by a newer connection"),
            Self::TooMany => (4429, "4429", "too many connections or messages"),
        }
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_numbers_and_reasons_fit_a_close_frame() {
        for code in CloseCode::ALL {
            assert_eq!(code.label(), code.number().to_string());
            assert!(!code.reason().is_empty() && code.reason().len() <= 123, "{code:?}");
        }
    }

    #[test]
    fn the_numbers_match_the_spec() {
        let mut numbers: Vec<u16> = CloseCode::ALL.iter().map(|code| code.number()).collect();
        numbers.dedup();
        let spec = [1000, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 4400, 4401, 4403, 4404, 4408, 4409, 4429];
        assert_eq!(numbers, spec);
    }
}
