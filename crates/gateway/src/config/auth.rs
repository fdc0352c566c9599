//! `auth.*` and `directory.*`: who may connect, and who owns an id.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

pub use jsonwebtoken::Algorithm;
use jsonwebtoken::AlgorithmFamily;
use serde_json::{Map, Value};

use super::{AllowedOrigin, Config, ConfigError, Secret, Sources, form::tables, rules::Rules};

/// Shortest secret for HMAC, in bytes: the size of SHA-256's output (RFC 7518, section 3.2).
pub const MIN_SECRET: usize = 32;

tables! {
    /// Who may connect.
    AuthConfig {
        /// At least [`MIN_SECRET`] bytes.
        hs256_secret: Option<Secret> = None,
        /// A file that holds `hs256_secret`.
        hs256_secret_file: Option<PathBuf> = None,
        /// PEM of an RSA, EC or Ed25519 public key.
        public_key: Option<String> = None,
        /// A file that holds `public_key`.
        public_key_file: Option<PathBuf> = None,
        /// A JWKS document's URL.
        jwks_url: Option<String> = None,
        /// Algorithms of tokens. Empty: HS256, what the public key's type says, or with JWKS RS256 and ES256.
        algorithms: Vec<Algorithm> = Vec::new(),
        /// `iss` must be this.
        issuer: Option<String> = None,
        /// `aud` must contain one of these.
        audience: Vec<String> = Vec::new(),
        /// Clock skew that is tolerated in `exp` and `nbf`.
        leeway: Duration = Duration::ZERO,
        /// Whether `exp` may be missing.
        allow_no_expiry: bool = false,
        /// Claims of sockets without a token.
        anonymous: Option<Map<String, Value>> = None,
        /// Claims of tokens that lack them.
        default_claims: Option<Map<String, Value>> = None,
        /// Claims of tokens of an issuer (`iss`) that lack them.
        default_claims_by_issuer: Option<BTreeMap<String, Map<String, Value>>> = None,
        /// The org of tokens without one.
        default_org: Option<String> = None,
        /// Whether `/ws/runs/*` needs no token.
        public_runs: bool = false,
        /// Whether a token in `?access_token=` or `?token=` is accepted.
        query_token: bool = false,
        /// Replaces [`Config::allowed_origins`] for sockets.
        allowed_origins: Option<Vec<AllowedOrigin>> = None,
        /// Whether pages of other origins have to be listed even if they have a token.
        development: bool = false,
    }

    /// Who owns an id.
    DirectoryConfig {
        /// Whether an id without an owner becomes the default org's with its first event. Every replica then receives
        /// every event of every crew, run, stream and session.
        adopt: bool = false,
    }
}

impl AuthConfig {
    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        if let Some(secret) = &self.hs256_secret {
            let length = secret.expose().len();
            let text = format!("has {length} bytes and needs {MIN_SECRET}: make one with `openssl rand -base64 48`");
            rules.hold("auth.hs256_secret", length >= MIN_SECRET, text);
        }
        if let Some(pem) = &self.public_key {
            let private = pem.contains("PRIVATE KEY");
            rules.hold("auth.public_key", !private, "is a private key; the gateway only needs the public one");
            let public = private || pem.contains("-----BEGIN ") && pem.contains("PUBLIC KEY-----");
            rules.hold("auth.public_key", public, "must be PEM, beginning with -----BEGIN PUBLIC KEY-----");
        }
        rules.web_url("auth.jwks_url", self.jwks_url.as_deref());
        let (shared, public) = (self.hs256_secret.is_some(), self.public_key.is_some() || self.jwks_url.is_some());
        let several = shared && public || self.public_key.is_some() && self.jwks_url.is_some();
        rules.hold("auth", !several, "set only one of auth.hs256_secret, auth.public_key and auth.jwks_url");
        let fits = |algorithm: &Algorithm| if algorithm.family() == AlgorithmFamily::Hmac { shared } else { public };
        if let Some(misfit) = self.algorithms.iter().find(|algorithm| !several && !fits(algorithm)) {
            let text = "does not fit the key: HS256, HS384 and HS512 go with auth.hs256_secret, all others with \
                        auth.public_key or auth.jwks_url";
            rules.hold("auth.algorithms", false, format!("{misfit:?} {text}"));
        }
    }

    pub(super) fn check_adoption(&self, directory: &DirectoryConfig, rules: &mut Rules<'_>) {
        let has_org = !directory.adopt || self.default_org.is_some();
        rules.hold("directory.adopt", has_org, "needs auth.default_org: the org that ids without an owner go to");
    }
}

impl Config {
    /// Checks that a client can connect: there must be a key to check tokens with, or anonymous claims.
    ///
    /// # Errors
    /// Says what to set.
    pub fn check_serve(&self) -> Result<(), ConfigError> {
        let AuthConfig { hs256_secret, public_key, jwks_url, anonymous, .. } = &self.auth;
        if hs256_secret.is_some() || public_key.is_some() || jwks_url.is_some() || anonymous.is_some() {
            return Ok(());
        }
        let text = "no key to check tokens with: set auth.hs256_secret (CREWCAST_AUTH__HS256_SECRET, at least 32 \
                    bytes, for example from `openssl rand -base64 48`), auth.public_key_file or auth.jwks_url; or say \
                    in auth.anonymous what sockets without a token may read";
        Err(ConfigError(vec![Sources::default().problem("auth", text)]))
    }
}
