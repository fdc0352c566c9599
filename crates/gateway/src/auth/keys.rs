//! Keys that verify signatures, each pinned to the algorithms that the configuration names.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Validation, crypto::rust_crypto::DEFAULT_PROVIDER, errors::ErrorKind,
};
use serde_json::{Map, Value};

use super::{AuthError, AuthSetupError};
pub(crate) use crate::config::MIN_SECRET;
use crate::config::{AuthConfig, Secret};

/// RSA modulus in bits: the shortest (RFC 7518, 3.3), and the longest that the verifier accepts.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Makes `jsonwebtoken` use one provider of cryptography. It chooses one by itself only if no other crate of the build
/// enables a second; otherwise it panics at its first use.
pub(super) fn install_provider() {
    // An error means that one is already installed.
    let _ = DEFAULT_PROVIDER.install_default();
}

/// A key and the algorithms that it may be used with. A token with any other algorithm is refused before the key is
/// used.
pub(super) struct VerifyingKey {
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

impl VerifyingKey {
    /// `None` if no algorithm is left that works with the key, or if the key is not a valid one of its family.
    pub(super) fn new(key: DecodingKey, algorithms: Vec<Algorithm>) -> Option<Self> {
        let fits = |algorithm: &Algorithm| works(&key, *algorithm);
        (!algorithms.is_empty() && algorithms.iter().all(fits)).then_some(Self { key, algorithms })
    }

    /// Whether a token of this algorithm may be verified with this key.
    pub(super) fn takes(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Checks the signature and returns the claims, which are not checked here.
    pub(super) fn verify(&self, token: &str) -> Result<Map<String, Value>, AuthError> {
        let mut validation = Validation::default();
        validation.algorithms.clone_from(&self.algorithms);
        // `claims.rs` checks the claims: the library still accepts a token in the second of its `exp`.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        match jsonwebtoken::decode(token, &self.key, &validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(match error.kind() {
                ErrorKind::InvalidSignature => AuthError::Signature,
                ErrorKind::InvalidAlgorithm => AuthError::Algorithm,
                _ => AuthError::Malformed,
            }),
        }
    }
}

/// The key that the configuration itself contains, if any.
pub(super) fn configured(config: &AuthConfig) -> Result<Option<VerifyingKey>, AuthSetupError> {
    match (&config.hs256_secret, &config.public_key) {
        (Some(secret), _) => from_secret(secret, &config.algorithms).map(Some),
        (None, Some(pem)) => from_pem(pem, &config.algorithms).map(Some),
        (None, None) => Ok(None),
    }
}

fn from_secret(secret: &Secret, algorithms: &[Algorithm]) -> Result<VerifyingKey, AuthSetupError> {
    let bytes = secret.expose().as_bytes();
    if bytes.len() < MIN_SECRET {
        return Err(AuthSetupError::ShortSecret(bytes.len()));
    }
    pinned(DecodingKey::from_secret(bytes), algorithms, Algorithm::HS256, "auth.hs256_secret")
}

fn from_pem(pem: &str, algorithms: &[Algorithm]) -> Result<VerifyingKey, AuthSetupError> {
    if pem.contains("PRIVATE KEY") {
        return Err(AuthSetupError::PublicKey("this is a private key; give the public one"));
    }
    if pem.contains("CERTIFICATE") {
        return Err(AuthSetupError::PublicKey(
            "this is a certificate; extract its key with `openssl x509 -pubkey -noout`",
        ));
    }
    let bytes = pem.as_bytes();
    if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
        return pinned(key, algorithms, Algorithm::RS256, "an RSA key of 2048 to 4096 bits");
    }
    if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
        let default = [Algorithm::ES256, Algorithm::ES384].into_iter().find(|algorithm| works(&key, *algorithm));
        let default =
            default.ok_or(AuthSetupError::PublicKey("of the EC curves only P-256 and P-384 are supported"))?;
        return pinned(key, algorithms, default, "an EC key of this curve");
    }
    if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
        return pinned(key, algorithms, Algorithm::EdDSA, "an Ed25519 key");
    }
    Err(AuthSetupError::PublicKey("not a PEM public key of type RSA, EC or Ed25519"))
}

/// Pins a key to the configured algorithms, or to its own if none is configured.
fn pinned(
    key: DecodingKey,
    algorithms: &[Algorithm],
    default: Algorithm,
    what: &'static str,
) -> Result<VerifyingKey, AuthSetupError> {
    let algorithms = if algorithms.is_empty() { vec![default] } else { algorithms.to_vec() };
    if let Some(&algorithm) = algorithms.iter().find(|algorithm| !works(&key, **algorithm)) {
        return Err(if algorithm.family() == AlgorithmFamily::Rsa && key.family() == AlgorithmFamily::Rsa {
            AuthSetupError::PublicKey("RSA keys need 2048 to 4096 bits")
        } else {
            AuthSetupError::Algorithm { algorithm, key: what }
        });
    }
    Ok(VerifyingKey { key, algorithms })
}

/// Whether a signature of this algorithm could be verified with this key.
pub(super) fn works(key: &DecodingKey, algorithm: Algorithm) -> bool {
    if key.family() != algorithm.family() {
        return false;
    }
    match algorithm.family() {
        AlgorithmFamily::Hmac => true,
        AlgorithmFamily::Rsa => rsa_bits(key).is_some_and(|bits| RSA_BITS.contains(&bits)),
        AlgorithmFamily::Ec => (DEFAULT_PROVIDER.verifier_factory)(&algorithm, key).is_ok(),
        // The length first: the library slices 32 bytes without checking that they exist.
        AlgorithmFamily::Ed => {
            key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == 32)
                && (DEFAULT_PROVIDER.verifier_factory)(&algorithm, key).is_ok()
        }
    }
}

fn rsa_bits(key: &DecodingKey) -> Option<usize> {
    use jsonwebtoken::DecodingKeyKind;
    let modulus = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => n.clone(),
        DecodingKeyKind::SecretOrDer(der) => {
            (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der).ok()?.0
        }
    };
    let significant = modulus.iter().position(|byte| *byte != 0)?;
    let first = modulus[significant].leading_zeros() as usize;
    Some((modulus.len() - significant) * 8 - first)
}
