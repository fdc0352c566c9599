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

/// A claim that can grant something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Claim {
    Org,
    Crews,
    Runs,
    Streams,
    Sessions,
    Channels,
    Publish,
    Admin,
}

impl Claim {
    /// Every claim that can grant something.
    pub const ALL: [Claim; 8] = [
        Claim::Org,
        Claim::Crews,
        Claim::Runs,
        Claim::Streams,
        Claim::Sessions,
        Claim::Channels,
        Claim::Publish,
        Claim::Admin,
    ];

    /// As tokens write it.
    pub fn name(self) -> &'static str {
        match self {
            Claim::Org => "org",
            Claim::Crews => "crews",
            Claim::Runs => "runs",
            Claim::Streams => "streams",
            Claim::Sessions => "sessions",
            Claim::Channels => "channels",
            Claim::Publish => "publish",
            Claim::Admin => "admin",
        }
    }
}

impl Identity {
    /// The claims, one of which is missing for any of `wanted` to grant something. Empty if one of them does.
    pub fn missing(&self, wanted: &[Claim]) -> Vec<Claim> {
        if wanted.iter().any(|claim| self.has(*claim)) {
            return Vec::new();
        }
        // `"*"` means every id of the org.
        let lacks_org = wanted.iter().any(|claim| matches!(self.ids(*claim), Some(Ids::All)));
        if lacks_org { vec![Claim::Org] } else { wanted.to_vec() }
    }

    fn has(&self, claim: Claim) -> bool {
        match (claim, self.ids(claim)) {
            (_, Some(Ids::All)) | (Claim::Org, _) => self.org.is_some(),
            (_, Some(Ids::Listed(ids))) => !ids.is_empty(),
            (Claim::Channels, _) => !self.grants.channels.0.is_empty(),
            (Claim::Publish, _) => !self.grants.publish.0.is_empty(),
            (_, None) => self.admin,
        }
    }

    /// The ids that a claim lists, if it is one that lists ids.
    fn ids(&self, claim: Claim) -> Option<&Ids> {
        match claim {
            Claim::Crews => Some(&self.grants.crews),
            Claim::Runs => Some(&self.grants.runs),
            Claim::Streams => Some(&self.grants.streams),
            Claim::Sessions => Some(&self.grants.sessions),
            Claim::Org | Claim::Channels | Claim::Publish | Claim::Admin => None,
        }
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

impl Ids {
    /// Whether the claim grants any id at all.
    pub fn grant_any(&self) -> bool {
        !matches!(self, Ids::Listed(ids) if ids.is_empty())
    }
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
    fn a_claim_is_missing_unless_one_of_the_wanted_grants_something() {
        let with = |grants: Grants, org: Option<&str>| Identity {
            grants: Arc::new(grants),
            org: org.map(Arc::from),
            ..user("u")
        };
        let all = || Grants { crews: Ids::All, ..Grants::default() };
        let crews = [Claim::Crews];
        assert_eq!(user("u").missing(&Claim::ALL), Claim::ALL);
        assert_eq!(user("u").missing(&crews), crews);
        assert_eq!(with(Grants::default(), Some("acme")).missing(&crews), crews);
        assert_eq!(with(Grants::default(), Some("acme")).missing(&Claim::ALL), []);
        assert_eq!(with(all(), None).missing(&crews), [Claim::Org], "\"*\" needs an org");
        assert_eq!(with(all(), Some("acme")).missing(&crews), []);
        let publish = Grants { publish: Patterns(["graph:*".to_owned()].into()), ..Grants::default() };
        assert_eq!(with(publish, None).missing(&Claim::ALL), []);
        assert_eq!(Identity { admin: true, ..user("u") }.missing(&Claim::ALL), []);
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
