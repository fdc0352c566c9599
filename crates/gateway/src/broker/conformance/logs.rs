//! Appending: ids, log, head, retained value, repetitions.

use std::sync::Arc;

use bytes::Bytes;
use crewcast_events::EventId;
use crewcast_store::{Append, AppendError, Once};

use super::{Subject, append, append_once, channel, entry, eventually};
use crate::broker::captured::LAST_EVENTS;

pub(in crate::broker) async fn an_append_is_seen_whole(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let mission = channel("mission:abc");
    broker.subscribe(std::slice::from_ref(&mission)).await.unwrap();
    let mut previous = None;
    for round in 0..20u32 {
        let ids = append(&**broker, &mission, &[round, round + 100]).await;
        for id in &ids {
            assert!(id.continues(previous), "{id} behind {previous:?}");
            previous = Some(*id);
        }
        let snapshot = broker.snapshots(std::slice::from_ref(&mission)).await.unwrap().remove(0);
        let page = broker.history(&mission, 0, 1000).await.unwrap();
        let last = format!(r#"{{"id":"{}","type":"n","n":{}}}"#, ids[1], round + 100);
        assert_eq!((snapshot.head, page.head), (previous, previous));
        assert_eq!(page.entries.last().unwrap(), &last);
        assert_eq!(snapshot.retained.unwrap(), last);
        assert_eq!(sink.messages("mission:abc", page.entries.len()).await, page.entries);
    }
}

pub(in crate::broker) async fn refuses_invalid_appends(subject: Subject) {
    let Subject { broker, .. } = &subject;
    let run = channel("run:r1");
    let many = vec![entry(r#"{"type":"x"}"#); crewcast_store::MAX_ENTRIES + 1];
    for entries in [Vec::new(), many] {
        let append = Append { channel: run.clone(), entries, once: Once::No };
        let refused = broker.append(&append).await.unwrap_err();
        assert!(matches!(refused, AppendError::Refused(_)), "{refused:?}");
    }
    let page = broker.history(&run, 0, 10).await.unwrap();
    assert_eq!((page.head, page.entries.len()), (None, 0), "a refused append changes nothing");
    for name in ["live:only", "unknown:ns"] {
        let append = Append { channel: channel(name), entries: vec![entry(r#"{"type":"x"}"#)], once: Once::No };
        let refused = broker.append(&append).await.unwrap_err();
        assert!(matches!(refused, AppendError::Refused(_)), "{refused:?}");
    }
    broker.publish_live(&channel("live:only"), Bytes::from_static(br#"{"type":"x"}"#)).await.unwrap();
    let refused = broker.publish_live(&channel("unknown:ns"), Bytes::new()).await.unwrap_err();
    assert!(matches!(refused, AppendError::Refused(_)), "{refused:?}");
}

fn numbered(producer: &str, first: u64, bodies: &[&str]) -> Append {
    let once = Once::Sequence { producer: Arc::from(producer), first };
    Append { channel: channel("run:seq"), entries: bodies.iter().map(|body| entry(body)).collect(), once }
}

pub(in crate::broker) async fn a_producer_is_accepted_in_sequence_only(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    broker.subscribe(&[channel("run:seq")]).await.unwrap();
    let gap = |expected| AppendError::Gap { expected };
    let (a, b, c) = (r#"{"type":"a"}"#, r#"{"type":"b"}"#, r#"{"type":"c"}"#);
    assert_eq!(broker.append(&numbered("p", 2, &[b])).await.unwrap_err(), gap(1));
    let first = broker.append(&numbered("p", 1, &[a, b])).await.unwrap();
    assert_eq!(broker.append(&numbered("p", 1, &[a, b])).await.unwrap(), first, "a repeat returns the same ids");
    assert_eq!(broker.append(&numbered("p", 4, &[c])).await.unwrap_err(), gap(3));
    let longer = broker.append(&numbered("p", 2, &[b, c])).await.unwrap();
    assert_eq!(longer[0], first[1], "what was accepted is not appended again");
    assert!(longer[1].unwrap().continues(first[1]));
    let other = broker.append(&numbered("q", 1, &[a])).await.unwrap();
    assert!(other[0].unwrap().continues(longer[1]), "producers number on their own");
    let types = sink.messages("run:seq", 4).await;
    let page = broker.history(&channel("run:seq"), 0, 10).await.unwrap();
    assert_eq!(page.entries, types);
    assert_eq!(types.len(), 4);
}

pub(in crate::broker) async fn an_idempotency_key_returns_the_same_id(subject: Subject) {
    let Subject { broker, .. } = &subject;
    let once = |sub: &str, key: &str| Once::Key { sub: sub.to_owned(), key: key.to_owned() };
    let run = channel("run:r1");
    let one = || vec![entry(r#"{"type":"a"}"#)];
    let id = append_once(&**broker, &run, one(), once("u1", "k")).await;
    assert_eq!(append_once(&**broker, &run, one(), once("u1", "k")).await, id);
    assert_ne!(append_once(&**broker, &run, one(), once("u2", "k")).await, id, "another sub");
    assert_ne!(append_once(&**broker, &run, one(), once("u1", "l")).await, id, "another key");
    let elsewhere = append_once(&**broker, &channel("run:r2"), one(), once("u1", "k")).await;
    assert_eq!(elsewhere[0].offset(), 1, "another channel");
    assert_eq!(broker.history(&run, 0, 10).await.unwrap().entries.len(), 3);
    let racing = (0..20).map(|_| append_once(&**broker, &run, one(), once("u1", "race")));
    let ids = futures_util::future::join_all(racing).await;
    assert!(ids.iter().all(|id| *id == ids[0]));
}

pub(in crate::broker) async fn the_log_keeps_its_length(subject: Subject) {
    let Subject { broker, .. } = &subject;
    let short = channel("short:s");
    let ids = append(&**broker, &short, &[1, 2, 3, 4, 5, 6, 7]).await;
    let page = broker.history(&short, 0, 100).await.unwrap();
    let held: Vec<_> = page.entries.iter().filter_map(|entry| EventId::of_message(entry)).collect();
    assert_eq!(held, ids[2..]);
}

pub(in crate::broker) async fn snapshots_show_head_and_retained(subject: Subject) {
    let Subject { broker, .. } = &subject;
    let channels: Vec<_> = (0..2500).map(|n| channel(&format!("mission:s{n}"))).collect();
    let id = append(&**broker, &channels[1700], &[1]).await[0];
    let run = channel("run:unretained");
    let run_id = append(&**broker, &run, &[1]).await[0];
    let snapshots = broker.snapshots(&channels).await.unwrap();
    assert_eq!(snapshots.len(), 2500);
    for (n, snapshot) in snapshots.iter().enumerate() {
        let expected = (n == 1700).then_some(id);
        assert_eq!(snapshot.head, expected, "{n}");
        assert_eq!(snapshot.retained.as_ref().and_then(|event| EventId::of_message(event)), expected);
    }
    let snapshot = broker.snapshots(&[run]).await.unwrap().remove(0);
    assert_eq!((snapshot.head, snapshot.retained), (Some(run_id), None));
    assert!(broker.snapshots(&[]).await.unwrap().is_empty());
}

pub(in crate::broker) async fn live_messages_are_captured(subject: Subject) {
    let Subject { broker, .. } = &subject;
    let mission = channel("mission:abc");
    let retained = async || broker.snapshots(std::slice::from_ref(&mission)).await.unwrap().remove(0).retained;
    let live = |n: u32| Bytes::from(format!(r#"{{"type":"signal","n":{n}}}"#));
    broker.publish_live(&mission, live(1)).await.unwrap();
    eventually("the live message is retained", async || retained().await == Some(live(1))).await;
    broker.publish_live(&mission, live(2)).await.unwrap();
    broker.publish_live(&mission, Bytes::from_static(b"junk")).await.unwrap();
    broker.publish_live(&mission, Bytes::from_static(br#"{"no":"type"}"#)).await.unwrap();
    broker.publish_live(&channel("run:r1"), live(3)).await.unwrap();
    eventually("the next live message is retained", async || retained().await == Some(live(2))).await;
    let mut last = None;
    for n in 10..60 {
        broker.publish_live(&mission, live(n)).await.unwrap();
        last = append(&**broker, &mission, &[n]).await.pop();
    }
    let is_last = |event: &Bytes| EventId::of_message(event) == last;
    eventually("the last published message is retained", async || retained().await.is_some_and(|r| is_last(&r))).await;
    broker.publish_live(&mission, live(99)).await.unwrap();
    eventually("a live message after a logged one is retained", async || retained().await == Some(live(99))).await;
    let page = broker.history(&mission, 0, 100).await.unwrap();
    assert_eq!((page.entries.len(), page.head), (50, last), "live messages do not change the log");
}

pub(in crate::broker) async fn live_events_leave_documents_and_last_messages(subject: Subject) {
    let Subject { broker, .. } = &subject;
    let publish = async |name: &str, text: &'static str| {
        broker.publish_live(&channel(name), Bytes::from_static(text.as_bytes())).await.unwrap();
    };
    let document = async |name: &str, key: &str| {
        let state = broker.state(&channel(name), None).await.unwrap();
        let found = state.documents.into_iter().find(|(known, _)| known == key);
        found.map(|(_, document)| String::from_utf8(document.to_vec()).unwrap())
    };
    let has = async |name: &str, key: &str, expected: Option<&str>| {
        eventually("the document", async || document(name, key).await.as_deref() == expected).await;
    };
    publish("agents:acme", r#"{"type":"agent_created","data":{"agent_id":"a1","name":"R","status":"idle"}}"#).await;
    has("agents:acme", "a1", Some(r#"{"agent_id":"a1","name":"R","status":"idle"}"#)).await;
    publish("agents:acme", r#"{"type":"status_changed","data":{"agent_id":"a1","new_status":"busy"}}"#).await;
    has("agents:acme", "a1", Some(r#"{"agent_id":"a1","name":"R","status":"busy"}"#)).await;
    let events = broker.live(&channel("agents:acme"), LAST_EVENTS).await.unwrap().lines;
    assert_eq!(events.len(), 2);
    publish("agents:acme", r#"{"type":"agent_deleted","data":{"agent_id":"a1"}}"#).await;
    has("agents:acme", "a1", None).await;
    publish("metrics:acme", r#"{"type":"gpu_metrics","data":{"load":0.50}}"#).await;
    has("metrics:acme", "gpu", Some(r#"{"load":0.50}"#)).await;
    for _ in 0..2 {
        publish("knowledge:acme", r#"{"type":"node_added","data":{"node_id":"n1"}}"#).await;
        publish("knowledge:acme", r#"{"type":"edge_added","data":{"source":"n1","target":"n2"}}"#).await;
    }
    has("knowledge:acme", "counts", Some(r#"{"nodes":1,"edges":1}"#)).await;
    publish("session:s1", r#"{"type":"session_state","state":{"n":1.50}}"#).await;
    has("session:s1", "state", Some(r#"{"n":1.50}"#)).await;
    let list = r#"{"type":"active_sessions","data":{"sessions":[]}}"#;
    publish("tracking:acme", list).await;
    publish("tracking:acme", r#"{"type":"session_logs","session_id":"s1","logs":[{"n":1}]}"#).await;
    eventually("the last messages", async || {
        let last = broker.live(&channel("tracking:acme"), "active_sessions").await.unwrap().last;
        let lines = broker.live(&channel("tracking:acme"), "session:s1").await.unwrap().lines;
        last.as_deref() == Some(list.as_bytes()) && lines.len() == 1
    })
    .await;
}
