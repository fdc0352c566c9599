//! The keys of one JWKS document that can verify signatures.

use std::sync::Arc;

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, PublicKeyUse},
};

use super::keys::{VerifyingKey, works};

/// Most keys of one document. Real documents have two or three.
const MAX_KEYS: usize = 256;

/// The usable keys of a document.
pub(super) struct KeySet(Vec<(Option<String>, Arc<VerifyingKey>)>);

/// The result of looking up the key for a token's header.
pub(super) enum Keyed {
    /// The key.
    One(Arc<VerifyingKey>),
    /// The key exists, for other algorithms.
    WrongAlgorithm,
    /// The token names no key and several match.
    Ambiguous,
    /// No such key.
    Unknown,
}

impl KeySet {
    /// Keeps the usable keys and ignores the others, as RFC 7517, 5 requires: keys for encryption, keys of other
    /// types, and malformed keys. Symmetric keys are ignored too: a public document cannot hold a secret.
    pub(super) fn parse(document: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        struct JwkDocument {
            keys: Vec<serde_json::Value>,
        }
        let document: JwkDocument =
            serde_json::from_slice(document).map_err(|error| format!("not a JWKS document: {error}"))?;
        if document.keys.len() > MAX_KEYS {
            return Err(format!("more than {MAX_KEYS} keys"));
        }
        let keys: Vec<_> = document.keys.into_iter().filter_map(|key| usable(key, algorithms)).collect();
        // An empty document is the issuer's mistake: keep the previous keys instead of refusing everyone.
        if keys.is_empty() { Err(format!("no key for any of {algorithms:?}")) } else { Ok(Self(keys)) }
    }

    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Keyed {
        let mut named = self.0.iter().filter(|(name, _)| kid.is_none() || name.as_deref() == kid).peekable();
        if named.peek().is_none() {
            return Keyed::Unknown;
        }
        let mut fitting = named.filter(|(_, key)| key.takes(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some((_, key)), None) => Keyed::One(key.clone()),
            (Some(_), Some(_)) => Keyed::Ambiguous,
            (None, _) => Keyed::WrongAlgorithm,
        }
    }
}

fn usable(key: serde_json::Value, algorithms: &[Algorithm]) -> Option<(Option<String>, Arc<VerifyingKey>)> {
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_)) {
        return None;
    }
    if jwk.common.public_key_use.is_some_and(|purpose| purpose != PublicKeyUse::Signature) {
        return None;
    }
    let key = DecodingKey::from_jwk(&Jwk { common: Default::default(), algorithm: jwk.algorithm }).ok()?;
    let own = jwk.common.key_algorithm;
    let fits = |algorithm: &Algorithm| own.is_none_or(|own| own == (*algorithm).into());
    // Each algorithm on its own, because an EC key works only with the algorithm of its curve.
    let algorithms = algorithms.iter().copied().filter(|algorithm| fits(algorithm) && works(&key, *algorithm));
    let algorithms = algorithms.collect();
    Some((jwk.common.key_id, Arc::new(VerifyingKey::new(key, algorithms)?)))
}
