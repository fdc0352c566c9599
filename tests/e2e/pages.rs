//! The console page, and pages of other origins.

use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

use crate::support::{
    gateway::{self, Gateway, client},
    http::{post, problem},
    token::token,
};

const PUBLISH: &str = "/api/v1/publish";

fn producer() -> String {
    token(json!({ "publish": ["graph:*"] }))
}

fn event() -> Value {
    json!({ "channel": "graph:a", "event": { "type": "x" } })
}

async fn preflight(gateway: &Gateway, path: &str, origin: &str) -> HeaderMap {
    let request = client().request(Method::OPTIONS, gateway.url(path)).header("origin", origin);
    let request = request.header("access-control-request-method", "POST");
    request
        .header("access-control-request-headers", "authorization,content-type")
        .send()
        .await
        .unwrap()
        .headers()
        .clone()
}

#[tokio::test]
async fn pages_from_listed_origins_may_use_http() {
    let app = "https://app.example";
    let gateway = gateway::memory(&[("CREWCAST_CORS__ALLOWED_ORIGINS", app)]).await;
    for path in [PUBLISH, "/api/v1/tickets", "/sse?channel=graph:a"] {
        let headers = preflight(&gateway, path, app).await;
        assert_eq!(headers["access-control-allow-origin"], app);
        assert!(headers["access-control-allow-methods"].to_str().unwrap().contains("POST"));
        let allowed = headers["access-control-allow-headers"].to_str().unwrap().to_lowercase();
        assert!(allowed.contains("authorization") && allowed.contains("content-type"), "{allowed}");
        let headers = preflight(&gateway, path, "https://evil.example").await;
        assert!(!headers.contains_key("access-control-allow-origin"), "{headers:?}");
    }
    let from = |origin: &'static str, jwt: String| {
        client().post(gateway.url(PUBLISH)).header("origin", origin).bearer_auth(jwt).json(&event()).send()
    };
    let answer = from("https://app.example", producer()).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["access-control-allow-origin"]),
        (200, &app.parse().unwrap())
    );
    // The page can read refusals, too.
    let answer = from("https://app.example", "rubbish".to_owned()).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["access-control-allow-origin"]),
        (401, &app.parse().unwrap())
    );
    let answer = from("https://evil.example", producer()).await.unwrap();
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn preflights_allow_what_tracing_libraries_send_and_what_is_configured() {
    let settings = [
        ("CREWCAST_ALLOWED_ORIGINS", "https://*.app.example, capacitor://localhost"),
        ("CREWCAST_CORS__ALLOWED_HEADERS", "x-app-version"),
    ];
    let gateway = gateway::memory(&settings).await;
    for origin in ["https://a.app.example", "capacitor://localhost"] {
        let headers = preflight(&gateway, PUBLISH, origin).await;
        assert_eq!(headers["access-control-allow-origin"], origin);
        let allowed = headers["access-control-allow-headers"].to_str().unwrap();
        for name in ["traceparent", "tracestate", "baggage", "sentry-trace", "cache-control", "x-app-version"] {
            assert!(allowed.split(',').any(|header| header.trim() == name), "{name}: {allowed}");
        }
    }
}

#[tokio::test]
async fn without_listed_origins_nothing_is_allowed() {
    let gateway = gateway::memory(&[]).await;
    let headers = preflight(&gateway, PUBLISH, "https://app.example").await;
    assert!(headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{headers:?}");
}

#[tokio::test]
async fn anonymous_callers_from_a_foreign_page_are_403() {
    let settings = [("CREWCAST_AUTH__ANONYMOUS", r#"{"org":"acme","crews":["a"],"publish":["graph:a"]}"#)];
    let gateway = gateway::memory(&settings).await;
    let from = |origin: String| client().post(gateway.url(PUBLISH)).header("origin", origin).json(&event()).send();
    assert_eq!(from(gateway.url("")).await.unwrap().status(), 200, "the gateway's own page");
    let refused = problem(from("https://evil.example".to_owned()).await.unwrap(), 403, "forbidden").await;
    assert_eq!(refused["detail"], "origin https://evil.example is not allowed: add it to allowed_origins");
    problem(post(&gateway, "/api/v1/tickets", "", Value::Null).await, 401, "unauthorized").await;
}

#[tokio::test]
async fn the_page_and_its_files_are_served_under_a_strict_policy() {
    let gateway = gateway::memory(&[]).await;
    let fetch = |path: String| {
        let url = gateway.url(&path);
        async move { client().get(url).send().await.unwrap() }
    };
    let page = fetch("/ws/client".to_owned()).await;
    assert_eq!(page.status(), 200);
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let html = page.text().await.unwrap();
    // Everything that the page loads, directly and indirectly, resolved as in a browser.
    let mut wanted: Vec<String> =
        html.split('"').filter(|part| part.starts_with("client/")).map(|part| format!("/ws/{part}")).collect();
    let mut fetched = Vec::new();
    while let Some(path) = wanted.pop() {
        if fetched.contains(&path) {
            continue;
        }
        let file = fetch(path.clone()).await;
        assert_eq!(file.status(), 200, "{path}");
        let kind = if path.ends_with(".css") { "text/css; charset=utf-8" } else { "text/javascript; charset=utf-8" };
        assert_eq!(file.headers()["content-type"], kind, "{path}");
        assert_eq!(file.headers()["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(file.headers()["content-security-policy"], policy.as_str(), "{path}");
        let text = file.text().await.unwrap();
        let imports = text.split('"').filter_map(|part| part.strip_prefix("./")).filter(|name| name.ends_with(".js"));
        wanted.extend(imports.map(|name| format!("/ws/client/{name}")));
        fetched.push(path);
    }
    assert!(fetched.len() >= 5 && fetched.iter().any(|path| path.ends_with(".css")), "{fetched:?}");
}
