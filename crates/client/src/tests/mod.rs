//! Subscriptions against a scripted gateway.

mod fake;
mod reconnect;
mod stream;
mod tokens;

use std::time::Duration;

use crewcast_events::EventId;
use fake::{FakeGateway, end, event, next};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::{ClientError, Delivery, Start};

/// The ids of one channel.
pub(super) fn chain(n: usize) -> Vec<EventId> {
    let mut ids: Vec<EventId> = Vec::new();
    for i in 0..n {
        ids.push(EventId::after(ids.last().copied(), format!("{i:06}").as_bytes().try_into().unwrap()));
    }
    ids
}

pub(super) fn logged(id: EventId) -> String {
    format!(r#"{{"id":"{id}","type":"tool_start","n":1.50}}"#)
}

#[tokio::test(start_paused = true)]
async fn events_arrive_as_they_were_sent() {
    let mut fake = FakeGateway::new();
    let mut run = fake.client().run("r1").types(["a", "b"]).connect();
    let mut peer = fake.accept().await;
    assert_eq!(peer.uri, "/ws/runs/r1?types=a%2Cb");
    assert_eq!(peer.protocol.as_deref(), Some("token, jwt"));
    assert!(matches!(next(&mut run).await, Delivery::Connected { resumed: true }));
    let text = r#"{ "type":"x",  "n":1.50 }"#;
    peer.send(text).await;
    let Delivery::Event { channel, event } = next(&mut run).await else { panic!() };
    assert_eq!((channel.unwrap().as_str(), event.text(), event.id()), ("run:r1", text, None));
    assert_eq!(run.last_id(), None);
    peer.close(1000, "run completed").await;
    assert_eq!(end(&mut run).await, Ok("run completed".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn control_messages_are_told_from_events() {
    let mut fake = FakeGateway::new();
    let mut graph = fake.client().graph("abc").connect();
    let mut peer = fake.accept().await;
    assert!(matches!(next(&mut graph).await, Delivery::Connected { resumed: false }));
    peer.send(r#"{"type":"reset","reason":"mine"}"#).await;
    assert_eq!(event(&mut graph).await, r#"{"type":"reset","reason":"mine"}"#);
    peer.send(r#"{"type":"ping","source":"gateway","timestamp":"t"}"#).await;
    peer.send(r#"{"type":"reset","source":"gateway","channel":"graph:abc","reason":"trimmed","from":null}"#).await;
    let Delivery::Reset { channel, reason, from: None } = next(&mut graph).await else { panic!() };
    assert_eq!((channel.unwrap().as_str(), &*reason), ("graph:abc", "trimmed"));
    peer.send(r#"{"type":"gap","source":"gateway","channel":"graph:abc","missed":7}"#).await;
    assert!(matches!(next(&mut graph).await, Delivery::Gap { missed: Some(7), .. }));
    peer.send(r#"{"type":"broker","source":"gateway","up":false}"#).await;
    assert!(matches!(next(&mut graph).await, Delivery::Notice { message } if message.kind() == "broker"));
}

#[tokio::test(start_paused = true)]
async fn invalid_messages_are_ignored() {
    let mut fake = FakeGateway::new();
    let mut graph = fake.client().graph("abc").connect();
    let mut peer = fake.accept().await;
    peer.send("hello").await;
    peer.socket.send_binary().await;
    peer.send(r#"{"type":"x"}"#).await;
    assert_eq!(event(&mut graph).await, r#"{"type":"x"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered() {
    let mut fake = FakeGateway::new();
    let _graph = fake.client().graph("abc").connect();
    let mut peer = fake.accept().await;
    peer.socket.send_ping().await;
    assert!(matches!(peer.receive().await, Some(Message::Pong(_))));
}

#[tokio::test(start_paused = true)]
async fn many_crews_over_one_socket_are_live_and_never_deduplicated() {
    let mut fake = FakeGateway::new();
    let id = chain(1)[0];
    let mut graphs = fake.client().graphs().since(id).connect();
    let mut peer = fake.accept().await;
    assert_eq!(peer.uri, "/ws/graph");
    assert!(matches!(next(&mut graphs).await, Delivery::Connected { resumed: false }));
    for crew in ["a", "b"] {
        let text = format!(r#"{{"id":"{id}","type":"x","crew_id":"{crew}"}}"#);
        peer.send(&text).await;
        let Delivery::Event { channel, event } = next(&mut graphs).await else { panic!() };
        assert_eq!((channel.unwrap().id(), event.text()), (crew, &*text));
    }
    drop(peer);
    assert_eq!(fake.accept().await.uri, "/ws/graph");
    assert_eq!(graphs.last_id().map(|id| id.offset()), Some(1), "stays at the caller's id");
}

#[tokio::test(start_paused = true)]
async fn an_invalid_id_never_reaches_the_gateway() {
    let fake = FakeGateway::new();
    let mut run = fake.client().run("../admin").connect();
    assert!(matches!(end(&mut run).await, Err(ClientError::Channel(_))));
    assert!(fake.attempts.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_causes_backpressure_and_loses_nothing() {
    let mut fake = FakeGateway::new();
    let mut graph = fake.client().graph("abc").connect();
    let mut peer = fake.accept().await;
    let ids = chain(2 * crate::subscription::QUEUE_CAPACITY);
    let mut sent = 0;
    // Fills the queue of deliveries and the buffers of the connection.
    while let Ok(()) = timeout(Duration::from_secs(1), peer.send(logged(ids[sent]))).await {
        sent += 1;
    }
    assert!((crate::subscription::QUEUE_CAPACITY..ids.len()).contains(&sent), "{sent} of {}", ids.len());
    let rest = tokio::spawn({
        let ids = ids.clone();
        async move {
            // The message whose send timed out is buffered; the next send flushes it.
            for &id in &ids[sent + 1..] {
                peer.send(logged(id)).await;
            }
            peer
        }
    });
    for &id in &ids {
        assert_eq!(event(&mut graph).await, logged(id));
    }
    assert_eq!(graph.last_id(), ids.last().copied());
    drop(rest);
}

#[tokio::test(start_paused = true)]
async fn closing_sends_code_1000() {
    let mut fake = FakeGateway::new();
    let mut graph = fake.client().graph("abc").connect();
    let mut peer = fake.accept().await;
    next(&mut graph).await;
    let received = tokio::spawn(async move { peer.receive().await });
    graph.close().await;
    let Some(Message::Close(Some(frame))) = received.await.unwrap() else { panic!() };
    assert_eq!(u16::from(frame.code), 1000);
}

#[tokio::test(start_paused = true)]
async fn dropping_closes_the_connection() {
    let mut fake = FakeGateway::new();
    let graph = fake.client().graph("abc").connect();
    let mut peer = fake.accept().await;
    drop(graph);
    assert_eq!(peer.receive().await, None);
}

#[tokio::test(start_paused = true)]
async fn the_caller_chooses_where_to_start() {
    let mut fake = FakeGateway::new();
    let id = chain(1)[0];
    for (start, uri) in [
        (Start::Default, "/ws/graph/a".to_owned()),
        (Start::Beginning, "/ws/graph/a?since=0".to_owned()),
        (Start::After(id), format!("/ws/graph/a?since={id}")),
    ] {
        let mut graph = fake.client().graph("a").since(start).connect();
        assert_eq!(fake.accept().await.uri, uri);
        let resumed = start != Start::Default;
        assert!(matches!(next(&mut graph).await, Delivery::Connected { resumed: r } if r == resumed));
    }
}

#[test]
fn debug_output_never_shows_a_token() {
    let builder = crate::Client::builder("http://gateway").token("hunter2");
    assert!(!format!("{builder:?}").contains("hunter2"));
    let client = builder.build().unwrap();
    assert!(!format!("{client:?} {:?}", client.run("r")).contains("hunter2"));
}

/// Sends frames other than text.
trait Raw {
    async fn send_binary(&mut self);
    async fn send_ping(&mut self);
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Raw for tokio_tungstenite::WebSocketStream<S> {
    async fn send_binary(&mut self) {
        futures_util::SinkExt::send(self, Message::binary(vec![1, 2])).await.unwrap();
    }
    async fn send_ping(&mut self) {
        futures_util::SinkExt::send(self, Message::Ping(Default::default())).await.unwrap();
    }
}
