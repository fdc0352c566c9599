//! Delivery: order, completeness, byte identity, many channels.

use bytes::Bytes;
use crewcast_events::{Channel, EventId};

use super::{Subject, append, channel};

pub(in crate::broker) async fn delivers_in_order_after_subscribe(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let run = channel("run:r1");
    broker.publish_live(&run, Bytes::from_static(br#"{"type":"early"}"#)).await.unwrap();
    broker.subscribe(std::slice::from_ref(&run)).await.unwrap();
    let mut ids = Vec::new();
    for batch in (0..200u32).collect::<Vec<_>>().chunks(7) {
        ids.extend(append(&**broker, &run, batch).await);
        broker.publish_live(&channel("run:other"), Bytes::from_static(br#"{"type":"x"}"#)).await.unwrap();
    }
    let messages = sink.messages("run:r1", 200).await;
    assert_eq!(messages.iter().filter_map(|m| EventId::of_message(m)).collect::<Vec<_>>(), ids);
    broker.barrier().await.unwrap();
    assert_eq!(sink.count(), 200, "neither early messages nor another channel's");
}

pub(in crate::broker) async fn delivers_nothing_after_unsubscribe(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let (run, other) = (channel("run:r1"), channel("run:other"));
    broker.subscribe(&[run.clone(), other.clone()]).await.unwrap();
    append(&**broker, &run, &[1]).await;
    sink.messages("run:r1", 1).await;
    broker.unsubscribe(std::slice::from_ref(&run)).await.unwrap();
    append(&**broker, &run, &[2]).await;
    append(&**broker, &other, &[3]).await;
    sink.messages("run:other", 1).await;
    assert_eq!(sink.of("run:r1").len(), 1);
    broker.unsubscribe(std::slice::from_ref(&run)).await.unwrap();
}

/// Many tasks unsubscribe and subscribe the same channels at once: the last subscriber receives the messages.
pub(in crate::broker) async fn the_last_subscribe_wins_in_any_order(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let channels: Vec<Channel> = (0..50).map(|n| channel(&format!("graph:c{n}"))).collect();
    for _ in 0..20 {
        let churn = (0..8).map(|_| {
            let (broker, channels) = (broker.clone(), channels.clone());
            tokio::spawn(async move {
                broker.unsubscribe(&channels).await.unwrap();
                broker.subscribe(&channels).await.unwrap();
                broker.unsubscribe(&channels).await.unwrap();
            })
        });
        for task in churn.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let (first, second) = tokio::join!(broker.unsubscribe(&channels), broker.subscribe(&channels));
        first.and(second).unwrap();
        sink.clear();
        for channel in &channels {
            broker.publish_live(channel, Bytes::from_static(br#"{"type":"x"}"#)).await.unwrap();
        }
        sink.until("one message of each", |sink| sink.count() == channels.len()).await;
    }
}

pub(in crate::broker) async fn keeps_every_byte(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let run = channel("run:bytes");
    broker.subscribe(std::slice::from_ref(&run)).await.unwrap();
    let payloads = [
        &b"{ \"type\" : \"x\",\t\"n\":1.50, \"e\":1E+2 }"[..],
        "{\"type\":\"x\",\"s\":\"\\u00e9 é 🚀 \\ud83d\\ude80 \\/\"}".as_bytes(),
        b"{\"b\":1,\"a\":2,\"type\":\"x\",\"b\":3}\r\n",
        b"no event at all \x00\xff\xfe \r\n+OK\r\n",
        b"",
    ];
    for payload in payloads {
        broker.publish_live(&run, Bytes::copy_from_slice(payload)).await.unwrap();
    }
    assert_eq!(sink.messages("run:bytes", payloads.len()).await, payloads);
}

pub(in crate::broker) async fn barrier_waits_for_what_was_published(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let run = channel("run:barrier");
    broker.subscribe(std::slice::from_ref(&run)).await.unwrap();
    for round in 1..=50u32 {
        append(&**broker, &run, &[round, round, round]).await;
        broker.barrier().await.unwrap();
        assert_eq!(sink.count(), 3 * round as usize);
    }
}

pub(in crate::broker) async fn carries_a_mebibyte(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let run = channel("run:large");
    broker.subscribe(std::slice::from_ref(&run)).await.unwrap();
    let payload = Bytes::from(format!(r#"{{"type":"x","data":"{}"}}"#, "é".repeat(1 << 19)));
    assert!(payload.len() > 1 << 20);
    broker.publish_live(&run, payload.clone()).await.unwrap();
    assert_eq!(sink.messages("run:large", 1).await, [payload]);
}

pub(in crate::broker) async fn subscribes_ten_thousand_channels(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let channels: Vec<Channel> = (0..10_000).map(|n| channel(&format!("graph:many-{n}"))).collect();
    broker.subscribe(&channels).await.unwrap();
    for n in [0, 999, 1000, 5000, 9999] {
        broker.publish_live(&channels[n], Bytes::from_static(br#"{"type":"x"}"#)).await.unwrap();
        sink.messages(channels[n].as_str(), 1).await;
    }
    broker.unsubscribe(&channels[1..]).await.unwrap();
    for n in [0, 1, 999, 1000, 9999] {
        broker.publish_live(&channels[n], Bytes::from_static(br#"{"type":"x"}"#)).await.unwrap();
    }
    broker.barrier().await.unwrap();
    assert_eq!(sink.count(), 6, "the second round reaches only the first channel");
}

pub(in crate::broker) async fn probe_comes_back(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let probes = (0..20).map(|_| broker.probe());
    for roundtrip in futures_util::future::join_all(probes).await {
        assert!(roundtrip.unwrap() < super::DEADLINE);
    }
    assert_eq!((sink.count(), sink.controls().len()), (0, 0), "a probe is delivered to no one else");
}
