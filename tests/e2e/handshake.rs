//! The handshake of browsers and backends: how tokens are passed, and what happens to invalid ones.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::StreamExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, http::HeaderValue};

use crate::support::{
    gateway::{self, Gateway},
    http::{post, publish, ticket},
    redis::RedisServer,
    socket::{Socket, connect, connect_with},
    token::{SECRET, now, signed, token},
};

async fn connect_bearer(url: &str, token: &str) -> Socket {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    connect_with(request).await
}

/// Asserts that the socket is open: it receives an event that is published now.
async fn delivers(gateway: &Gateway, socket: &mut Socket, crew: &str) {
    let publisher = token(json!({ "sub": "publisher", "publish": ["graph:*"] }));
    let id = publish(gateway, &publisher, &format!("graph:{crew}"), json!({ "type": "x" })).await;
    while socket.event().await["id"] != id.as_str() {}
}

#[tokio::test]
async fn the_response_selects_token_and_never_repeats_the_jwt() {
    let gateway = gateway::memory(&[]).await;
    let jwt = token(json!({ "crews": ["abc"] }));
    let mut socket = connect(&gateway.ws("/ws/graph/abc?since=0"), Some(&jwt)).await;
    assert_eq!(socket.response.status(), 101);
    let selected: Vec<_> = socket.response.headers().get_all("sec-websocket-protocol").iter().collect();
    assert_eq!(selected, ["token"]);
    let signature = jwt.rsplit('.').next().unwrap();
    assert!(!format!("{:?}", socket.response.headers()).contains(signature));
    delivers(&gateway, &mut socket, "abc").await;
    let log = gateway.log().join("\n");
    assert!(!log.contains(signature), "{log}");
}

#[tokio::test]
async fn a_backend_sends_a_header_and_no_subprotocol_is_selected() {
    let gateway = gateway::memory(&[]).await;
    let jwt = token(json!({ "crews": ["abc"] }));
    let mut socket = connect_bearer(&gateway.ws("/ws/graph/abc?since=0"), &jwt).await;
    assert!(!socket.response.headers().contains_key("sec-websocket-protocol"));
    delivers(&gateway, &mut socket, "abc").await;
}

/// A token with this header, signed with `secret`.
fn with_header(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

/// Invalid tokens, each with a word that the reason for the refusal must contain.
fn bad_tokens() -> Vec<(&'static str, String, &'static str)> {
    let good = json!({ "sub": "u1", "org": "acme", "crews": ["abc"], "iat": now(), "exp": now() + 3600 });
    let unsigned = |alg: &str| {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(json!({ "alg": alg, "typ": "JWT" })), part(good.clone()))
    };
    let signed_as = |algorithm| {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), &good, &key).unwrap()
    };
    let mut tampered: Vec<String> = signed(&good, SECRET).split('.').map(str::to_owned).collect();
    let mut more = good.clone();
    more["crews"] = json!("*");
    tampered[1] = URL_SAFE_NO_PAD.encode(more.to_string());
    vec![
        ("no JWT at all", "rubbish".to_owned(), "not a JSON Web Token"),
        ("dots only", "a.b.c".to_owned(), "not a JSON Web Token"),
        ("two parts", signed(&good, SECRET).rsplit_once('.').unwrap().0.to_owned(), ""),
        ("another secret", signed(&good, "another secret, 32 bytes or more ......"), "signature"),
        ("changed claims", tampered.join("."), "signature"),
        ("expired", token(json!({ "exp": now() - 1 })), "expired"),
        ("expires now", token(json!({ "exp": now() })), "expired"),
        ("not yet valid", token(json!({ "nbf": now() + 600 })), "not valid yet"),
        ("no expiry", token(json!({ "exp": null })), "exp"),
        ("no sub", token(json!({ "sub": null })), "sub"),
        ("alg none", unsigned("none"), "algorithm"),
        ("alg None", unsigned("None"), "algorithm"),
        ("another HMAC", signed_as(Algorithm::HS512), "algorithm"),
        ("RS256 with the secret", with_header(&json!({ "alg": "RS256", "typ": "JWT" }), &good), "algorithm"),
        ("critical extension", with_header(&json!({ "alg": "HS256", "crit": ["x"] }), &good), "not a JSON Web Token"),
        ("an invalid org", token(json!({ "org": "a:b" })), "org"),
        ("for another audience", token(json!({ "aud": "somebody else" })), "audience"),
        ("crews of another form", token(json!({ "crews": { "abc": true } })), "crews"),
    ]
}

#[tokio::test]
async fn bad_tokens_complete_the_handshake_and_are_closed_with_4401() {
    let gateway = gateway::memory(&[]).await;
    for (what, jwt, word) in bad_tokens() {
        for path in ["/ws/graph/abc", "/ws/mission", "/ws/runs/r1"] {
            let mut socket = connect(&gateway.ws(path), Some(&jwt)).await;
            assert_eq!(socket.response.headers()["sec-websocket-protocol"], "token", "{what}");
            let (code, reason) = socket.closed().await;
            assert_eq!(code, 4401, "{what} at {path}: {reason}");
            assert!(reason.contains(word) && reason.len() >= 8, "{what}: {reason}");
            assert!(!jwt.split('.').any(|part| part.len() > 3 && reason.contains(part)), "{what}: {reason}");
        }
        let mut socket = connect_bearer(&gateway.ws("/ws/graph/abc"), &jwt).await;
        assert_eq!(socket.closed().await.0, 4401, "{what}");
        // Neither the log nor the metrics say more.
        let signature = jwt.rsplit('.').find(|part| part.len() > 8).map(str::to_owned);
        if let Some(signature) = signature {
            assert!(!gateway.log().join("\n").contains(&signature), "{what}");
        }
    }
    assert!(gateway.metric("crewcast_handshakes_refused_total", "reason=\"bad_signature\"").await >= 4.0);
}

#[tokio::test]
async fn issuer_and_audience_are_checked_against_the_configuration() {
    let settings = [("CREWCAST_AUTH__ISSUER", "https://id.example"), ("CREWCAST_AUTH__AUDIENCE", "crewcast")];
    let gateway = gateway::memory(&settings).await;
    let url = gateway.ws("/ws/graph/abc?since=0");
    let claims = |iss: &str, aud: &str| token(json!({ "crews": ["abc"], "iss": iss, "aud": [aud, "other"] }));
    let mut good = connect(&url, Some(&claims("https://id.example", "crewcast"))).await;
    assert!(good.is_quiet().await, "open");
    for (iss, aud, word) in [("https://evil.example", "crewcast", "issuer"), ("https://id.example", "x", "audience")] {
        let (code, reason) = connect(&url, Some(&claims(iss, aud))).await.closed().await;
        assert!(code == 4401 && reason.contains(word), "{code} {reason}");
    }
}

#[tokio::test]
async fn without_a_token_the_reason_says_how_to_send_one() {
    let gateway = gateway::memory(&[]).await;
    let mut bare = connect(&gateway.ws("/ws/graph/abc"), None).await;
    assert!(!bare.response.headers().contains_key("sec-websocket-protocol"));
    let (code, reason) = bare.closed().await;
    assert!(code == 4401 && reason.contains("Sec-WebSocket-Protocol") && reason.contains("Bearer"), "{reason}");
    // Only the name was offered. It must be selected, or a browser would drop the connection.
    let mut request = gateway.ws("/ws/graph/abc").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("token"));
    let mut alone = connect_with(request).await;
    assert_eq!(alone.response.headers()["sec-websocket-protocol"], "token");
    assert_eq!(alone.closed().await.0, 4401);
}

#[tokio::test]
async fn a_ticket_opens_one_socket() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let ticket = ticket(&gateway, &token(json!({ "crews": ["abc"] }))).await;
    let url = gateway.ws(&format!("/ws/graph/abc?since=0&ticket={ticket}"));
    let mut socket = connect(&url, None).await;
    delivers(&gateway, &mut socket, "abc").await;
    let (code, reason) = connect(&url, None).await.closed().await;
    assert!(code == 4401 && reason.contains("ticket") && !reason.contains(&ticket), "{code} {reason}");
    let log = gateway.log().join("\n");
    assert!(!log.contains(&ticket), "{log}");
}

#[tokio::test]
async fn a_ticket_used_many_times_at_once_opens_one_socket() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let both = token(json!({ "crews": ["abc"], "publish": ["graph:*"] }));
    publish(&gateway, &both, "graph:abc", json!({ "type": "x" })).await;
    let url = gateway.ws(&format!("/ws/graph/abc?since=0&ticket={}", ticket(&gateway, &both).await));
    let first = futures_util::future::join_all((0..10).map(|_| async {
        let mut socket = connect(&url, None).await;
        socket.inner.next().await.unwrap().unwrap()
    }));
    let (open, refused): (Vec<_>, Vec<_>) = first.await.into_iter().partition(Message::is_text);
    assert_eq!((open.len(), refused.len()), (1, 9), "{open:?} {refused:?}");
    assert!(refused.iter().all(|close| matches!(close, Message::Close(Some(frame)) if u16::from(frame.code) == 4401)));
}

#[tokio::test]
async fn tokens_in_the_query_work_only_when_configured() {
    let jwt = token(json!({ "crews": ["abc"] }));
    let off = gateway::memory(&[]).await;
    let on = gateway::memory(&[("CREWCAST_AUTH__QUERY_TOKEN", "true")]).await;
    for parameter in ["access_token", "token"] {
        let path = format!("/ws/graph/abc?since=0&{parameter}={jwt}");
        let (code, reason) = connect(&off.ws(&path), None).await.closed().await;
        assert!(code == 4401 && reason.contains("ticket"), "{code} {reason}");
        let mut socket = connect(&on.ws(&path), None).await;
        delivers(&on, &mut socket, "abc").await;
    }
    for gateway in [off, on] {
        let signature = jwt.rsplit('.').next().unwrap();
        assert!(!gateway.log().join("\n").contains(signature));
    }
}

#[tokio::test]
async fn anonymous_sockets_read_what_the_table_says_and_public_runs_are_public() {
    let settings =
        [("CREWCAST_AUTH__ANONYMOUS", r#"{"org":"acme","crews":["abc"]}"#), ("CREWCAST_AUTH__PUBLIC_RUNS", "true")];
    let gateway = gateway::memory(&settings).await;
    let mut socket = connect(&gateway.ws("/ws/graph/abc?since=0"), None).await;
    delivers(&gateway, &mut socket, "abc").await;
    assert_eq!(connect(&gateway.ws("/ws/graph/xyz"), None).await.closed().await.0, 4403);
    // An invalid token is not treated as no token.
    assert_eq!(connect(&gateway.ws("/ws/graph/abc"), Some("rubbish")).await.closed().await.0, 4401);
    let publisher = token(json!({ "publish": ["run:*"] }));
    publish(&gateway, &publisher, "run:r1", json!({ "type": "done" })).await;
    let mut run = connect(&gateway.ws("/ws/runs/r1"), None).await;
    assert_eq!(run.event().await["type"], "done");
    assert_eq!(run.closed().await, (1000, "run completed".to_owned()));
}

#[tokio::test]
async fn the_crews_of_another_org_are_refused() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let theirs = token(json!({ "sub": "p", "org": "globex", "publish": ["graph:*"] }));
    let body = json!({ "kind": "crew", "id": "secret" });
    assert_eq!(post(&gateway, "/api/v1/directory", &theirs, body).await.status(), 200);
    let ours = token(json!({ "crews": ["secret", "abc"] }));
    let (code, reason) = connect(&gateway.ws("/ws/graph/secret"), Some(&ours)).await.closed().await;
    assert_eq!(code, 4403, "{reason}");
    let own = token(json!({ "org": "globex", "crews": ["secret"] }));
    let mut socket = connect(&gateway.ws("/ws/graph/secret"), Some(&own)).await;
    assert!(socket.is_quiet().await);
}
