//! Authentication, and the form of the refusals that all endpoints share.

use super::*;

const EVENT: &str = r#"{"channel":"graph:a","event":{"type":"x"}}"#;

#[tokio::test]
async fn without_a_token_every_endpoint_answers_401_with_a_challenge() {
    let bench = Bench::new();
    for (method, path) in [
        ("POST", "/api/v1/publish"),
        ("POST", "/api/v1/directory"),
        ("POST", "/api/v1/tickets"),
        ("GET", "/api/v1/channels/graph:a/events"),
    ] {
        let answer = bench.call(request(method, path, "").body(EVENT.into()).unwrap()).await;
        answer.problem(401, "unauthorized");
        assert_eq!(answer.headers["www-authenticate"], "Bearer", "{path}");
    }
}

#[tokio::test]
async fn invalid_tokens_are_401_and_are_not_echoed() {
    let bench = Bench::new();
    let expired = token(json!({"exp": 1_000_000, "publish": ["graph:*"]}));
    let foreign = format!("{}x", producer());
    for bad in ["x.y.z", "x", expired.as_str(), foreign.as_str()] {
        let answer = bench.post("/api/v1/publish", bad, EVENT).await;
        answer.problem(401, "unauthorized");
        assert_eq!(answer.headers["www-authenticate"], r#"Bearer error="invalid_token""#);
        assert!(!answer.text.contains(bad) || bad.len() == 1, "{answer:?}");
    }
}

#[tokio::test]
async fn tokens_in_the_query_work_only_where_configured() {
    let path = format!("/api/v1/publish?access_token={}", producer());
    Bench::new().post(&path, "", EVENT).await.problem(401, "unauthorized");
    Bench::with(|config| config.auth.query_token = true).post(&path, "", EVENT).await.ok();
}

#[tokio::test]
async fn a_ticket_is_issued_for_a_token_and_does_not_work_over_plain_http() {
    let bench = Bench::new();
    let answer = bench.post("/api/v1/tickets", &producer(), "").await;
    let ticket = answer.ok();
    assert_eq!(ticket["expires_in"], 60);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let ticket = ticket["ticket"].as_str().unwrap();
    bench.post(&format!("/api/v1/tickets?ticket={ticket}"), "", "").await.problem(401, "unauthorized");
    // The attempt did not use it up.
    let credential = crate::auth::Credential::Ticket(Secret::new(ticket));
    let identity = bench.app.auth.identify(&credential).await.unwrap().unwrap();
    assert_eq!(&*identity.sub, "u1");
}

#[tokio::test]
async fn anonymous_callers_have_their_claims_but_not_from_foreign_pages() {
    let open = |config: &mut Config| {
        let claims = json!({"org": "acme", "crews": ["a"], "publish": ["graph:a"]});
        config.auth.anonymous = claims.as_object().cloned();
    };
    let bench = Bench::with(open);
    bench.post("/api/v1/publish", "", EVENT).await.ok();
    bench.post("/api/v1/tickets", "", "").await.problem(401, "unauthorized");
    let from = |token: &str, origin: &str| {
        request("POST", "/api/v1/publish", token).header("origin", origin).body(Body::from(EVENT)).unwrap()
    };
    bench.call(from("", "http://gw.example")).await.ok();
    for foreign in ["https://evil.example", "null", "\u{e9}"] {
        bench.call(from("", foreign)).await.problem(403, "forbidden");
    }
    bench.call(from(&producer(), "https://evil.example")).await.ok();
    let listed = Bench::with(|config| {
        open(config);
        config.allowed_origins = vec!["https://app.example".parse().unwrap()];
    });
    listed.call(from("", "https://app.example")).await.ok();
    let problem = listed.call(from("", "https://evil.example")).await;
    problem.problem(403, "forbidden");
    let detail = "origin https://evil.example is not allowed: add it to allowed_origins";
    assert_eq!(problem.json()["detail"], detail);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let bench = Bench::new();
    bench.get("/api/v1/nothing", &producer()).await.problem(404, "not-found");
    let answer = bench.get("/api/v1/publish", &producer()).await;
    answer.problem(405, "method-not-allowed");
    assert_eq!(answer.headers["allow"], "POST");
    bench.post("/health", "", "").await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn health_needs_no_token_and_no_broker() {
    let bench = Bench::new();
    bench.broker.calls_left.store(0, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(bench.get("/health", "").await.ok(), json!({"status": "ok"}));
}

#[tokio::test]
async fn an_event_stream_over_the_limit_does_not_use_up_its_ticket() {
    let bench = Bench::with(|config| config.limits.connections = Some(1));
    let here = std::net::IpAddr::from([0, 0, 0, 0]);
    let place = bench.app.limits.connect(here).unwrap();
    let ticket = bench.post("/api/v1/tickets", &producer(), "").await.ok()["ticket"].as_str().unwrap().to_owned();
    let path = format!("/sse?channel=graph:a&ticket={ticket}");
    bench.get(&path, "").await.problem(429, "too-many");
    drop(place);
    bench.get("/sse?channel=graph:a&ticket=0123456789abcdef0123456789abcdef", "").await.problem(401, "unauthorized");
    assert_eq!(bench.app.limits.open(), 0);
    let credential = crate::auth::Credential::Ticket(Secret::new(ticket));
    assert!(bench.app.auth.identify(&credential).await.is_ok(), "the ticket was not used up");
}
