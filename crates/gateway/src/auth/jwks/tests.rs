use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::{Router, body::Body, extract::State as AxumState, http::StatusCode, response::Response, routing::get};
use crewcast_events::timestamp::unix_now;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::{auth::Verifier, config::AuthConfig};

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("../../../tests/keys/", $name, ".pem"))
    };
}

/// An issuer's endpoint on a real socket with a configurable answer.
struct Issuer {
    url: String,
    shared: Arc<Answer>,
    _server: AbortOnDropHandle<()>,
}

struct Answer {
    fetches: AtomicUsize,
    body: Mutex<(StatusCode, String)>,
    /// Answers wait while there are no permits.
    open: tokio::sync::Semaphore,
}

impl Issuer {
    async fn with(keys: Vec<Value>) -> Self {
        let shared = Arc::new(Answer {
            fetches: AtomicUsize::new(0),
            body: Mutex::new((StatusCode::OK, json!({ "keys": keys }).to_string())),
            open: tokio::sync::Semaphore::new(1),
        });
        let app = Router::new().route("/jwks", get(answer)).with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, shared, _server: AbortOnDropHandle::new(server) }
    }

    fn set(&self, keys: Vec<Value>) {
        *self.shared.body.lock() = (StatusCode::OK, json!({ "keys": keys }).to_string());
    }

    fn say(&self, status: StatusCode, body: impl Into<String>) {
        *self.shared.body.lock() = (status, body.into());
    }

    fn fetches(&self) -> usize {
        self.shared.fetches.load(SeqCst)
    }

    fn verifier(&self, algorithms: &[Algorithm]) -> Verifier {
        let algorithms = algorithms.to_vec();
        let config = AuthConfig { jwks_url: Some(self.url.clone()), algorithms, ..AuthConfig::default() };
        Verifier::new(&config).unwrap()
    }
}

async fn answer(AxumState(shared): AxumState<Arc<Answer>>) -> Response {
    shared.fetches.fetch_add(1, SeqCst);
    let _open = shared.open.acquire().await.unwrap();
    let (status, body) = shared.body.lock().clone();
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(pem!("rsa").as_bytes()).unwrap()
}

fn ec() -> EncodingKey {
    EncodingKey::from_ec_pem(pem!("p256").as_bytes()).unwrap()
}

fn ed() -> EncodingKey {
    EncodingKey::from_ed_pem(pem!("ed25519").as_bytes()).unwrap()
}

/// The public half as a JWKS document holds it.
fn jwk(kid: Option<&str>, algorithm: Algorithm, key: &EncodingKey, also: Value) -> Value {
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(key, algorithm).unwrap();
    let mut jwk = serde_json::to_value(jwk).unwrap();
    let fields = jwk.as_object_mut().unwrap();
    if let Some(kid) = kid {
        fields.insert("kid".to_owned(), kid.into());
    }
    fields.extend(also.as_object().unwrap().clone());
    jwk
}

fn token(kid: Option<&str>, algorithm: Algorithm, key: &EncodingKey) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, &json!({ "sub": "u1", "exp": unix_now() + 600 }), key).unwrap()
}

async fn label(verifier: &Verifier, token: &str) -> &'static str {
    verifier.verify(token).await.err().map_or("accepted", |error| error.label())
}

/// Advances the clock without letting it run while a socket is awaited.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn keys_are_picked_by_kid_and_kind() {
    let (rsa, ec, ed) = (rsa(), ec(), ed());
    let issuer = Issuer::with(vec![
        jwk(Some("r"), Algorithm::RS256, &rsa, json!({ "use": "sig" })),
        jwk(Some("e"), Algorithm::ES256, &ec, json!({})),
        jwk(Some("d"), Algorithm::EdDSA, &ed, json!({})),
    ])
    .await;
    let verifier = issuer.verifier(&[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]);
    for (kid, algorithm, key) in
        [("r", Algorithm::RS256, &rsa), ("e", Algorithm::ES256, &ec), ("d", Algorithm::EdDSA, &ed)]
    {
        assert_eq!(label(&verifier, &token(Some(kid), algorithm, key)).await, "accepted", "{kid}");
        assert_eq!(label(&verifier, &token(None, algorithm, key)).await, "accepted", "the only one of its kind");
    }
    assert_eq!(label(&verifier, &token(Some("e"), Algorithm::RS256, &rsa)).await, "algorithm");
    let other = EncodingKey::from_rsa_pem(pem!("rsa-other").as_bytes()).unwrap();
    assert_eq!(label(&verifier, &token(Some("r"), Algorithm::RS256, &other)).await, "bad_signature");
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn algorithms_are_pinned_by_configuration_and_by_the_key() {
    let rsa = rsa();
    let issuer = Issuer::with(vec![jwk(Some("r"), Algorithm::RS256, &rsa, json!({}))]).await;
    let verifier = issuer.verifier(&[]);
    let secret = EncodingKey::from_secret(pem!("rsa.pub").as_bytes());
    assert_eq!(label(&verifier, &token(Some("r"), Algorithm::HS256, &secret)).await, "algorithm");
    assert_eq!(label(&verifier, &token(Some("r"), Algorithm::PS256, &rsa)).await, "algorithm");
    assert_eq!(issuer.fetches(), 0, "an algorithm that is never accepted causes no fetch");
    let wide = issuer.verifier(&[Algorithm::RS256, Algorithm::PS256]);
    assert_eq!(label(&wide, &token(Some("r"), Algorithm::PS256, &rsa)).await, "algorithm", "the key says RS256");
    assert_eq!(label(&wide, &token(Some("r"), Algorithm::RS256, &rsa)).await, "accepted");
}

#[tokio::test]
async fn unusable_keys_are_ignored() {
    let rsa = rsa();
    let issuer = Issuer::with(vec![
        json!({ "kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "o", "alg": "HS256" }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "short" }),
        json!({ "kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "off" }),
        json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "tiny" }),
        json!({ "kty": "odd" }),
        json!(7),
        jwk(Some("enc"), Algorithm::RS256, &rsa, json!({ "use": "enc" })),
        jwk(Some("good"), Algorithm::RS256, &rsa, json!({ "x5c": ["ignored"] })),
    ])
    .await;
    let verifier = issuer.verifier(&[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]);
    assert_eq!(label(&verifier, &token(Some("good"), Algorithm::RS256, &rsa)).await, "accepted");
    for (kid, algorithm, key) in [
        ("enc", Algorithm::RS256, &rsa),
        ("tiny", Algorithm::RS256, &rsa),
        ("short", Algorithm::EdDSA, &ed()),
        ("off", Algorithm::ES256, &ec()),
    ] {
        assert_eq!(label(&verifier, &token(Some(kid), algorithm, key)).await, "unknown_key", "{kid}");
    }
}

#[tokio::test]
async fn a_rotated_key_is_fetched_by_its_kid_and_the_old_key_is_dropped() {
    let (rsa, ec) = (rsa(), ec());
    let issuer = Issuer::with(vec![jwk(Some("old"), Algorithm::RS256, &rsa, json!({}))]).await;
    let verifier = issuer.verifier(&[]);
    let (old, new) = (token(Some("old"), Algorithm::RS256, &rsa), token(Some("new"), Algorithm::ES256, &ec));
    assert_eq!(label(&verifier, &old).await, "accepted");
    issuer.set(vec![jwk(Some("new"), Algorithm::ES256, &ec, json!({}))]);
    assert_eq!(label(&verifier, &new).await, "unknown_key", "within the floor nothing is fetched");
    assert_eq!(issuer.fetches(), 1);
    pass(FLOOR).await;
    assert_eq!(label(&verifier, &new).await, "accepted");
    assert_eq!(label(&verifier, &old).await, "unknown_key");
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn unknown_kids_are_remembered_and_forgotten() {
    let rsa = rsa();
    let issuer = Issuer::with(vec![jwk(Some("r"), Algorithm::RS256, &rsa, json!({}))]).await;
    let verifier = issuer.verifier(&[]);
    let stranger = token(Some("stranger"), Algorithm::RS256, &rsa);
    assert_eq!(label(&verifier, &stranger).await, "unknown_key");
    for _ in 0..5 {
        pass(FLOOR).await;
        assert_eq!(label(&verifier, &stranger).await, "unknown_key");
    }
    assert_eq!(issuer.fetches(), 1, "the same kid causes no further fetch");
    pass(REFRESH - FLOOR * 5).await;
    assert_eq!(label(&verifier, &stranger).await, "unknown_key");
    assert_eq!(issuer.fetches(), 2, "until the entry expires");
    for n in 0..MAX_UNKNOWN + 5 {
        let jwks = verifier.jwks().unwrap();
        assert!(jwks.shared.answer(Some(&format!("k{n}")), Algorithm::RS256, true).is_err());
    }
    let state = verifier.jwks().unwrap().shared.state.lock();
    assert_eq!(state.unknown.len(), MAX_UNKNOWN, "bounded");
    assert_eq!(&*state.unknown[0].0, "k5", "the oldest go");
}

#[tokio::test]
async fn known_keys_are_kept_while_the_url_fails() {
    let rsa = rsa();
    let issuer = Issuer::with(vec![jwk(Some("r"), Algorithm::RS256, &rsa, json!({}))]).await;
    let verifier = issuer.verifier(&[]);
    let good = token(Some("r"), Algorithm::RS256, &rsa);
    assert_eq!(label(&verifier, &good).await, "accepted");
    let failures = [
        (StatusCode::INTERNAL_SERVER_ERROR, "down".to_owned()),
        (StatusCode::OK, "<html>".to_owned()),
        (StatusCode::OK, json!({ "keys": [] }).to_string()),
        (StatusCode::OK, format!(r#"{{"keys":[],"pad":"{}"}}"#, "x".repeat(MAX_BODY))),
    ];
    for (n, (status, body)) in failures.into_iter().enumerate() {
        issuer.say(status, body);
        pass(FLOOR).await;
        let unknown = token(Some("new"), Algorithm::RS256, &rsa);
        assert_eq!(label(&verifier, &unknown).await, "unavailable", "it is unknown whether the key exists");
        assert_eq!(issuer.fetches(), n + 2);
        assert_eq!(label(&verifier, &good).await, "accepted");
    }
}

#[tokio::test]
async fn without_any_key_tokens_cannot_be_checked() {
    let rsa = rsa();
    let good = jwk(Some("r"), Algorithm::RS256, &rsa, json!({}));
    let issuer = Issuer::with(vec![good.clone()]).await;
    // A document of exactly the allowed size is accepted; one byte more is not.
    let padded = |size: usize| {
        let empty = json!({ "keys": [good], "pad": "" }).to_string().len();
        json!({ "keys": [good], "pad": "x".repeat(size - empty) }).to_string()
    };
    issuer.say(StatusCode::OK, padded(MAX_BODY + 1));
    let verifier = issuer.verifier(&[]);
    let token = token(Some("r"), Algorithm::RS256, &rsa);
    assert_eq!(label(&verifier, &token).await, "unavailable");
    issuer.say(StatusCode::OK, padded(MAX_BODY));
    assert_eq!(label(&verifier, &token).await, "unavailable", "the floor applies to failures too");
    assert_eq!(issuer.fetches(), 1);
    pass(FLOOR).await;
    assert_eq!(label(&verifier, &token).await, "accepted");
}

#[tokio::test]
async fn concurrent_requests_share_one_fetch_even_if_the_first_leaves() {
    let rsa = rsa();
    let issuer = Issuer::with(vec![jwk(Some("r"), Algorithm::RS256, &rsa, json!({}))]).await;
    let verifier = Arc::new(issuer.verifier(&[]));
    let token = token(Some("r"), Algorithm::RS256, &rsa);
    let hold = issuer.shared.open.acquire().await.unwrap();
    let ask = || {
        let (verifier, token) = (verifier.clone(), token.clone());
        tokio::spawn(async move { verifier.verify(&token).await.is_ok() })
    };
    let first = ask();
    tokio::time::timeout(TIMEOUT, async {
        while issuer.fetches() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    first.abort();
    assert!(first.await.is_err());
    let others: Vec<_> = (0..50).map(|_| ask()).collect();
    tokio::task::yield_now().await;
    drop(hold);
    for other in others {
        assert!(other.await.unwrap());
    }
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn a_fetch_without_an_answer_times_out() {
    let rsa = rsa();
    let issuer = Issuer::with(vec![jwk(Some("r"), Algorithm::RS256, &rsa, json!({}))]).await;
    let _hold = issuer.shared.open.acquire().await.unwrap();
    let verifier = issuer.verifier(&[]);
    let token = token(Some("r"), Algorithm::RS256, &rsa);
    let asking = tokio::spawn(async move { label(&verifier, &token).await });
    tokio::time::timeout(TIMEOUT, async {
        while issuer.fetches() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    pass(TIMEOUT).await;
    assert_eq!(asking.await.unwrap(), "unavailable");
}

#[tokio::test]
async fn keys_are_refreshed_without_a_request() {
    let (rsa, ec) = (rsa(), ec());
    let issuer = Issuer::with(vec![jwk(Some("old"), Algorithm::RS256, &rsa, json!({}))]).await;
    let verifier = issuer.verifier(&[]);
    let jwks = verifier.jwks().unwrap().clone();
    assert!(jwks.refresh().await);
    let stop = CancellationToken::new();
    let task = tokio::spawn({
        let (jwks, stop) = (jwks.clone(), stop.clone());
        async move { jwks.keep_fresh(stop).await }
    });
    tokio::task::yield_now().await;
    issuer.set(vec![jwk(Some("new"), Algorithm::ES256, &ec, json!({}))]);
    let mut landed = jwks.shared.landed.subscribe();
    pass(REFRESH).await;
    landed.changed().await.unwrap();
    assert_eq!(label(&verifier, &token(Some("new"), Algorithm::ES256, &ec)).await, "accepted");
    assert_eq!(issuer.fetches(), 2);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_dropped_fetch_releases_its_waiters() {
    let issuer = Issuer::with(Vec::new()).await;
    let _hold = issuer.shared.open.acquire().await.unwrap();
    let verifier = issuer.verifier(&[]);
    let jwks = verifier.jwks().unwrap().clone();
    let waiting = tokio::spawn({
        let jwks = jwks.clone();
        async move { jwks.refresh().await }
    });
    tokio::time::timeout(TIMEOUT, async {
        while issuer.fetches() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    *jwks.flight.lock() = None;
    assert!(waiting.await.unwrap(), "the waiter learns that the fetch ended");
    assert!(!jwks.shared.state.lock().flying);
}
