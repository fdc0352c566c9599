//! Tokens that are refused, expire or are renewed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio_tungstenite::tungstenite::Message;

use super::fake::{FakeGateway, end, event, next};
use crate::{Client, ClientError, Cut, Delivery, TokenError, token::tests::jwt};

/// A client whose source numbers its tokens, and the number of tokens so far.
fn numbered(fake: &FakeGateway, ttl: Duration) -> (Client, Arc<AtomicU32>) {
    let given = Arc::new(AtomicU32::new(0));
    let count = given.clone();
    let client = fake.builder().token_source(move || {
        let n = count.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, TokenError>(jwt(ttl, n)) }
    });
    (client.build().unwrap(), given)
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once() {
    let mut fake = FakeGateway::new();
    let (client, given) = numbered(&fake, Duration::from_secs(3600));
    let mut graph = client.graph("abc").connect();
    let first = fake.accept().await;
    let refused = first.protocol.clone();
    first.close(4401, "revoked").await;
    let mut second = fake.accept().await;
    assert_ne!(second.protocol, refused);
    second.send(r#"{"type":"x"}"#).await;
    event(&mut graph).await;
    // The second token worked, so the next refusal gets another new token.
    second.close(4401, "token expired").await;
    fake.accept().await.close(4401, "revoked").await;
    assert_eq!(end(&mut graph).await, Err(ClientError::Unauthorized { reason: "revoked".to_owned() }));
    assert_eq!(given.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_over_the_open_socket() {
    let mut fake = FakeGateway::new();
    let (client, given) = numbered(&fake, Duration::from_secs(400));
    let _graph = client.graph("abc").connect();
    let mut peer = fake.accept().await;
    let mut received = Vec::new();
    let start = tokio::time::Instant::now();
    while received.len() < 2 {
        tokio::select! {
            frame = peer.receive() => match frame {
                Some(Message::Text(text)) => received.push((start.elapsed().as_secs(), text.to_string())),
                Some(_) => {}
                None => panic!("gone"),
            },
            () = tokio::time::sleep(Duration::from_secs(30)) => super::Raw::send_ping(&mut peer.socket).await,
        }
    }
    for (n, (at, text)) in received.iter().enumerate() {
        let message: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(message["action"], "auth");
        assert_ne!(format!("token, {}", message["token"].as_str().unwrap()), peer.protocol.clone().unwrap());
        let due = 340 * (n as u64 + 1);
        assert!((due - 4..=due + 4).contains(at), "{at}, expected {due}");
    }
    assert_eq!(given.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failing_source_is_reported_and_called_again() {
    let mut fake = FakeGateway::new();
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let client = fake.builder().token_source(move || {
        let n = count.fetch_add(1, Ordering::SeqCst);
        async move { if n < 3 { Err("the identity provider is down") } else { Ok("jwt".to_owned()) } }
    });
    let mut graph = client.build().unwrap().graph("abc").connect();
    for _ in 0..3 {
        let Delivery::Disconnected { cut, .. } = next(&mut graph).await else { panic!() };
        assert_eq!(cut, Cut::Token("the identity provider is down".to_owned()));
    }
    assert_eq!(fake.accept().await.protocol.as_deref(), Some("token, jwt"));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_no_header_can_carry_is_an_error_without_the_token() {
    let fake = FakeGateway::new();
    let mut graph = fake.builder().token("se\ncret").build().unwrap().graph("abc").connect();
    let error = end(&mut graph).await.unwrap_err();
    assert_eq!(error, ClientError::BadToken);
    assert!(!error.to_string().contains("cret"));
}

#[tokio::test(start_paused = true)]
async fn without_a_token_no_subprotocol_is_offered() {
    let mut fake = FakeGateway::new();
    let _run = fake.builder().build().unwrap().run("r1").connect();
    assert_eq!(fake.accept().await.protocol, None);
}
