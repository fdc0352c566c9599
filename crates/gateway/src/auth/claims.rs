//! Turns a token's claims into an [`Identity`]: times, issuer and audience by RFC 7519, grants by the spec.

use std::sync::Arc;

use crewcast_events::{Channel, is_id, is_namespace};
use serde_json::{Map, Value};

use super::{
    AuthError, AuthSetupError, Grants, Identity, Ids, Patterns, default_claims::DefaultClaims, error::BadClaim,
};
use crate::config::AuthConfig;

pub(super) type ClaimMap = Map<String, Value>;

/// Longest `sub`, `user_id` and `jti`, in bytes: they are part of Redis keys and of every socket's memory.
const MAX_NAME: usize = 256;

/// The `sub` of sockets without a token, unless `auth.anonymous` sets one.
const ANONYMOUS_SUB: &str = "anonymous";

/// Every claim that `auth.anonymous` may contain.
const ANONYMOUS_CLAIMS: [&str; 10] =
    ["sub", "user_id", "org", "crews", "runs", "streams", "sessions", "channels", "publish", "admin"];

/// The rules that a token's registered claims are checked against.
pub(super) struct ClaimRules {
    issuer: Option<String>,
    audience: Vec<String>,
    leeway: u64,
    allow_no_expiry: bool,
    default_org: Option<Arc<str>>,
    defaults: DefaultClaims,
}

impl ClaimRules {
    pub(super) fn new(config: &AuthConfig) -> Result<Self, AuthSetupError> {
        if config.default_org.as_deref().is_some_and(|org| !is_id(org)) {
            return Err(AuthSetupError::DefaultOrg);
        }
        Ok(Self {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: config.leeway.as_secs(),
            allow_no_expiry: config.allow_no_expiry,
            default_org: config.default_org.as_deref().map(Arc::from),
            defaults: DefaultClaims::new(config)?,
        })
    }

    /// Checks the claims of a token whose signature is valid.
    pub(super) fn identity(&self, claims: &ClaimMap, now: u64) -> Result<Identity, AuthError> {
        let expires_at = self.expiry(claims, now)?;
        if time(claims, "nbf")?.is_some_and(|nbf| nbf > now.saturating_add(self.leeway)) {
            return Err(AuthError::NotYetValid);
        }
        self.issuer(claims)?;
        self.audience(claims)?;
        let mut identity = identity(&self.defaults.under(claims))?;
        identity.org = identity.org.or_else(|| self.default_org.clone());
        identity.expires_at = expires_at;
        identity.issued_at = time(claims, "iat")?;
        identity.jti = name(claims, "jti")?.map(str::to_owned);
        Ok(identity)
    }

    /// The Unix second from which the token is refused: `exp` plus the leeway (RFC 7519, 4.1.4: "on or after").
    fn expiry(&self, claims: &ClaimMap, now: u64) -> Result<Option<u64>, AuthError> {
        match time(claims, "exp")? {
            None if self.allow_no_expiry => Ok(None),
            None => Err(bad("exp", "is required")),
            Some(exp) => {
                let end = exp.saturating_add(self.leeway);
                if now >= end { Err(AuthError::Expired) } else { Ok(Some(end)) }
            }
        }
    }

    fn issuer(&self, claims: &ClaimMap) -> Result<(), AuthError> {
        match &self.issuer {
            Some(issuer) if present(claims, "iss").and_then(Value::as_str) != Some(issuer) => Err(AuthError::Issuer),
            _ => Ok(()),
        }
    }

    /// A token for another audience is refused even when no audience is configured (RFC 7519, 4.1.3).
    fn audience(&self, claims: &ClaimMap) -> Result<(), AuthError> {
        let ours = |value: &Value| value.as_str().is_some_and(|aud| self.audience.iter().any(|own| own == aud));
        let good = match present(claims, "aud") {
            None => self.audience.is_empty(),
            Some(Value::Array(many)) => many.iter().any(ours),
            Some(one) => ours(one),
        };
        if good { Ok(()) } else { Err(AuthError::Audience) }
    }
}

/// The identity of sockets without a token. `auth.default_org` does not apply: what anonymous sockets see of an org is
/// set in `auth.anonymous` itself.
pub(super) fn anonymous(claims: &ClaimMap) -> Result<Identity, AuthSetupError> {
    if let Some(unknown) = claims.keys().find(|key| !ANONYMOUS_CLAIMS.contains(&key.as_str())) {
        let known = ANONYMOUS_CLAIMS.join(", ");
        return Err(AuthSetupError::Anonymous(format!("unknown claim {unknown:?}; known are {known}")));
    }
    let mut claims = claims.clone();
    if !claims.contains_key("sub") && !claims.contains_key("user_id") {
        claims.insert("sub".to_owned(), ANONYMOUS_SUB.into());
    }
    match identity(&claims) {
        Ok(identity) => Ok(Identity { anonymous: true, ..identity }),
        Err(error) => Err(AuthSetupError::Anonymous(error.to_string())),
    }
}

/// Checks the claims that grant something, as [`identity`] does for a token.
pub(super) fn check_grants(claims: &ClaimMap) -> Result<(), AuthError> {
    let mut claims = claims.clone();
    claims.insert("sub".to_owned(), ANONYMOUS_SUB.into());
    identity(&claims).map(|_| ())
}

/// The subject and the grants, without times.
fn identity(claims: &ClaimMap) -> Result<Identity, AuthError> {
    let org = match present(claims, "org") {
        None => None,
        Some(Value::String(org)) if is_id(org) => Some(Arc::from(org.as_str())),
        Some(_) => return Err(bad("org", "must be 1 to 128 characters of [A-Za-z0-9._-]")),
    };
    let admin = match present(claims, "admin") {
        None => false,
        Some(Value::Bool(admin)) => *admin,
        Some(_) => return Err(bad("admin", "must be true or false")),
    };
    let grants = Grants {
        crews: ids(claims, "crews")?,
        runs: ids(claims, "runs")?,
        streams: ids(claims, "streams")?,
        sessions: ids(claims, "sessions")?,
        channels: patterns(claims, "channels")?,
        publish: patterns(claims, "publish")?,
    };
    Ok(Identity {
        sub: sub(claims)?,
        org,
        grants: Arc::new(grants),
        expires_at: None,
        issued_at: None,
        jti: None,
        admin,
        anonymous: false,
    })
}

/// `sub`, or else `user_id`, which many issuers write as a number.
fn sub(claims: &ClaimMap) -> Result<Arc<str>, AuthError> {
    if let Some(sub) = name(claims, "sub")? {
        return Ok(sub.into());
    }
    match present(claims, "user_id") {
        Some(Value::Number(number)) if number.is_u64() => Ok(number.to_string().into()),
        _ => name(claims, "user_id")?.map(Arc::from).ok_or_else(|| bad("sub", "(or user_id) is required")),
    }
}

fn name<'a>(claims: &'a ClaimMap, claim: &'static str) -> Result<Option<&'a str>, AuthError> {
    match present(claims, claim) {
        None => Ok(None),
        Some(Value::String(name)) if !name.is_empty() && name.len() <= MAX_NAME => Ok(Some(name)),
        Some(_) => Err(bad(claim, "must be a string of 1 to 256 bytes")),
    }
}

/// A `NumericDate` (RFC 7519, 2): seconds, possibly with a fraction.
fn time(claims: &ClaimMap, claim: &'static str) -> Result<Option<u64>, AuthError> {
    match present(claims, claim) {
        None => Ok(None),
        Some(Value::Number(number)) => match (number.as_u64(), number.as_f64()) {
            (Some(seconds), _) => Ok(Some(seconds)),
            // The conversion saturates: a time before 1970 becomes 0.
            (None, Some(seconds)) => Ok(Some(seconds as u64)),
            (None, None) => Err(bad(claim, "must be a number of seconds")),
        },
        Some(_) => Err(bad(claim, "must be a number of seconds")),
    }
}

fn ids(claims: &ClaimMap, claim: &'static str) -> Result<Ids, AuthError> {
    let malformed = || bad(claim, "must be a list of ids, or \"*\" alone");
    match present(claims, claim) {
        None => Ok(Ids::default()),
        Some(Value::String(all)) if all == "*" => Ok(Ids::All),
        Some(Value::Array(list)) if matches!(list.as_slice(), [Value::String(all)] if all == "*") => Ok(Ids::All),
        Some(Value::Array(list)) => {
            let id = |value: &Value| value.as_str().filter(|id| is_id(id)).map(str::to_owned);
            list.iter().map(id).collect::<Option<Box<[_]>>>().map(Ids::Listed).ok_or_else(malformed)
        }
        Some(_) => Err(malformed()),
    }
}

fn patterns(claims: &ClaimMap, claim: &'static str) -> Result<Patterns, AuthError> {
    let malformed = || bad(claim, "must be a list of channels or <namespace>:*");
    let is_pattern =
        |text: &&str| text.strip_suffix(":*").map_or_else(|| text.parse::<Channel>().is_ok(), is_namespace);
    match present(claims, claim) {
        None => Ok(Patterns::default()),
        Some(Value::Array(list)) => {
            let pattern = |value: &Value| value.as_str().filter(is_pattern).map(str::to_owned);
            list.iter().map(pattern).collect::<Option<Box<[_]>>>().map(Patterns).ok_or_else(malformed)
        }
        Some(_) => Err(malformed()),
    }
}

/// A claim that is present. `null` counts as absent, because many libraries write it for unset values.
pub(super) fn present<'a>(claims: &'a ClaimMap, claim: &str) -> Option<&'a Value> {
    claims.get(claim).filter(|value| !value.is_null())
}

fn bad(claim: &'static str, wants: &'static str) -> AuthError {
    AuthError::Claim(BadClaim { claim, wants })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use std::time::Duration;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn rules(set: impl FnOnce(&mut AuthConfig)) -> ClaimRules {
        let mut config = AuthConfig::default();
        set(&mut config);
        ClaimRules::new(&config).unwrap()
    }

    /// Checks claims that have a `sub` and expire in an hour, unless `claims` says otherwise.
    fn judge(rules: &ClaimRules, claims: Value) -> Result<Identity, AuthError> {
        let mut all = json!({ "sub": "u1", "exp": NOW + 3600 });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        rules.identity(all.as_object().unwrap(), NOW)
    }

    fn label(result: Result<Identity, AuthError>) -> &'static str {
        result.err().map_or("accepted", |error| error.label())
    }

    #[test]
    fn a_complete_token_becomes_an_identity() {
        let identity = judge(
            &rules(|_| ()),
            json!({ "org": "acme", "crews": ["a", "b"], "runs": "*", "streams": ["*"], "channels": ["x:1", "y:*"],
                    "publish": ["graph:a"], "jti": "j", "iat": NOW - 5, "admin": true }),
        )
        .unwrap();
        assert_eq!((&*identity.sub, identity.org.as_deref()), ("u1", Some("acme")));
        assert_eq!(identity.grants.crews, Ids::Listed(["a".to_owned(), "b".to_owned()].into()));
        assert_eq!((&identity.grants.runs, &identity.grants.streams), (&Ids::All, &Ids::All));
        assert_eq!(identity.grants.sessions, Ids::default());
        assert_eq!(*identity.grants.channels.0, ["x:1", "y:*"]);
        assert_eq!(*identity.grants.publish.0, ["graph:a"]);
        assert_eq!((identity.expires_at, identity.issued_at), (Some(NOW + 3600), Some(NOW - 5)));
        assert_eq!((identity.jti.as_deref(), identity.admin, identity.anonymous), (Some("j"), true, false));
    }

    #[test]
    fn sub_or_user_id() {
        let rules = rules(|_| ());
        assert_eq!(&*judge(&rules, json!({ "user_id": "other" })).unwrap().sub, "u1");
        assert_eq!(&*judge(&rules, json!({ "sub": null, "user_id": "u2" })).unwrap().sub, "u2");
        assert_eq!(&*judge(&rules, json!({ "sub": null, "user_id": 42 })).unwrap().sub, "42");
        for sub in [json!(null), json!(""), json!(7), json!("x".repeat(257))] {
            assert_eq!(label(judge(&rules, json!({ "sub": sub }))), "bad_claim", "{sub}");
        }
    }

    #[test]
    fn a_token_expires_in_the_second_of_its_exp() {
        let strict = rules(|_| ());
        assert_eq!(label(judge(&strict, json!({ "exp": NOW }))), "expired");
        assert_eq!(label(judge(&strict, json!({ "exp": NOW + 1 }))), "accepted");
        assert_eq!(label(judge(&strict, json!({ "exp": NOW as f64 + 1.5 }))), "accepted");
        assert_eq!(label(judge(&strict, json!({ "exp": -1 }))), "expired");
        assert_eq!(label(judge(&strict, json!({ "exp": "tomorrow" }))), "bad_claim");
        let patient = rules(|config| config.leeway = Duration::from_secs(30));
        assert_eq!(label(judge(&patient, json!({ "exp": NOW - 30 }))), "expired");
        let identity = judge(&patient, json!({ "exp": NOW - 29 })).unwrap();
        assert_eq!(identity.expires_at, Some(NOW + 1), "the socket closes when the token is refused, not before");
    }

    #[test]
    fn exp_is_required_unless_the_configuration_allows_its_absence() {
        assert_eq!(label(judge(&rules(|_| ()), json!({ "exp": null }))), "bad_claim");
        let open = rules(|config| config.allow_no_expiry = true);
        assert_eq!(judge(&open, json!({ "exp": null })).unwrap().expires_at, None);
        assert_eq!(label(judge(&open, json!({ "exp": NOW - 1 }))), "expired");
    }

    #[test]
    fn not_before() {
        assert_eq!(label(judge(&rules(|_| ()), json!({ "nbf": NOW + 1 }))), "not_yet_valid");
        assert_eq!(label(judge(&rules(|_| ()), json!({ "nbf": NOW }))), "accepted");
        let patient = rules(|config| config.leeway = Duration::from_secs(5));
        assert_eq!(label(judge(&patient, json!({ "nbf": NOW + 5 }))), "accepted");
    }

    #[test]
    fn issuer() {
        let rules = rules(|config| config.issuer = Some("https://id".to_owned()));
        assert_eq!(label(judge(&rules, json!({ "iss": "https://id" }))), "accepted");
        for iss in [json!("https://evil"), json!(null), json!(["https://id"])] {
            assert_eq!(label(judge(&rules, json!({ "iss": iss }))), "issuer");
        }
    }

    #[test]
    fn audience() {
        let ours = rules(|config| config.audience = vec!["crewcast".to_owned(), "live".to_owned()]);
        for aud in [json!("live"), json!(["other", "crewcast"])] {
            assert_eq!(label(judge(&ours, json!({ "aud": aud }))), "accepted");
        }
        for aud in [json!("other"), json!(["other"]), json!([]), json!(null), json!(7)] {
            assert_eq!(label(judge(&ours, json!({ "aud": aud }))), "audience");
        }
        assert_eq!(label(judge(&rules(|_| ()), json!({ "aud": "somebody" }))), "audience");
    }

    #[test]
    fn malformed_claims_are_refused_and_named() {
        let rules = rules(|_| ());
        for (claim, value) in [
            ("org", json!("a b")),
            ("org", json!("a}b")),
            ("org", json!(1)),
            ("crews", json!("abc")),
            ("crews", json!(["a", "*"])),
            ("crews", json!(["a:b"])),
            ("runs", json!([1])),
            ("streams", json!({})),
            ("sessions", json!(true)),
            ("channels", json!("x:*")),
            ("channels", json!(["*"])),
            ("channels", json!(["X:*"])),
            ("publish", json!(["nocolon"])),
            ("jti", json!(5)),
            ("iat", json!("now")),
            ("admin", json!("yes")),
        ] {
            match judge(&rules, json!({ claim: value })) {
                Err(AuthError::Claim(bad)) => assert_eq!(bad.claim, claim),
                other => panic!("{claim}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_default_org_applies_to_tokens_only() {
        let rules = rules(|config| config.default_org = Some("home".to_owned()));
        assert_eq!(judge(&rules, json!({})).unwrap().org.as_deref(), Some("home"));
        assert_eq!(judge(&rules, json!({ "org": "acme" })).unwrap().org.as_deref(), Some("acme"));
        assert_eq!(anonymous(&Map::new()).unwrap().org, None);
        let config = AuthConfig { default_org: Some("a b".to_owned()), ..AuthConfig::default() };
        assert!(matches!(ClaimRules::new(&config), Err(AuthSetupError::DefaultOrg)));
    }

    #[test]
    fn anonymous_claims() {
        let claims = json!({ "crews": ["a"] });
        let identity = anonymous(claims.as_object().unwrap()).unwrap();
        assert_eq!((&*identity.sub, identity.anonymous), ("anonymous", true));
        assert_eq!(identity.grants.crews, Ids::Listed(["a".to_owned()].into()));
        for wrong in [json!({ "crew": ["a"] }), json!({ "exp": 1 }), json!({ "crews": "a" })] {
            assert!(matches!(anonymous(wrong.as_object().unwrap()), Err(AuthSetupError::Anonymous(_))));
        }
    }
}
