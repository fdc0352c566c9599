//! Signature algorithms, with keys from files and from an identity provider.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use jsonwebtoken::{
    Algorithm::{self, ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512},
    EncodingKey, Header,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    PATIENCE,
    gateway::Gateway,
    root,
    socket::connect,
    token::{SECRET, now},
};

const LONG_SECRET: &str = "a secret of the tests that is long enough for HS512: 64 bytes or more";
const NOT_ACCEPTED: &str = "signature algorithm not accepted: get a token signed otherwise";

fn key_file(name: &str) -> PathBuf {
    root().join("crates/gateway/tests/keys").join(name)
}

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(key_file(name)).unwrap()
}

/// A test key for this algorithm.
fn key(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        HS256 | HS384 | HS512 => EncodingKey::from_secret(LONG_SECRET.as_bytes()),
        ES256 => EncodingKey::from_ec_pem(&pem("p256.pem")).unwrap(),
        ES384 => EncodingKey::from_ec_pem(&pem("p384.pem")).unwrap(),
        EdDSA => EncodingKey::from_ed_pem(&pem("ed25519.pem")).unwrap(),
        _ => EncodingKey::from_rsa_pem(&pem("rsa.pem")).unwrap(),
    }
}

fn signed(algorithm: Algorithm, key: &EncodingKey, kid: Option<&str>) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    let claims = json!({ "sub": "u1", "org": "acme", "crews": ["abc"], "iat": now(), "exp": now() + 600 });
    jsonwebtoken::encode(&header, &claims, key).unwrap()
}

/// A valid token signed with this algorithm.
fn token(algorithm: Algorithm) -> String {
    signed(algorithm, &key(algorithm), None)
}

/// A gateway with these settings of `auth`.
fn gateway(auth: &[(&str, &str)]) -> Gateway {
    let mut settings = vec![("CREWCAST_BROKER__KIND", "memory")];
    if !auth.iter().any(|(key, _)| *key == "CREWCAST_AUTH__HS256_SECRET") {
        // An empty variable counts as unset.
        settings.push(("CREWCAST_AUTH__HS256_SECRET", ""));
    }
    settings.extend_from_slice(auth);
    Gateway::spawn(&settings)
}

fn with_public_key(file: &str, algorithms: &str) -> Gateway {
    let path = key_file(file).display().to_string();
    gateway(&[("CREWCAST_AUTH__PUBLIC_KEY_FILE", &path), ("CREWCAST_AUTH__ALGORITHMS", algorithms)])
}

/// `accepted`, or the reason for which a socket with this token is closed with 4401.
async fn verdict(gateway: &Gateway, token: &str) -> String {
    let mut socket = connect(&gateway.ws("/ws/mission"), Some(token)).await;
    match tokio::time::timeout(PATIENCE, socket.inner.next()).await {
        Ok(Some(Ok(Message::Text(signal)))) => {
            assert!(signal.contains("\"crewId\":\"abc\""), "{signal}");
            "accepted".to_owned()
        }
        Ok(Some(Ok(Message::Close(Some(frame))))) => {
            assert_eq!(u16::from(frame.code), 4401, "{}", frame.reason);
            frame.reason.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_shared_secret_accepts_only_the_configured_algorithm() {
    for (name, pinned) in [("", HS256), ("HS256", HS256), ("HS384", HS384), ("HS512", HS512)] {
        let gateway = gateway(&[("CREWCAST_AUTH__HS256_SECRET", LONG_SECRET), ("CREWCAST_AUTH__ALGORITHMS", name)]);
        for algorithm in [HS256, HS384, HS512] {
            let expected = if algorithm == pinned { "accepted" } else { NOT_ACCEPTED };
            assert_eq!(verdict(&gateway, &token(algorithm)).await, expected, "{name}: {algorithm:?}");
        }
        let other = EncodingKey::from_secret(SECRET.as_bytes());
        assert_eq!(verdict(&gateway, &signed(pinned, &other, None)).await, "bad signature: get a new token");
        for asymmetric in [RS256, ES256, EdDSA] {
            assert_eq!(verdict(&gateway, &token(asymmetric)).await, NOT_ACCEPTED);
        }
        assert_eq!(verdict(&gateway, &unsigned()).await, NOT_ACCEPTED);
    }
}

#[tokio::test]
async fn a_public_key_accepts_what_its_type_and_the_configuration_allow() {
    let every = [HS256, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA];
    for (file, configured, accepted) in [
        ("rsa.pub.pem", "", &[RS256][..]),
        ("rsa.pub.pem", "RS256", &[RS256]),
        ("rsa.pub.pem", "PS256", &[PS256]),
        ("rsa.pkcs1.pub.pem", "RS384,RS512,PS384,PS512", &[RS384, RS512, PS384, PS512]),
        ("p256.pub.pem", "", &[ES256]),
        ("p384.pub.pem", "", &[ES384]),
        ("p384.pub.pem", "ES384", &[ES384]),
        ("ed25519.pub.pem", "EdDSA", &[EdDSA]),
    ] {
        let gateway = with_public_key(file, configured);
        for algorithm in every {
            let expected = if accepted.contains(&algorithm) { "accepted" } else { NOT_ACCEPTED };
            assert_eq!(verdict(&gateway, &token(algorithm)).await, expected, "{file}, {configured}: {algorithm:?}");
        }
        refuses_confusion(&gateway, file).await;
    }
    let gateway = with_public_key("rsa.pub.pem", "");
    let other = EncodingKey::from_rsa_pem(&pem("rsa-other.pem")).unwrap();
    assert_eq!(verdict(&gateway, &signed(RS256, &other, None)).await, "bad signature: get a new token");
}

/// Tokens that anybody with the public key can forge.
async fn refuses_confusion(gateway: &Gateway, file: &str) {
    let public = pem(file);
    for secret in [&public[..], public.trim_ascii_end()] {
        for algorithm in [HS256, HS384, HS512] {
            let forged = signed(algorithm, &EncodingKey::from_secret(secret), None);
            assert_eq!(verdict(gateway, &forged).await, NOT_ACCEPTED, "{file}: {algorithm:?}");
        }
    }
    assert_eq!(verdict(gateway, &unsigned()).await, NOT_ACCEPTED, "{file}");
}

/// A token with `alg: none`, which must never be accepted.
fn unsigned() -> String {
    let token = token(HS256);
    let claims = token.split('.').nth(1).unwrap();
    // {"typ":"JWT","alg":"none"}
    format!("eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.{claims}.")
}

#[tokio::test]
async fn weak_keys_and_keys_of_the_wrong_type_are_refused() {
    for (file, algorithms, told) in [
        ("rsa-1024.pub.pem", "", "auth.public_key"),
        ("p521.pub.pem", "", "auth.public_key"),
        ("rsa.pem", "", "private key"),
        ("rsa.pub.pem", "HS256", "HS256"),
        ("p256.pub.pem", "ES384", "ES384"),
    ] {
        let mut serve = crate::support::command::crewcast(&["serve"]);
        serve.env("CREWCAST_BROKER__KIND", "memory").env("CREWCAST_LISTEN", "127.0.0.1:0");
        serve.env("CREWCAST_ADMIN__LISTEN", "127.0.0.1:0").env("CREWCAST_AUTH__ALGORITHMS", algorithms);
        serve.env("CREWCAST_AUTH__PUBLIC_KEY_FILE", key_file(file));
        let said = crate::support::command::run(&mut serve).await;
        assert!(matches!(said.code, Some(1 | 2)) && said.err.contains(told), "{file}: {said:?}");
    }
}

/// An identity provider's endpoint. It must answer while a test waits for its gateway, so these tests run on several
/// threads.
struct Issuer {
    url: String,
    state: Arc<Mutex<IssuerState>>,
    server: JoinHandle<()>,
}

struct IssuerState {
    keys: Vec<Value>,
    fetches: usize,
    is_down: bool,
}

impl Issuer {
    async fn with(keys: Vec<Value>) -> Self {
        let state = Arc::new(Mutex::new(IssuerState { keys, fetches: 0, is_down: false }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let server = tokio::spawn(answer(listener, state.clone()));
        Self { url, state, server }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, IssuerState> {
        self.state.lock().unwrap()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(listener: TcpListener, state: Arc<Mutex<IssuerState>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut request, mut chunk) = (Vec::new(), [0; 1024]);
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut chunk).await {
                Ok(read @ 1..) => request.extend_from_slice(&chunk[..read]),
                _ => break,
            }
        }
        let (status, body) = {
            let mut state = state.lock().unwrap();
            state.fetches += 1;
            if state.is_down {
                ("503 Down", String::new())
            } else {
                ("200 OK", json!({ "keys": state.keys }).to_string())
            }
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

/// The public half of a key, as in a JWK set.
fn jwk(kid: &str, algorithm: Algorithm) -> Value {
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key(algorithm), algorithm).unwrap();
    let mut jwk = serde_json::to_value(jwk).unwrap();
    jwk["kid"] = kid.into();
    jwk
}

fn by_kid(kid: &str, algorithm: Algorithm) -> String {
    signed(algorithm, &key(algorithm), Some(kid))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_providers_keys_are_selected_by_kid_and_pinned() {
    let issuer = Issuer::with(vec![jwk("r", RS256), jwk("e", ES256), jwk("d", EdDSA)]).await;
    let gateway =
        gateway(&[("CREWCAST_AUTH__JWKS_URL", &issuer.url), ("CREWCAST_AUTH__ALGORITHMS", "RS256,ES256,EdDSA")]);
    for (kid, algorithm) in [("r", RS256), ("e", ES256), ("d", EdDSA)] {
        assert_eq!(verdict(&gateway, &by_kid(kid, algorithm)).await, "accepted", "{kid}");
    }
    for (kid, algorithm) in [("r", PS256), ("r", ES256), ("e", RS256), ("r", HS256)] {
        assert_eq!(verdict(&gateway, &by_kid(kid, algorithm)).await, NOT_ACCEPTED, "{kid}, {algorithm:?}");
    }
    let other = EncodingKey::from_rsa_pem(&pem("rsa-other.pem")).unwrap();
    assert_eq!(verdict(&gateway, &signed(RS256, &other, Some("r"))).await, "bad signature: get a new token");
    // The public key used as a secret, as the text of the JWK set and as PEM.
    for secret in [jwk("r", RS256)["n"].as_str().unwrap().as_bytes(), &pem("rsa.pub.pem")] {
        let forged = signed(HS256, &EncodingKey::from_secret(secret), Some("r"));
        assert_eq!(verdict(&gateway, &forged).await, NOT_ACCEPTED);
    }
    for n in 0..50 {
        let stranger = verdict(&gateway, &by_kid(&format!("stranger-{n}"), RS256)).await;
        assert_eq!(stranger, "unknown signing key: get a new token");
    }
    assert_eq!(issuer.state().fetches, 1, "unknown keys caused a fetch within 30 s");
}

/// Takes the 30 s that the gateway waits between two fetches, nearly all of it asleep.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_replaces_the_old_one_and_an_unreachable_provider_changes_nothing() {
    let issuer = Issuer::with(vec![jwk("old", RS256)]).await;
    let gateway = gateway(&[("CREWCAST_AUTH__JWKS_URL", &issuer.url)]);
    let began = Instant::now();
    let (old, new) = (by_kid("old", RS256), by_kid("new", ES256));
    assert_eq!(verdict(&gateway, &old).await, "accepted");
    issuer.state().keys = vec![jwk("new", ES256)];
    while verdict(&gateway, &new).await != "accepted" {
        assert!(began.elapsed() < Duration::from_secs(60), "the gateway did not fetch the new key");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(issuer.state().fetches, 2, "more fetches than one for all tokens");
    assert_eq!(verdict(&gateway, &old).await, "unknown signing key: get a new token");
    issuer.state().is_down = true;
    assert_eq!(verdict(&gateway, &new).await, "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_was_never_reached_closes_with_1013() {
    let issuer = Issuer::with(Vec::new()).await;
    issuer.state().is_down = true;
    let gateway = gateway(&[("CREWCAST_AUTH__JWKS_URL", &issuer.url)]);
    let mut socket = connect(&gateway.ws("/ws/mission"), Some(&by_kid("r", RS256))).await;
    assert_eq!(socket.closed().await, (1013, "cannot check tokens at the moment: try again".to_owned()));
}
