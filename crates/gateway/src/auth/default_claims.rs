//! `auth.default_claims`: claims that stand in for those that a token lacks. Issuers that know nothing of Crewcast, such
//! as those that write `{sub, org, role}`, need not change.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::Value;

use super::{
    AuthSetupError,
    claims::{ClaimMap, check_grants, present},
};
use crate::config::AuthConfig;

/// The claims that can have a default. Who a token is for, and until when, only the token itself can say.
const CLAIMS: [&str; 8] = ["org", "crews", "runs", "streams", "sessions", "channels", "publish", "admin"];

/// Default claims for all tokens, and for those of an issuer.
pub(super) struct DefaultClaims {
    common: ClaimMap,
    by_issuer: BTreeMap<String, ClaimMap>,
}

impl DefaultClaims {
    /// # Errors
    /// [`AuthSetupError::DefaultClaims`] for claims that are unknown or malformed.
    pub(super) fn new(config: &AuthConfig) -> Result<Self, AuthSetupError> {
        let common = config.default_claims.clone().unwrap_or_default();
        let by_issuer = config.default_claims_by_issuer.clone().unwrap_or_default();
        check("auth.default_claims", &common)?;
        for (issuer, claims) in &by_issuer {
            check(&format!("auth.default_claims_by_issuer.{issuer:?}"), claims)?;
        }
        Ok(Self { common, by_issuer })
    }

    /// A token's own claims; where it has none, those for its issuer; then those for all tokens.
    pub(super) fn under<'a>(&self, token: &'a ClaimMap) -> Cow<'a, ClaimMap> {
        let issuer = present(token, "iss").and_then(Value::as_str);
        let of_issuer = issuer.and_then(|issuer| self.by_issuer.get(issuer));
        let mut claims = Cow::Borrowed(token);
        for (claim, value) in of_issuer.into_iter().flatten().chain(&self.common) {
            if present(&claims, claim).is_none() {
                claims.to_mut().insert(claim.clone(), value.clone());
            }
        }
        claims
    }
}

fn check(key: &str, claims: &ClaimMap) -> Result<(), AuthSetupError> {
    let refused = |problem: String| AuthSetupError::DefaultClaims { key: key.to_owned(), problem };
    if let Some(claim) = claims.keys().find(|claim| !CLAIMS.contains(&claim.as_str())) {
        return Err(refused(format!("{claim:?} cannot have a default; these can: {}", CLAIMS.join(", "))));
    }
    check_grants(claims).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn table(claims: &Value) -> Map<String, Value> {
        claims.as_object().expect("a table").clone()
    }

    fn defaults(common: &Value, issuers: &[(&str, Value)]) -> Result<DefaultClaims, AuthSetupError> {
        let by_issuer = issuers.iter().map(|(issuer, claims)| ((*issuer).to_owned(), table(claims))).collect();
        DefaultClaims::new(&AuthConfig {
            default_claims: Some(table(common)),
            default_claims_by_issuer: Some(by_issuer),
            ..AuthConfig::default()
        })
    }

    #[test]
    fn a_tokens_own_claims_win_over_those_of_its_issuer_and_those_over_the_common_ones() {
        let defaults =
            defaults(&json!({"org": "default", "crews": "*"}), &[("https://a", json!({"crews": ["a"], "runs": "*"}))])
                .expect("valid");
        for (token, expected) in [
            (json!({"sub": "u"}), json!({"sub": "u", "org": "default", "crews": "*"})),
            (json!({"org": "acme", "crews": []}), json!({"org": "acme", "crews": []})),
            (json!({"org": null}), json!({"org": "default", "crews": "*"})),
            (
                json!({"iss": "https://a", "org": "x"}),
                json!({"iss": "https://a", "org": "x", "crews": ["a"], "runs": "*"}),
            ),
            (
                json!({"iss": "https://b", "crews": ["b"]}),
                json!({"iss": "https://b", "org": "default", "crews": ["b"]}),
            ),
        ] {
            assert_eq!(Value::Object(defaults.under(&table(&token)).into_owned()), expected, "{token}");
        }
    }

    #[test]
    fn unknown_and_malformed_claims_are_refused_with_their_key() {
        for claims in [json!({"sub": "u"}), json!({"exp": 1}), json!({"crew": "*"}), json!({"crews": 7})] {
            let error = defaults(&claims, &[]).err().expect("refused").to_string();
            assert!(error.starts_with("auth.default_claims: "), "{error}");
            let error = defaults(&json!({}), &[("https://a.org/", claims)]).err().expect("refused").to_string();
            assert!(error.starts_with("auth.default_claims_by_issuer.\"https://a.org/\": "), "{error}");
        }
    }
}
