//! Several channels on one connection.

use crewcast_events::{Channel, EventId};
use tokio_tungstenite::tungstenite::Message;

use super::{
    chain,
    fake::{FakeGateway, Peer, next},
};
use crate::{ClientError, Delivery, Start};

fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

fn envelope(channel: &str, id: EventId) -> String {
    format!(r#"{{"type":"event","channel":"{channel}","id":"{id}","event":{{"type":"x"}}}}"#)
}

/// The client's next request, as channel and `since`.
async fn requested(peer: &mut Peer) -> (String, Option<String>) {
    let Some(Message::Text(text)) = peer.receive().await else { panic!() };
    let message: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(message["action"], "subscribe");
    (message["channel"].as_str().unwrap().to_owned(), message["since"].as_str().map(str::to_owned))
}

#[tokio::test(start_paused = true)]
async fn each_channel_resumes_after_its_own_position() {
    let (a, b) = (chain(3), chain(2));
    let mut fake = FakeGateway::new();
    let starts = [(channel("graph:a"), Start::Default), (channel("run:b"), Start::Beginning)];
    let mut stream = fake.client().stream(starts).connect();
    let mut peer = fake.accept().await;
    assert_eq!(peer.uri, "/ws/stream");
    assert!(matches!(next(&mut stream).await, Delivery::Connected { resumed: false }));
    assert_eq!(requested(&mut peer).await, ("graph:a".to_owned(), None));
    assert_eq!(requested(&mut peer).await, ("run:b".to_owned(), Some("0".to_owned())));
    peer.send(format!(r#"{{"type":"subscribed","channel":"graph:a","position":{{"graph:a":"{}"}}}}"#, a[0])).await;
    peer.send(r#"{"type":"subscribed","channel":"run:b","since":"0","position":{"run:b":null}}"#).await;
    for (name, id) in [("graph:a", a[1]), ("run:b", b[0]), ("graph:a", a[1])] {
        peer.send(envelope(name, id)).await;
    }
    for (name, id) in [("graph:a", a[1]), ("run:b", b[0])] {
        let Delivery::Event { channel: of, event } = next(&mut stream).await else { panic!() };
        assert_eq!((of, event.id()), (Some(channel(name)), Some(id)));
    }
    assert_eq!(stream.positions().values().copied().collect::<Vec<_>>(), [a[1], b[0]]);
    assert_eq!(stream.last_id(), None);
    peer.close(1012, "going away").await;
    assert!(matches!(next(&mut stream).await, Delivery::Disconnected { .. }));
    let mut peer = fake.accept().await;
    assert!(matches!(next(&mut stream).await, Delivery::Connected { resumed: true }));
    assert_eq!(requested(&mut peer).await, ("graph:a".to_owned(), Some(a[1].to_string())));
    assert_eq!(requested(&mut peer).await, ("run:b".to_owned(), Some(b[0].to_string())));
    for (name, id) in [("graph:a", a[1]), ("graph:a", a[2])] {
        peer.send(envelope(name, id)).await;
    }
    let Delivery::Event { event, .. } = next(&mut stream).await else { panic!() };
    assert_eq!(event.id(), Some(a[2]), "each event once");
}

#[tokio::test(start_paused = true)]
async fn a_channel_without_events_resumes_where_it_was_subscribed() {
    let a = chain(1);
    let mut fake = FakeGateway::new();
    let starts = ["graph:a", "graph:new"].map(|name| (channel(name), Start::Default));
    let mut stream = fake.client().stream(starts).connect();
    let mut peer = fake.accept().await;
    next(&mut stream).await;
    peer.send(format!(r#"{{"type":"subscribed","channel":"graph:a","position":{{"graph:a":"{}"}}}}"#, a[0])).await;
    peer.send(r#"{"type":"subscribed","channel":"graph:new","position":{"graph:new":null},"pending":["graph:new"]}"#)
        .await;
    assert!(matches!(next(&mut stream).await, Delivery::Waiting { channel: of } if of == channel("graph:new")));
    peer.close(1012, "going away").await;
    assert!(matches!(next(&mut stream).await, Delivery::Disconnected { .. }));
    let mut peer = fake.accept().await;
    assert_eq!(requested(&mut peer).await, ("graph:a".to_owned(), Some(a[0].to_string())));
    assert_eq!(requested(&mut peer).await, ("graph:new".to_owned(), Some("0".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn refused_channels_are_reported_and_the_last_one_ends_the_subscription() {
    let mut fake = FakeGateway::new();
    let starts = ["graph:a", "graph:b"].map(|name| (channel(name), Start::Default));
    let mut stream = fake.client().stream(starts).connect();
    let mut peer = fake.accept().await;
    next(&mut stream).await;
    let refuse = |name: &str| {
        format!(
            r#"{{"type":"error","source":"gateway","code":"forbidden","message":"ask",
                "channel":"{name}","ref":"{name}"}}"#
        )
    };
    peer.send(refuse("graph:a")).await;
    let Delivery::Refused { channel: of, code, reason } = next(&mut stream).await else { panic!() };
    assert_eq!((of, &*code, &*reason), (channel("graph:a"), "forbidden", "ask"));
    peer.send(envelope("graph:b", chain(1)[0])).await;
    assert!(matches!(next(&mut stream).await, Delivery::Event { .. }), "the other channel goes on");
    peer.send(refuse("graph:b")).await;
    assert!(matches!(next(&mut stream).await, Delivery::Refused { .. }));
    assert!(matches!(stream.next().await, Some(Err(ClientError::Forbidden { .. }))));
    assert!(stream.next().await.is_none());
}
