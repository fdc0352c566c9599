//! The HTTP API over real TCP: each endpoint and each of its refusals.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    gateway::{self, Gateway, client},
    http::{get, post, problem, publish, ticket},
    redis::RedisServer,
    token::{now, token},
};

const PUBLISH: &str = "/api/v1/publish";

fn producer() -> String {
    token(json!({ "crews": ["a"], "publish": ["graph:*", "run:*", "flash:*"] }))
}

fn event() -> Value {
    json!({ "channel": "graph:a", "event": { "type": "x" } })
}

#[tokio::test]
async fn every_endpoint_requires_a_valid_token() {
    let gateway = gateway::memory(&[]).await;
    let endpoints = [
        (Method::POST, PUBLISH),
        (Method::POST, "/api/v1/directory"),
        (Method::POST, "/api/v1/tickets"),
        (Method::GET, "/api/v1/channels/graph:a/events"),
        (Method::GET, "/sse?channel=graph:a"),
    ];
    let expired = token(json!({ "exp": now() - 1 }));
    for (method, path) in endpoints {
        let request = || client().request(method.clone(), gateway.url(path)).json(&event());
        let bare = request().send().await.unwrap();
        assert_eq!(bare.headers()["www-authenticate"], "Bearer", "{path}");
        problem(bare, 401, "unauthorized").await;
        for bad in ["rubbish", "a.b.c", &format!("{}x", producer()), &expired] {
            let answer = request().bearer_auth(bad).send().await.unwrap();
            assert_eq!(answer.headers()["www-authenticate"], r#"Bearer error="invalid_token""#, "{path}");
            let body = problem(answer, 401, "unauthorized").await;
            assert!(!body.to_string().contains(bad), "{path}: {body}");
        }
        let query = if path.contains('?') { "&" } else { "?" };
        let url = gateway.url(&format!("{path}{query}access_token={}", producer()));
        let answer = client().request(method, url).json(&event()).send().await.unwrap();
        problem(answer, 401, "unauthorized").await;
    }
}

#[tokio::test]
async fn http_tokens_in_the_query_work_only_when_configured() {
    let gateway = gateway::memory(&[("CREWCAST_AUTH__QUERY_TOKEN", "true")]).await;
    let url = gateway.url(&format!("{PUBLISH}?access_token={}", producer()));
    assert_eq!(client().post(&url).json(&event()).send().await.unwrap().status(), 200);
    let signature = url.rsplit('.').next().unwrap();
    assert!(!gateway.log().join("\n").contains(signature));
}

#[tokio::test]
async fn a_ticket_is_for_sockets_and_streams_only() {
    let gateway = gateway::memory(&[]).await;
    let ticket = ticket(&gateway, &producer()).await;
    let url = gateway.url(&format!("{PUBLISH}?ticket={ticket}"));
    problem(client().post(url).json(&event()).send().await.unwrap(), 401, "unauthorized").await;
}

#[tokio::test]
async fn each_refusal_of_publish_has_its_problem_document() {
    let settings = [("CREWCAST_LIMITS__MESSAGE", "2000"), ("CREWCAST_NAMESPACES__FLASH__LOG__LENGTH", "0")];
    let gateway = gateway::memory(&settings).await;
    let refused = |body: Value| {
        let gateway = &gateway;
        async move { post(gateway, PUBLISH, &producer(), body).await }
    };
    let with = |channel: &str, event: Value| json!({ "channel": channel, "event": event });
    let x = || json!({ "type": "x" });
    for channel in ["graph", "graph:", ":a", "graph:a b", "GRAPH:a", "unheardof:a"] {
        problem(refused(with(channel, x())).await, 400, "bad-channel").await;
    }
    for event in [
        json!({}),
        json!([]),
        json!("x"),
        json!({ "type": "" }),
        json!({ "type": 1 }),
        json!({ "type": "x", "id": "1" }),
    ] {
        problem(refused(with("graph:a", event)).await, 400, "bad-event").await;
    }
    problem(refused(with("flash:a", x())).await, 400, "bad-event").await;
    for body in [
        json!({}),
        json!([]),
        json!({ "channel": "graph:a" }),
        json!({ "channel": "graph:a", "event": x(), "more": 1 }),
    ] {
        problem(refused(body).await, 400, "malformed").await;
    }
    let body =
        problem(refused(json!({ "channel": "graph:a", "event": x(), "chanel": 1 })).await, 400, "malformed").await;
    assert!(body["detail"].as_str().unwrap().contains("chanel"), "the unknown field is named: {body}");
    problem(refused(with("mission:a", x())).await, 403, "forbidden").await;
    problem(refused(with("graph:a", json!({ "type": "x", "filler": "x".repeat(2000) }))).await, 413, "too-large").await;
    let reader = token(json!({ "crews": ["a"] }));
    problem(post(&gateway, PUBLISH, &reader, event()).await, 403, "forbidden").await;
    problem(get(&gateway, PUBLISH, &producer()).await, 405, "method-not-allowed").await;

    let raw = |body: &'static [u8]| client().post(gateway.url(PUBLISH)).bearer_auth(producer()).body(body).send();
    problem(raw(b"{").await.unwrap(), 400, "malformed").await;
    problem(raw(b"").await.unwrap(), 400, "malformed").await;
    problem(raw(b"{\"channel\":\"\xff\"}").await.unwrap(), 400, "malformed").await;

    // None of these requests published anything.
    let history = get(&gateway, "/api/v1/channels/graph:a/events", &producer()).await;
    assert_eq!(history.json::<Value>().await.unwrap()["head"], Value::Null);
}

#[tokio::test]
async fn lines_are_published_all_or_nothing_and_the_invalid_one_is_named() {
    let gateway = gateway::memory(&[]).await;
    let lines = |third: &str| format!("{0}\n{0}\n{third}\n", event());
    let send = |body: String| {
        let request = client().post(gateway.url(PUBLISH)).bearer_auth(producer());
        request.header("content-type", "application/x-ndjson").body(body).send()
    };
    let bad = [
        ("{", 400, "malformed"),
        (r#"{"channel":"graph:a","event":{}}"#, 400, "bad-event"),
        (r#"{"channel":"hub:acme","event":{"type":"x"}}"#, 403, "forbidden"),
    ];
    for (line, status, kind) in bad {
        let body = problem(send(lines(line)).await.unwrap(), status, kind).await;
        assert_eq!(body["line"], 3, "{body}");
    }
    let live = r#"{"channel":"graph:a","event":{"type":"x"},"live":true}"#;
    let body: Value = send(lines(live)).await.unwrap().json().await.unwrap();
    let ids = body["ids"].as_array().unwrap();
    assert!(ids[0].as_str().unwrap().starts_with("1-") && ids[1].as_str().unwrap().starts_with("2-"), "{body}");
    assert_eq!((ids.len(), &ids[2]), (3, &Value::Null));
}

#[tokio::test]
async fn a_repeated_idempotency_key_returns_the_same_id_and_publishes_nothing() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let state = json!({ "key": "s", "value": 1 });
    let body = json!({ "channel": "graph:a", "event": { "type": "x" }, "idempotency_key": "k", "state": state });
    let mut answers = Vec::new();
    for _ in 0..3 {
        let answer = post(&gateway, PUBLISH, &producer(), body.clone()).await;
        assert_eq!(answer.status(), 200);
        answers.push(answer.json::<Value>().await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer["ids"][0].is_string()), "{answers:?}");
    assert_eq!(redis.run::<i64>(&[b"LLEN", b"crewcast:{graph:a}:log"]), 1);
    assert_eq!(redis.run::<String>(&[b"HGET", b"crewcast:{graph:a}:state", b"s"]), "1");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_even_before_it_is_sent() {
    let gateway = gateway::memory(&[]).await;
    let mut stream = TcpStream::connect(&gateway.public).await.unwrap();
    let head = format!(
        "POST {PUBLISH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 99999999\r\n\r\n",
        producer()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

#[tokio::test]
async fn each_refusal_of_the_directory_has_its_problem_document() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let register = |jwt: String, body: Value| {
        let gateway = &gateway;
        async move { post(gateway, "/api/v1/directory", &jwt, body).await }
    };
    let of = |org: Value, publish: &str| token(json!({ "org": org, "publish": [publish] }));
    let acme = || of(json!("acme"), "graph:*");
    let crew = || json!({ "kind": "crew", "id": "abc" });
    for _ in 0..2 {
        let answer = register(acme(), crew()).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "kind": "crew", "id": "abc", "org": "acme" }));
    }
    let body = problem(register(of(json!("globex"), "graph:*"), crew()).await, 409, "owned-by-another").await;
    assert!(!body.to_string().contains("acme"), "the owner is disclosed: {body}");
    problem(register(acme(), json!({ "kind": "crew", "id": "x", "org": "globex" })).await, 403, "forbidden").await;
    problem(register(of(Value::Null, "graph:*"), crew()).await, 403, "forbidden").await;
    problem(register(token(json!({ "crews": "*" })), crew()).await, 403, "forbidden").await;
    let run = json!({ "kind": "run", "id": "r", "crew": "abc" });
    problem(register(of(json!("globex"), "run:*"), run).await, 403, "forbidden").await;
    for body in [
        json!({}),
        json!({ "kind": "cat", "id": "x" }),
        json!({ "kind": "crew", "id": "a b" }),
        json!({ "kind": "crew", "id": "x", "crew": "abc" }),
    ] {
        problem(register(acme(), body).await, 400, "malformed").await;
    }
    problem(get(&gateway, "/api/v1/directory", &acme()).await, 405, "method-not-allowed").await;
}

#[tokio::test]
async fn history_is_read_page_by_page_and_refuses_what_sockets_refuse() {
    let gateway = gateway::memory(&[]).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(publish(&gateway, &producer(), "graph:a", json!({ "type": "x", "n": n })).await);
    }
    let (mut after, mut seen, mut pages) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let path = format!("/api/v1/channels/graph:a/events?after={after}&limit=2");
        let page: Value = get(&gateway, &path, &producer()).await.json().await.unwrap();
        assert_eq!((&page["reset"], &page["head"]), (&Value::Null, &json!(ids[4])), "{page}");
        seen.extend(page["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        after = page["position"].as_str().unwrap().to_owned();
        pages += 1;
        if page["more"] == false {
            break;
        }
    }
    assert_eq!((seen, pages), (ids, 3));
    for (path, status, kind) in [
        ("/api/v1/channels/graph:xyz/events", 403, "forbidden"),
        ("/api/v1/channels/hub:globex/events", 403, "forbidden"),
        ("/api/v1/channels/nonsense/events", 400, "bad-channel"),
        ("/api/v1/channels/unheardof:a/events", 400, "bad-channel"),
        ("/api/v1/channels/graph:%FF/events", 400, "bad-channel"),
        ("/api/v1/channels/graph:a/events?limit=0", 400, "malformed"),
        ("/api/v1/channels/graph:a/events?limit=1001", 400, "malformed"),
        ("/api/v1/channels/graph:a/events?limit=x", 400, "malformed"),
    ] {
        problem(get(&gateway, path, &producer()).await, status, kind).await;
    }
    let page = get(&gateway, "/api/v1/channels/graph:a/events?after=rubbish", &producer()).await;
    assert_eq!(page.json::<Value>().await.unwrap()["reset"]["reason"], "unknown_id");
}

#[tokio::test]
async fn without_a_broker_every_endpoint_is_503_with_retry_after() {
    let mut redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    redis.kill();
    let answers = [
        post(&gateway, PUBLISH, &producer(), event()).await,
        post(&gateway, "/api/v1/directory", &producer(), json!({ "kind": "crew", "id": "x" })).await,
        post(&gateway, "/api/v1/tickets", &producer(), Value::Null).await,
        get(&gateway, "/api/v1/channels/graph:a/events", &producer()).await,
        get(&gateway, "/sse?channel=graph:a", &producer()).await,
    ];
    for answer in answers {
        assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
        let body = problem(answer, 503, "unavailable").await;
        assert!(!body.to_string().contains(&redis.port.to_string()), "internals are disclosed: {body}");
    }
    assert_eq!(get(&gateway, "/health", "").await.status(), 200, "the process is alive");
}

#[tokio::test]
async fn unknown_paths_are_404_and_other_methods_are_405() {
    let gateway = gateway::memory(&[]).await;
    for path in ["/", "/nothing", "/api/v1/nothing", "/ws/", "/ws/nothing", "/ws/client/nothing", "/metrics", "/readyz"]
    {
        problem(get(&gateway, path, &producer()).await, 404, "not-found").await;
    }
    for path in ["/health", "/sse", "/api/openapi.json", "/ws/graph", "/ws/mission", "/ws/runs/r1", "/ws/client", "/ws"]
    {
        let answer = post(&gateway, path, &producer(), Value::Null).await;
        assert!(answer.headers()["allow"].to_str().unwrap().contains("GET"), "{path}");
        problem(answer, 405, "method-not-allowed").await;
    }
}

async fn upgrade(gateway: &Gateway, headers: &[(&'static str, &'static str)]) -> reqwest::Response {
    let request = client().get(gateway.url("/ws/graph/a")).bearer_auth(producer());
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
}

#[tokio::test]
async fn plain_http_on_a_socket_path_explains_the_protocol() {
    let gateway = gateway::memory(&[]).await;
    const ASKS: [(&str, &str); 2] = [("connection", "upgrade"), ("upgrade", "websocket")];
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let version = ("sec-websocket-version", "13");
    let cases = [
        (vec![], 426, "upgrade", "websocket"),
        (vec![ASKS[0], ASKS[1], key, ("sec-websocket-version", "8")], 426, "sec-websocket-version", "13"),
        (vec![ASKS[0], ASKS[1], version], 400, "content-type", "application/problem+json"),
        (
            vec![ASKS[0], ASKS[1], version, ("sec-websocket-key", "short")],
            400,
            "content-type",
            "application/problem+json",
        ),
    ];
    for (headers, status, name, value) in cases {
        let answer = upgrade(&gateway, &headers).await;
        assert_eq!(answer.status(), status, "{headers:?}");
        assert_eq!(answer.headers()[name], value, "{headers:?}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{headers:?}");
        let body: Value = answer.json().await.unwrap();
        assert!(body["status"] == status && !body["detail"].as_str().unwrap().is_empty(), "{body}");
    }
}

#[tokio::test]
async fn the_openapi_document_is_served_and_names_every_endpoint() {
    let gateway = gateway::memory(&[]).await;
    let answer = client().get(gateway.url("/api/openapi.json")).send().await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().contains("json"));
    let document: Value = answer.json().await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for path in
        [PUBLISH, "/api/v1/directory", "/api/v1/tickets", "/api/v1/channels/{channel}/events", "/sse", "/health"]
    {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}
