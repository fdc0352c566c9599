//! Hints about channels and tokens. They only advise: the gateway decides.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use crewcast_events::{Channel, Namespaces};
use serde_json::{Map, Value};

/// How to get a token.
pub(crate) const GET_TOKEN: &str = "pass a token with --token-file, --token or CREWCAST_TOKEN: `crewcast dev` prints one, \
     and `crewcast token --sub NAME --org ORG --crews '*'` mints one with the gateway's auth.hs256_secret";
/// What a signature that does not fit means.
pub(crate) const OTHER_KEY: &str = "the token was signed with another key than the gateway's: mint it with the \
     auth.hs256_secret of the gateway, or get it from the gateway's issuer";
/// The claims that list what a token may read, and the namespaces whose ids they list.
const READS: [(&str, &[&str]); 5] = [
    ("crews", &["graph", "mission"]),
    ("runs", &["run"]),
    ("streams", &["stream"]),
    ("sessions", &["session"]),
    ("channels", &[]),
];

/// What to say about a channel whose namespace does not exist.
pub(crate) fn unknown_namespace(channel: &Channel, namespaces: &Namespaces) -> Option<String> {
    if namespaces.of(channel).is_some() {
        return None;
    }
    let (name, known) = (channel.namespace(), namespaces.0.keys().map(String::as_str));
    Some(match nearest(name, known.clone()) {
        Some(near) => format!("there is no namespace {name}: did you mean {near}:{}?", channel.id()),
        None => format!("there is no namespace {name}: there are {}", known.collect::<Vec<_>>().join(", ")),
    })
}

/// The known word that `word` may be a misspelling of.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let measured = known.map(|known| (strsim::damerau_levenshtein(word, known), known));
    measured.min().filter(|(distance, known)| *distance <= 1.max(known.len() / 3)).map(|(_, known)| known)
}

/// The claims of a token. Nothing is verified.
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    /// `None` if the text is not a JWT.
    pub(crate) fn of(token: &str) -> Option<Self> {
        let payload = BASE64_URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
        serde_json::from_slice(&payload).ok().map(Self)
    }

    /// Whether the token by itself lets its holder read nothing at all.
    pub(crate) fn grant_nothing(&self) -> bool {
        let has_org = self.0.get("org").and_then(Value::as_str).is_some_and(|org| !org.is_empty());
        // The org alone grants the org's own channels.
        !has_org && READS.iter().all(|(claim, _)| self.ids(claim).all(|id| id == "*"))
    }

    /// The channel that a refused channel may be a misspelling of.
    pub(crate) fn suggestion(&self, refused: &Channel) -> Option<String> {
        let (claim, _) = READS.iter().find(|(_, namespaces)| namespaces.contains(&refused.namespace()))?;
        let near = nearest(refused.id(), self.ids(claim)).filter(|near| *near != refused.id())?;
        Some(format!("did you mean {}:{near}?", refused.namespace()))
    }

    /// The entries of a claim, which is a list or one text.
    fn ids(&self, claim: &str) -> impl Iterator<Item = &str> {
        let (one, many) = match self.0.get(claim) {
            Some(Value::String(one)) => (Some(one.as_str()), None),
            Some(Value::Array(many)) => (None, Some(many.iter().filter_map(Value::as_str))),
            _ => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten()).filter(|id| !id.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn channel(name: &str) -> Channel {
        name.parse().unwrap()
    }

    fn claims(claims: &Value) -> Claims {
        Claims::of(&format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))).unwrap()
    }

    #[test]
    fn a_mistyped_namespace_suggests_the_nearest() {
        let hint = |name: &str| unknown_namespace(&channel(name), &Namespaces::default());
        assert_eq!(hint("graph:abc"), None);
        for (typo, meant) in [("grap:abc", "graph:abc"), ("grpah:abc", "graph:abc"), ("runs:r1", "run:r1")] {
            assert!(hint(typo).unwrap().ends_with(&format!("did you mean {meant}?")), "{typo}");
        }
        assert!(hint("nothing:abc").unwrap().contains("there are agents, graph, hub"), "{:?}", hint("nothing:abc"));
    }

    #[test]
    fn a_refused_id_suggests_one_that_the_token_lists() {
        let token = claims(&json!({ "crews": ["forge", "atlas"], "runs": "*" }));
        assert_eq!(token.suggestion(&channel("graph:forg")).as_deref(), Some("did you mean graph:forge?"));
        for no_typo in ["graph:forge", "graph:other", "run:r1", "hub:acme"] {
            assert_eq!(token.suggestion(&channel(no_typo)), None, "{no_typo}");
        }
    }

    #[test]
    fn only_a_token_without_any_grant_grants_nothing() {
        for nothing in [json!({}), json!({ "sub": "u", "publish": ["graph:*"] }), json!({ "crews": "*", "runs": [] })] {
            assert!(claims(&nothing).grant_nothing(), "{nothing}");
        }
        for something in [json!({ "org": "acme" }), json!({ "runs": ["r1"] }), json!({ "channels": ["audit:*"] })] {
            assert!(!claims(&something).grant_nothing(), "{something}");
        }
        assert!(Claims::of("hello").is_none() && Claims::of("a.b.c").is_none());
    }
}
