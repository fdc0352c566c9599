//! Close code 4429: too many connections or messages.

use serde_json::json;
use tokio_tungstenite::tungstenite::{client::IntoClientRequest, http::HeaderValue};

use crate::support::{
    eventually,
    gateway::{self, Gateway},
    socket::{Socket, connect, connect_with},
    token::token,
};

async fn graph(gateway: &Gateway) -> Socket {
    connect(&gateway.ws("/ws/graph/abc"), Some(&token(json!({ "crews": ["abc"] })))).await
}

#[tokio::test]
async fn too_many_connections_of_a_user_close_with_4429() {
    let gateway = gateway::memory(&[("CREWCAST_LIMITS__PER_USER", "2")]).await;
    let first = graph(&gateway).await;
    let _second = graph(&gateway).await;
    let (code, reason) = graph(&gateway).await.closed().await;
    assert!(code == 4429 && reason.contains("user"), "{code} {reason}");
    let other = token(json!({ "sub": "u2", "crews": ["abc"] }));
    assert!(
        connect(&gateway.ws("/ws/graph/abc"), Some(&other)).await.is_quiet().await,
        "another user has a bound of their own"
    );
    drop(first);
    eventually("the permit is free again", || async { graph(&gateway).await.is_quiet().await }).await;
}

#[tokio::test]
async fn too_many_connections_from_an_address_close_with_4429() {
    let settings = [("CREWCAST_LIMITS__PER_ADDRESS", "1"), ("CREWCAST_TRUSTED_PROXIES", "127.0.0.1")];
    let gateway = gateway::memory(&settings).await;
    let from = |address: &'static str| {
        let mut request = gateway.ws("/ws/graph/abc").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("x-forwarded-for", HeaderValue::from_static(address));
        headers.insert("authorization", format!("Bearer {}", token(json!({ "crews": ["abc"] }))).parse().unwrap());
        connect_with(request)
    };
    let mut first = from("192.0.2.1").await;
    assert!(first.is_quiet().await);
    let (code, reason) = from("192.0.2.1").await.closed().await;
    assert!(code == 4429 && reason.contains("address"), "{code} {reason}");
    // An address that the client itself puts before the proxy's is ignored.
    assert_eq!(from("198.51.100.7, 192.0.2.1").await.closed().await.0, 4429);
    assert!(from("192.0.2.2").await.is_quiet().await, "another address");
}

#[tokio::test]
async fn a_full_replica_closes_with_4429() {
    let gateway = gateway::memory(&[("CREWCAST_LIMITS__CONNECTIONS", "2")]).await;
    let _open = [graph(&gateway).await, graph(&gateway).await];
    let (code, reason) = graph(&gateway).await.closed().await;
    assert!(code == 4429 && reason.contains("replica"), "{code} {reason}");
    assert!(gateway.metric("crewcast_handshakes_refused_total", "limit_replica").await >= 1.0);
}

#[tokio::test]
async fn too_many_messages_in_a_minute_close_with_4429() {
    let gateway = gateway::memory(&[("CREWCAST_LIMITS__MESSAGES_PER_MINUTE", "20")]).await;
    let mut socket = graph(&gateway).await;
    for _ in 0..20 {
        socket.send(r#"{"type":"pong"}"#).await;
    }
    assert!(socket.is_quiet().await, "twenty messages are allowed");
    socket.send(r#"{"type":"pong"}"#).await;
    let (code, reason) = socket.closed().await;
    assert!(code == 4429 && reason.contains("messages"), "{code} {reason}");
}
