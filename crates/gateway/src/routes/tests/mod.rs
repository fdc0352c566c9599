//! The routes, called through the router with the in-memory broker.

mod directory;
mod history;
mod junk;
mod openapi;
mod operator;
mod publish;
mod refusals;
mod stats;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;

use super::{admin_routes, http_routes, not_found};
use crate::{
    app::App,
    auth::mint,
    config::{Algorithm, Config, Secret},
    registry::Registry,
    server::assemble,
    telemetry::Recorder,
    testing::FaultyBroker,
};

const SECRET: &str = "a secret of the tests, long enough";

/// One replica without sockets.
struct Bench {
    app: Arc<App>,
    broker: Arc<FaultyBroker>,
    public: Router,
    operator: Router,
}

/// A response.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Asserts that this is a complete problem document, and returns it.
    #[track_caller]
    fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let body = self.json();
        assert_eq!(body["type"], format!("urn:crewcast:problem:{kind}"), "{body}");
        assert_eq!(body["status"], status, "{body}");
        assert!(body["title"].is_string() && !body["detail"].as_str().unwrap().is_empty(), "{body}");
        body
    }

    #[track_caller]
    fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(set: impl FnOnce(&mut Config)) -> Self {
        Self::build(set, None)
    }

    fn build(set: impl FnOnce(&mut Config), recorder: Option<Recorder>) -> Self {
        let mut config = Config::default();
        config.auth.hs256_secret = Some(Secret::new(SECRET));
        set(&mut config);
        let broker = Arc::new(FaultyBroker::new(config.namespaces.clone()));
        let app = assemble(config, broker.sides(), Registry::of(broker.inner.clone()), recorder).unwrap().app;
        let public = http_routes().fallback(not_found).with_state(app.clone());
        let operator = admin_routes().with_state(app.clone());
        Self { app, broker, public, operator }
    }

    async fn call(&self, request: Request<Body>) -> Answer {
        answer(self.public.clone(), request).await
    }

    async fn post(&self, path: &str, token: &str, body: impl Into<Body>) -> Answer {
        self.call(request("POST", path, token).body(body.into()).unwrap()).await
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(request("GET", path, token).body(Body::empty()).unwrap()).await
    }

    /// Publishes one event and returns its id.
    async fn publish(&self, token: &str, line: &Value) -> String {
        let answer = self.post("/api/v1/publish", token, line.to_string()).await.ok();
        answer["ids"][0].as_str().unwrap().to_owned()
    }
}

async fn answer(router: Router, request: Request<Body>) -> Answer {
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(body.to_vec()).unwrap() }
}

/// A request with a token, unless `token` is empty.
fn request(method: &str, path: &str, token: &str) -> axum::http::request::Builder {
    let request = Request::builder().method(method).uri(path).header("host", "gw.example");
    if token.is_empty() { request } else { request.header("authorization", format!("Bearer {token}")) }
}

/// A token that is valid for an hour, with these additional claims.
fn token(claims: Value) -> String {
    let exp = crewcast_events::timestamp::unix_now() + 3600;
    let mut all: Map<String, Value> = json!({"sub": "u1", "exp": exp}).as_object().unwrap().clone();
    all.extend(claims.as_object().unwrap().clone());
    mint(&Secret::new(SECRET), Algorithm::HS256, &all).unwrap()
}

/// A token of the org acme that may publish and read what the tests use.
fn producer() -> String {
    token(json!({"org": "acme", "crews": ["a", "b"], "publish": ["graph:*", "mission:*", "run:*"]}))
}
