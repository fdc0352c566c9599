//! JSON Web Tokens: verifying a token by the configuration, and minting one for the command line.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use crewcast_events::timestamp::unix_now;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value};

use super::{
    AuthError, AuthSetupError, Identity,
    claims::ClaimRules,
    jwks::Jwks,
    keys::{self, VerifyingKey},
};
use crate::config::{AuthConfig, Secret};

/// Longest token, in bytes. A thousand crews listed by UUID take half of it.
pub(crate) const MAX_TOKEN: usize = 64 << 10;

/// Verifies tokens: signature, times, issuer, audience, and the form of every claim. Does not check revocations.
pub struct Verifier {
    keys: KeySource,
    rules: ClaimRules,
}

/// Where the keys come from.
enum KeySource {
    /// No key: all sockets are anonymous.
    None,
    Fixed(VerifyingKey),
    Jwks(Arc<Jwks>),
}

impl Verifier {
    /// Creates a verifier from the configuration.
    ///
    /// # Errors
    /// [`AuthSetupError`] if there is no key and no `auth.anonymous`, or if the key is not usable.
    pub fn new(config: &AuthConfig) -> Result<Self, AuthSetupError> {
        keys::install_provider();
        let set = [config.hs256_secret.is_some(), config.public_key.is_some(), config.jwks_url.is_some()];
        let keys = match (set.into_iter().filter(|set| *set).count(), &config.jwks_url) {
            (0, _) if config.anonymous.is_none() => return Err(AuthSetupError::Nothing),
            (0 | 1, None) => keys::configured(config)?.map_or(KeySource::None, KeySource::Fixed),
            (1, Some(url)) => KeySource::Jwks(Arc::new(Jwks::new(url, &config.algorithms)?)),
            _ => return Err(AuthSetupError::SeveralKeys),
        };
        Ok(Self { keys, rules: ClaimRules::new(config)? })
    }

    /// Verifies a token and returns its identity as of now.
    ///
    /// # Errors
    /// [`AuthError`]: what is wrong with the token, or `KeysUnavailable`.
    pub async fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        let Head { algorithm, kid } = Head::of(token)?;
        let claims = match &self.keys {
            KeySource::None => return Err(AuthError::Algorithm),
            KeySource::Fixed(key) => verify_with(key, algorithm, token)?,
            KeySource::Jwks(jwks) => verify_with(&*jwks.key(kid.as_deref(), algorithm).await?, algorithm, token)?,
        };
        self.rules.identity(&claims, unix_now())
    }

    /// The JWKS cache, if keys come from one: the caller has to keep it fresh.
    pub(super) fn jwks(&self) -> Option<&Arc<Jwks>> {
        match &self.keys {
            KeySource::Jwks(jwks) => Some(jwks),
            _ => None,
        }
    }
}

fn verify_with(key: &VerifyingKey, algorithm: Algorithm, token: &str) -> Result<Map<String, Value>, AuthError> {
    if key.takes(algorithm) { key.verify(token) } else { Err(AuthError::Algorithm) }
}

/// The fields of a token's header that select a key. Its `jwk`, `jku` and `x5*` are ignored: a key that comes with the
/// token proves nothing.
struct Head {
    algorithm: Algorithm,
    kid: Option<String>,
}

impl Head {
    fn of(token: &str) -> Result<Self, AuthError> {
        #[derive(serde::Deserialize)]
        struct UnverifiedToken {
            alg: String,
            kid: Option<String>,
            crit: Option<serde::de::IgnoredAny>,
        }
        if token.len() > MAX_TOKEN {
            return Err(AuthError::Malformed);
        }
        let (head, _) = token.split_once('.').ok_or(AuthError::Malformed)?;
        let head = URL_SAFE_NO_PAD.decode(head).map_err(|_| AuthError::Malformed)?;
        let raw: UnverifiedToken = serde_json::from_slice(&head).map_err(|_| AuthError::Malformed)?;
        // RFC 7515, 4.1.11: a token with unknown critical extensions is refused, and no extension is known here.
        if raw.crit.is_some() {
            return Err(AuthError::Malformed);
        }
        // `none` is not an `Algorithm`.
        let algorithm = raw.alg.parse().map_err(|_| AuthError::Algorithm)?;
        Ok(Self { algorithm, kid: raw.kid })
    }
}

/// Why no token was minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// Signing needs the secret, and for a public key the gateway does not have it.
    #[error("tokens can be minted with auth.hs256_secret only, by HS256, HS384 or HS512")]
    NotHmac,
    /// The secret is short enough to guess.
    #[error(transparent)]
    Secret(#[from] AuthSetupError),
    /// The library refused.
    #[error("cannot sign: {0}")]
    Sign(String),
}

/// Signs claims with the configured secret, for the command line and for development.
///
/// # Errors
/// [`MintError`].
pub fn mint(secret: &Secret, algorithm: Algorithm, claims: &Map<String, Value>) -> Result<String, MintError> {
    keys::install_provider();
    let bytes = secret.expose().as_bytes();
    if algorithm.family() != AlgorithmFamily::Hmac {
        return Err(MintError::NotHmac);
    }
    if bytes.len() < keys::MIN_SECRET {
        return Err(AuthSetupError::ShortSecret(bytes.len()).into());
    }
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(bytes))
        .map_err(|error| MintError::Sign(error.to_string()))
}

#[cfg(test)]
mod tests;
