//! No secret, token or ticket is in the logs, the metrics or a response, even at the finest level and in failures.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::{
    eventually,
    gateway::{Gateway, client},
    http::ticket,
    redis::RedisServer,
    socket::{connect, connect_with},
    token::{SECRET, now, signed, token},
};

const PASSWORD: &str = "p4ssw0rd-of-redis";
const NEXT_PASSWORD: &str = "n3xt-p4ssw0rd-of-redis";

/// The secrets that must not appear, and all text that was collected.
#[derive(Default)]
struct Search {
    secrets: Vec<(String, String)>,
    seen: Vec<(String, String)>,
}

impl Search {
    fn secret(&mut self, name: &str, text: &str) {
        self.secrets.push((name.to_owned(), text.to_owned()));
    }

    /// Adds a token. Neither its claims nor its signature may appear, nor the beginning of either.
    fn token(&mut self, name: &str, token: String) -> String {
        for (part, text) in ["claims", "signature"].into_iter().zip(token.split('.').skip(1)) {
            self.secret(&format!("{part} of {name}"), &text[..text.len().min(20)]);
        }
        token
    }

    fn see(&mut self, place: &str, text: impl Into<String>) {
        self.seen.push((place.to_owned(), text.into()));
    }

    #[track_caller]
    fn assert_clean(&self) {
        for (place, text) in &self.seen {
            for (name, secret) in &self.secrets {
                let found = text.lines().find(|line| line.contains(secret.as_str()));
                assert!(found.is_none(), "{name} in {place}: {}", found.unwrap_or_default());
            }
        }
    }
}

/// A gateway that logs everything, on a Redis with a password.
async fn noisy(redis: &RedisServer, query_token: bool) -> Gateway {
    let url = format!("redis://default:{PASSWORD}@127.0.0.1:{}", redis.port);
    let query_token = query_token.to_string();
    Gateway::start(&[
        ("CREWCAST_BROKER__URL", &url),
        ("CREWCAST_LOG__LEVEL", "trace"),
        ("CREWCAST_AUTH__QUERY_TOKEN", &query_token),
    ])
    .await
}

fn guarded() -> RedisServer {
    let redis = RedisServer::start();
    let _: String = redis.run(&[b"CONFIG", b"SET", b"requirepass", PASSWORD.as_bytes()]);
    redis
}

#[tokio::test]
async fn no_secret_appears_in_logs_metrics_or_answers() {
    let redis = guarded();
    for query_token in [true, false] {
        let mut gateway = noisy(&redis, query_token).await;
        let mut search = Search::default();
        search.secret("the password of Redis", PASSWORD);
        search.secret("auth.hs256_secret", SECRET);
        use_every_way(&gateway, &mut search).await;
        handshakes_that_fail(&gateway, &mut search).await;
        publish_well_and_badly(&gateway, &mut search).await;
        search.see("metrics", gateway.metrics().await);
        gateway.terminate();
        assert!(gateway.exit().await.success());
        let log = gateway.log().join("\n");
        assert!(log.contains("serving") && log.contains("drained"), "the log is incomplete");
        search.see("log", log);
        search.assert_clean();
    }
}

/// Sends valid and invalid tokens in every way in which a token can be sent.
async fn use_every_way(gateway: &Gateway, search: &mut Search) {
    let claims = json!({ "sub": "u1", "org": "acme", "crews": ["abc"], "iat": now(), "exp": now() + 600 });
    let expired = json!({ "sub": "u1", "org": "acme", "crews": ["abc"], "iat": now() - 20, "exp": now() - 10 });
    let foreign = signed(&claims, "another secret of the tests, 32 bytes or more");
    let tokens = [
        ("a good token", token(json!({ "crews": ["abc"] }))),
        ("an expired token", signed(&expired, SECRET)),
        ("a forged token", foreign.clone()),
        ("a token with a bad claim", signed(&json!({ "sub": 7, "exp": now() + 60, "x": "bad-claim" }), SECRET)),
        ("no token at all", "eyJub3QiOiJhIHRva2VuIn0.YnV0LWxvb2tzLWxpa2Utb25l.YW5kLWhhcy1hLXNpZ25hdHVyZQ".to_owned()),
        ("a password in place of a token", "hunter2-is-no.jwt-hunter2-is-none.hunter2-at-all".to_owned()),
    ];
    for (name, token) in tokens {
        let token = search.token(name, token);
        let path = "/ws/graph/abc";
        drop(connect(&gateway.ws(path), Some(&token)).await);
        let mut request = gateway.ws(path).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        drop(connect_with(request).await);
        // The first works only if configured. The others are common mistakes.
        for parameter in ["access_token", "token", "jwt", "ticket"] {
            drop(connect(&gateway.ws(&format!("{path}?{parameter}={token}")), None).await);
            let address = gateway.url(&format!("/sse?channel=graph:abc&{parameter}={token}"));
            let answer = client().get(address).send().await.unwrap();
            if answer.status() != 200 {
                search.see("problem", answer.text().await.unwrap());
            }
        }
        for path in ["/sse?channel=graph:other", "/api/v1/channels/graph:abc/events", "/api/v1/nothing", "/sse"] {
            let answer = client().get(gateway.url(path)).bearer_auth(&token).send().await.unwrap();
            search.see("answer", format!("{:?}", answer.headers()));
            search.see("answer", answer.text().await.unwrap());
        }
    }
    refresh(gateway, search, &foreign).await;
    use_tickets(gateway, search).await;
}

/// Sends a new token over the open socket, and values that look like one.
async fn refresh(gateway: &Gateway, search: &mut Search, foreign: &str) {
    let good = search.token("the first token", token(json!({ "crews": ["abc"], "jti": "first" })));
    let fresh = search.token("a fresh token", token(json!({ "crews": ["abc"], "jti": "fresh" })));
    let mut socket = connect(&gateway.ws("/ws/graph/abc"), Some(&good)).await;
    for message in [
        json!({ "action": "auth", "token": fresh }),
        json!({ "action": "login", "token": fresh }),
        json!({ "token": fresh }),
        json!(fresh),
    ] {
        socket.send(&message.to_string()).await;
    }
    for _ in 0..3 {
        let answer = socket.json().await;
        assert_eq!(answer["code"], "unknown_action");
        search.see("answer on a socket", answer.to_string());
    }
    socket.send(&json!({ "action": "auth", "token": foreign }).to_string()).await;
    let (code, reason) = socket.closed().await;
    assert_eq!(code, 4401);
    search.see("close reason", reason);
}

async fn use_tickets(gateway: &Gateway, search: &mut Search) {
    let holder = search.token("the token behind a ticket", token(json!({ "crews": ["abc"], "jti": "behind" })));
    let ticket = ticket(gateway, &holder).await;
    search.secret("a ticket", &ticket);
    let first = connect(&gateway.ws(&format!("/ws/graph/abc?ticket={ticket}")), None).await;
    let (code, reason) = connect(&gateway.ws(&format!("/ws/graph/abc?ticket={ticket}")), None).await.closed().await;
    assert_eq!(code, 4401, "the ticket is used");
    search.see("close reason", reason);
    let answer = client().get(gateway.url(&format!("/sse?channel=graph:abc&ticket={ticket}"))).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    search.see("problem", answer.text().await.unwrap());
    drop(first);
}

/// Requests that are not handshakes, and some that are barely HTTP.
async fn handshakes_that_fail(gateway: &Gateway, search: &mut Search) {
    let token = search.token("a token in a failed handshake", token(json!({ "crews": ["abc"], "jti": "failed" })));
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    for request in [
        format!("GET /ws/graph/abc?access_token={token} HTTP/1.1\r\nHost: h\r\n\r\n"),
        format!(
            "GET /ws/graph/abc?access_token={token} HTTP/1.1\r\nHost: h\r\n{upgrade}Sec-WebSocket-Version: 7\r\n\r\n"
        ),
        format!(
            "POST /ws/graph/abc HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n{upgrade}\
             Content-Length: 0\r\n\r\n"
        ),
        format!("GET /ws/graph/abc HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Protocol: token, {token}\r\nbro ken\r\n\r\n"),
        format!("GET /ws/graph/abc HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Protocol: {token}\r\n{upgrade}\r\n"),
        format!(
            "GET /ws/graph/a%20b?ticket={token} HTTP/1.1\r\nHost: h\r\n{upgrade}Sec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ),
        format!("Authorization: Bearer {token}\r\n\r\n"),
        format!("GET /ws/graph/abc?access_token={token} HTTP/1.1\r\nAuthoriz"),
    ] {
        let mut stream = TcpStream::connect(&gateway.public).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut answer)).await;
        search.see("answer to a failed handshake", String::from_utf8_lossy(&answer));
    }
}

async fn publish_well_and_badly(gateway: &Gateway, search: &mut Search) {
    let publisher = search.token("a publisher's token", token(json!({ "publish": ["graph:*"], "jti": "publisher" })));
    let good = json!({ "channel": "graph:abc", "event": { "type": "x" } }).to_string();
    let misplaced = json!({ "channel": "graph:abc", "event": { "type": "x" }, "token": publisher }).to_string();
    let no_channel = json!({ "channel": publisher, "event": { "type": "x" } }).to_string();
    let no_event = json!({ "channel": "graph:abc", "event": publisher }).to_string();
    let no_type = json!({ "channel": "graph:abc", "event": { "type": 7, "token": publisher } }).to_string();
    let broken = format!("{{\"token\":\"{publisher}\"");
    for (body, status) in
        [(good, 200), (misplaced, 400), (no_channel, 400), (no_event, 400), (no_type, 400), (broken, 400)]
    {
        let request = client().post(gateway.url("/api/v1/publish")).bearer_auth(&publisher).body(body.clone());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{body}");
        search.see("answer to a publish", answer.text().await.unwrap());
    }
}

#[tokio::test]
async fn a_refused_redis_password_is_reported_without_showing_it() {
    let redis = guarded();
    let mut search = Search::default();
    search.secret("the wrong password", "wr0ng-passw0rd");
    search.secret("the old password", PASSWORD);
    search.secret("the new password", NEXT_PASSWORD);
    let url = format!("redis://default:wr0ng-passw0rd@127.0.0.1:{}", redis.port);
    let wrong = Gateway::spawn(&[("CREWCAST_BROKER__URL", &url), ("CREWCAST_LOG__LEVEL", "trace")]);
    eventually("the refusal is logged", || async { wrong.log().iter().any(|line| line.contains("waiting for it")) })
        .await;

    // Then a gateway whose Redis password changes.
    let gateway = noisy(&redis, false).await;
    let url = format!("redis://default:{PASSWORD}@127.0.0.1:{}", redis.port);
    let mut operator = redis::Client::open(url).unwrap().get_connection().unwrap();
    redis::cmd("CONFIG").arg(&["SET", "requirepass", NEXT_PASSWORD]).exec(&mut operator).unwrap();
    for kind in ["normal", "pubsub"] {
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", kind, "SKIPME", "yes"]).exec(&mut operator).unwrap();
    }
    eventually("the gateway notices", || async { !gateway.is_ready().await }).await;
    let good = search.token("a token", token(json!({ "crews": ["abc"], "publish": ["graph:*"] })));
    let body = json!({ "channel": "graph:abc", "event": { "type": "x" } });
    let answer = client().post(gateway.url("/api/v1/publish")).bearer_auth(&good).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    search.see("problem", answer.text().await.unwrap());
    for admin in ["/readyz", "/metrics"] {
        let answer = client().get(format!("http://{}{admin}", gateway.admin)).send().await.unwrap();
        search.see(admin, answer.text().await.unwrap());
    }
    search.see("log of the refused one", wrong.log().join("\n"));
    search.see("log", gateway.log().join("\n"));
    search.assert_clean();
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let mut search = Search::default();
    let token = search.token("a token", token(json!({})));
    search.see("somewhere", format!("{{\"message\":\"refused {token}\"}}"));
    assert!(std::panic::catch_unwind(|| search.assert_clean()).is_err());
    let claims: Value = serde_json::json!(token.split('.').nth(1).unwrap());
    search.seen = vec![("elsewhere".to_owned(), format!("claims={claims}"))];
    assert!(std::panic::catch_unwind(|| search.assert_clean()).is_err());
    search.seen = vec![("nowhere".to_owned(), "refused: bad signature".to_owned())];
    search.assert_clean();
}
