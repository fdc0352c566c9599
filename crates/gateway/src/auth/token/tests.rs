use std::time::Duration;

use serde_json::json;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("../../../tests/keys/", $name, ".pem"))
    };
}

fn claims() -> Map<String, Value> {
    let claims = json!({ "sub": "u1", "org": "acme", "exp": unix_now() + 60 });
    claims.as_object().unwrap().clone()
}

fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &Map<String, Value>) -> String {
    keys::install_provider();
    jsonwebtoken::encode(&Header::new(algorithm), claims, key).unwrap()
}

/// A token with any header, signed by HMAC-SHA256 with any bytes.
fn forge(header: Value, claims: &Map<String, Value>, secret: &[u8]) -> String {
    keys::install_provider();
    let part = |value: &[u8]| URL_SAFE_NO_PAD.encode(value);
    let message = format!("{}.{}", part(header.to_string().as_bytes()), part(&serde_json::to_vec(claims).unwrap()));
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn with_secret(algorithms: &[Algorithm]) -> AuthConfig {
    AuthConfig { hs256_secret: Some(Secret::new(SECRET)), algorithms: algorithms.to_vec(), ..AuthConfig::default() }
}

fn with_key(pem: &str, algorithms: &[Algorithm]) -> AuthConfig {
    AuthConfig { public_key: Some(pem.to_owned()), algorithms: algorithms.to_vec(), ..AuthConfig::default() }
}

async fn label(config: &AuthConfig, token: &str) -> &'static str {
    match Verifier::new(config).unwrap().verify(token).await {
        Ok(identity) => {
            assert_eq!(&*identity.sub, "u1");
            "accepted"
        }
        Err(error) => {
            // Whatever is wrong: no text contains the token or its parts.
            let texts = format!("{error} {error:?} {}", error.reason());
            for part in token.split('.').filter(|part| part.len() > 8) {
                assert!(!texts.contains(part), "{texts}");
            }
            error.label()
        }
    }
}

fn setup_error(config: &AuthConfig) -> String {
    Verifier::new(config).err().expect("refused").to_string()
}

#[tokio::test]
async fn every_algorithm_of_the_spec_is_accepted() {
    use Algorithm::*;
    let hmac = EncodingKey::from_secret(SECRET.as_bytes());
    for algorithm in [HS256, HS384, HS512] {
        let token = sign(algorithm, &hmac, &claims());
        assert_eq!(label(&with_secret(&[algorithm]), &token).await, "accepted", "{algorithm:?}");
    }
    let rsa = EncodingKey::from_rsa_pem(pem!("rsa").as_bytes()).unwrap();
    for algorithm in [RS256, RS384, RS512, PS256, PS384, PS512] {
        let token = sign(algorithm, &rsa, &claims());
        assert_eq!(label(&with_key(pem!("rsa.pub"), &[algorithm]), &token).await, "accepted", "{algorithm:?}");
        assert_eq!(label(&with_key(pem!("rsa-other.pub"), &[algorithm]), &token).await, "bad_signature");
    }
    let p256 = EncodingKey::from_ec_pem(pem!("p256").as_bytes()).unwrap();
    let p384 = EncodingKey::from_ec_pem(pem!("p384").as_bytes()).unwrap();
    let ed = EncodingKey::from_ed_pem(pem!("ed25519").as_bytes()).unwrap();
    for (algorithm, key, public) in
        [(ES256, p256, pem!("p256.pub")), (ES384, p384, pem!("p384.pub")), (EdDSA, ed, pem!("ed25519.pub"))]
    {
        let token = sign(algorithm, &key, &claims());
        assert_eq!(label(&with_key(public, &[algorithm]), &token).await, "accepted", "{algorithm:?}");
        assert_eq!(label(&with_key(public, &[]), &token).await, "accepted", "{algorithm:?} follows from the key");
    }
    let token = sign(RS256, &rsa, &claims());
    assert_eq!(label(&with_key(pem!("rsa.pkcs1.pub"), &[]), &token).await, "accepted", "PKCS #1");
}

#[tokio::test]
async fn only_the_configured_algorithm_is_accepted() {
    use Algorithm::*;
    let hmac = EncodingKey::from_secret(SECRET.as_bytes());
    assert_eq!(label(&with_secret(&[]), &sign(HS512, &hmac, &claims())).await, "algorithm");
    assert_eq!(label(&with_secret(&[HS384, HS512]), &sign(HS256, &hmac, &claims())).await, "algorithm");
    assert_eq!(label(&with_secret(&[HS384, HS512]), &sign(HS512, &hmac, &claims())).await, "accepted");
    let rsa = EncodingKey::from_rsa_pem(pem!("rsa").as_bytes()).unwrap();
    assert_eq!(label(&with_key(pem!("rsa.pub"), &[]), &sign(PS256, &rsa, &claims())).await, "algorithm");
}

#[tokio::test]
async fn a_public_key_does_not_work_as_a_secret() {
    // The classic confusion: HS256 with the text, or the bytes, of the public key as the secret.
    let public = pem!("rsa.pub");
    let der = URL_SAFE_NO_PAD.encode(public);
    for secret in [public.as_bytes(), public.trim().as_bytes(), der.as_bytes()] {
        let token = forge(json!({ "alg": "HS256", "typ": "JWT" }), &claims(), secret);
        assert_eq!(label(&with_key(public, &[]), &token).await, "algorithm");
        let disguised = forge(json!({ "alg": "RS256" }), &claims(), secret);
        assert_eq!(label(&with_key(public, &[]), &disguised).await, "bad_signature");
    }
}

#[tokio::test]
async fn the_algorithm_none_is_refused() {
    for alg in ["none", "None", "NONE", ""] {
        let token = forge(json!({ "alg": alg }), &claims(), SECRET.as_bytes());
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        for token in [token, unsigned] {
            assert_eq!(label(&with_secret(&[]), &token).await, "algorithm", "{alg:?}");
        }
    }
}

#[tokio::test]
async fn a_modified_token_is_refused() {
    let good = mint(&Secret::new(SECRET), Algorithm::HS256, &claims()).unwrap();
    assert_eq!(label(&with_secret(&[]), &good).await, "accepted");
    let parts: Vec<_> = good.split('.').collect();
    let mut raised = claims();
    raised.insert("admin".to_owned(), true.into());
    let raised = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&raised).unwrap());
    let swapped = format!("{}.{raised}.{}", parts[0], parts[2]);
    assert_eq!(label(&with_secret(&[]), &swapped).await, "bad_signature");
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    assert_eq!(label(&with_secret(&[]), &unsigned).await, "bad_signature");
    let foreign = mint(&Secret::new("another-secret-of-at-least-32-bytes"), Algorithm::HS256, &claims()).unwrap();
    assert_eq!(label(&with_secret(&[]), &foreign).await, "bad_signature");
}

#[tokio::test]
async fn a_malformed_token_is_refused() {
    let good = mint(&Secret::new(SECRET), Algorithm::HS256, &claims()).unwrap();
    let array = forge(json!({ "alg": "HS256" }), &Map::new(), SECRET.as_bytes());
    assert_eq!(label(&with_secret(&[]), &array).await, "bad_claim", "no claims at all");
    let huge = format!("{good}{}", "A".repeat(MAX_TOKEN));
    let five = format!("{good}.a.b");
    let spaced = format!(" {good}");
    for junk in ["", ".", "..", "a.b.c", "\u{0}.\u{0}.\u{0}", "null", &huge, &five, &spaced, &good[..good.len() / 2]] {
        assert_eq!(label(&with_secret(&[]), junk).await, "malformed_token", "{junk:.40}");
    }
    let critical = forge(json!({ "alg": "HS256", "crit": ["exp"] }), &claims(), SECRET.as_bytes());
    assert_eq!(label(&with_secret(&[]), &critical).await, "malformed_token");
    let twice = {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","alg":"none"}"#);
        format!("{header}.{}", good.split_once('.').unwrap().1)
    };
    assert_eq!(label(&with_secret(&[]), &twice).await, "malformed_token");
}

#[tokio::test]
async fn a_key_inside_the_token_is_ignored() {
    let mallory = b"mallorys-own-secret-of-32-bytes-or-more";
    let jwk = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(mallory) });
    let token = forge(json!({ "alg": "HS256", "jwk": jwk, "jku": "http://evil/" }), &claims(), mallory);
    assert_eq!(label(&with_secret(&[]), &token).await, "bad_signature");
}

#[tokio::test]
async fn times_issuer_and_audience_are_checked() {
    let token = |set: &[(&str, Value)]| {
        let mut claims = claims();
        claims.extend(set.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        mint(&Secret::new(SECRET), Algorithm::HS256, &claims).unwrap()
    };
    let past = unix_now() - 10;
    let mut config = with_secret(&[]);
    assert_eq!(label(&config, &token(&[("exp", past.into())])).await, "expired");
    assert_eq!(label(&config, &token(&[("nbf", (unix_now() + 60).into())])).await, "not_yet_valid");
    config.leeway = Duration::from_secs(100);
    assert_eq!(label(&config, &token(&[("exp", past.into())])).await, "accepted");
    config.issuer = Some("me".to_owned());
    assert_eq!(label(&config, &token(&[])).await, "issuer");
    config.audience = vec!["live".to_owned()];
    assert_eq!(label(&config, &token(&[("iss", "me".into())])).await, "audience");
    assert_eq!(label(&config, &token(&[("iss", "me".into()), ("aud", "live".into())])).await, "accepted");
}

#[tokio::test]
async fn without_a_key_every_token_is_refused() {
    let config = AuthConfig { anonymous: Some(Map::new()), ..AuthConfig::default() };
    let token = mint(&Secret::new(SECRET), Algorithm::HS256, &claims()).unwrap();
    assert_eq!(label(&config, &token).await, "algorithm");
}

#[test]
fn setup_errors_say_what_to_set() {
    use Algorithm::*;
    let nothing = setup_error(&AuthConfig::default());
    for key in ["auth.hs256_secret", "auth.public_key", "auth.jwks_url", "auth.anonymous"] {
        assert!(nothing.contains(key), "{nothing}");
    }
    let short = AuthConfig { hs256_secret: Some(Secret::new(&SECRET[..31])), ..AuthConfig::default() };
    assert!(setup_error(&short).contains("31 bytes") && !setup_error(&short).contains(&SECRET[..31]));
    let both = AuthConfig { public_key: Some(pem!("rsa.pub").to_owned()), ..with_secret(&[]) };
    assert!(setup_error(&both).contains("only one"));
    let both = AuthConfig { jwks_url: Some("https://id/jwks".to_owned()), ..with_secret(&[]) };
    assert!(setup_error(&both).contains("only one"));
    for (config, says) in [
        (with_secret(&[HS256, RS256]), "RS256"),
        (with_key(pem!("rsa.pub"), &[HS256]), "HS256"),
        (with_key(pem!("rsa.pub"), &[ES256]), "ES256"),
        (with_key(pem!("p256.pub"), &[ES384]), "ES384"),
        (with_key(pem!("ed25519.pub"), &[ES256]), "ES256"),
        (with_key(pem!("rsa-1024.pub"), &[]), "2048"),
        (with_key(pem!("p521.pub"), &[]), "P-256"),
        (with_key(pem!("rsa"), &[]), "private key"),
        (with_key(pem!("p256"), &[]), "private key"),
        (with_key("-----BEGIN CERTIFICATE-----", &[]), "certificate"),
        (with_key("nonsense", &[]), "not a PEM"),
        (AuthConfig { jwks_url: Some("ftp://id/jwks".to_owned()), ..AuthConfig::default() }, "http"),
        (AuthConfig { jwks_url: Some("jwks".to_owned()), ..AuthConfig::default() }, "auth.jwks_url"),
    ] {
        assert!(setup_error(&config).contains(says), "{says}: {}", setup_error(&config));
    }
    let oct = AuthConfig { jwks_url: Some("https://id/jwks".to_owned()), ..AuthConfig::default() };
    assert!(setup_error(&AuthConfig { algorithms: vec![HS256], ..oct }).contains("HS256"));
}

#[test]
fn minting_needs_a_long_secret_and_hmac() {
    assert!(matches!(mint(&Secret::new(SECRET), Algorithm::RS256, &claims()), Err(MintError::NotHmac)));
    let short = mint(&Secret::new("short"), Algorithm::HS256, &claims());
    assert!(matches!(short, Err(MintError::Secret(AuthSetupError::ShortSecret(5)))));
}
