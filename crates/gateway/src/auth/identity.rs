//! The user behind a connection, and what the claims allow to read and publish.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crewcast_events::Channel;

/// The checked claims of one token (or of `auth.anonymous`).
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The user.
    pub sub: Arc<str>,
    /// The tenant.
    pub org: Option<Arc<str>>,
    /// What the claims grant. Shared, because every check of a grant passes the identity along.
    pub grants: Arc<Grants>,
    /// Unix second from which the token is refused: `exp` plus `auth.leeway`.
    pub expires_at: Option<u64>,
    /// Unix second at which the token was issued.
    pub issued_at: Option<u64>,
    /// The token's own id.
    pub jti: Option<String>,
    /// Sees the usage of every org.
    pub admin: bool,
    /// Connected without a token.
    pub anonymous: bool,
}

impl Identity {
    /// How long the token remains valid: zero if it has expired, `None` if it never expires.
    pub fn expires_in(&self) -> Option<Duration> {
        let end = UNIX_EPOCH.checked_add(Duration::from_secs(self.expires_at?))?;
        Some(end.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO))
    }
}

/// What a set of claims grants.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Grants {
    /// Crews: their `graph` and `mission`, and their runs.
    pub crews: Ids,
    /// Runs.
    pub runs: Ids,
    /// Streams.
    pub streams: Ids,
    /// Sessions.
    pub sessions: Ids,
    /// Channels of namespaces without an owner.
    pub channels: Patterns,
    /// Channels that the identity may publish to.
    pub publish: Patterns,
}

/// A claim that lists ids.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Ids {
    /// These ids.
    Listed(Box<[String]>),
    /// Every id of the org, as the directory lists them.
    All,
}

impl Default for Ids {
    fn default() -> Self {
        Ids::Listed(Box::default())
    }
}

/// Channel names, or `namespace:*`.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Patterns(pub Box<[String]>);

impl Patterns {
    /// Whether a channel matches one of the patterns.
    pub fn contain(&self, channel: &Channel) -> bool {
        self.0.iter().any(|pattern| {
            pattern == channel.as_str()
                || pattern.strip_suffix(":*").is_some_and(|namespace| namespace == channel.namespace())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::user;

    #[test]
    fn a_clone_shares_the_grants() {
        let identity = user("u");
        assert!(Arc::ptr_eq(&identity.clone().grants, &identity.grants));
    }

    #[test]
    fn expires_in_is_bounded_by_zero_and_by_the_clock() {
        let until = |expires_at| Identity { expires_at, ..user("u") }.expires_in();
        let now = crewcast_events::timestamp::unix_now();
        assert_eq!(until(None), None);
        assert_eq!(until(Some(now - 1)), Some(Duration::ZERO));
        assert_eq!(until(Some(u64::MAX)), None, "beyond the range of the clock");
        let hour = until(Some(now + 3600)).unwrap();
        assert!(hour <= Duration::from_secs(3600) && hour > Duration::from_secs(3590));
    }
}
