//! The conformance suite, and what only a paused clock can show.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::namespace::HEAD_BEYOND_LOG;
use crewcast_store::{Append, AppendError, Once, State, Transport};
use tokio::time::{Instant, advance};

use super::MemoryBroker;
use crate::{
    broker::{
        Link, LogStore, PubSub,
        conformance::{self, Subject, TestSink, append, channel, entry},
    },
    registry::Tickets,
};

async fn make() -> Subject {
    let broker = Arc::new(MemoryBroker::new(conformance::namespaces()));
    let sink = Arc::new(TestSink::default());
    broker.start(sink.clone()).await.unwrap();
    assert_eq!(sink.links(), [Link::Up]);
    Subject { broker: broker.clone(), registry: broker, sink, _keep: Box::new(()) }
}

conformance::suite!(make);

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(start_paused = true)]
async fn the_head_outlives_the_log_by_thirty_days() {
    let broker = MemoryBroker::new(conformance::namespaces());
    let run = channel("run:r1");
    let id = append(&broker, &run, &[1]).await[0];
    advance(DAY).await;
    let page = broker.history(&run, 0, 10).await.unwrap();
    assert_eq!((page.head, page.first), (Some(id), None));
    advance(HEAD_BEYOND_LOG).await;
    assert_eq!(broker.history(&run, 0, 10).await.unwrap().head, None);
    assert_eq!(append(&broker, &run, &[1]).await[0].offset(), 1);
}

#[tokio::test(start_paused = true)]
async fn expired_logs_are_removed_without_a_read() {
    let broker = MemoryBroker::new(conformance::namespaces());
    for n in 0..100 {
        append(&broker, &channel(&format!("run:r{n}")), &[1]).await;
        broker.put_ticket(&n.to_string(), Bytes::new(), Duration::from_secs(60)).await.unwrap();
    }
    advance(2 * DAY + HEAD_BEYOND_LOG).await;
    append(&broker, &channel("run:last"), &[1]).await;
    let inner = broker.inner.lock();
    assert_eq!((inner.channels.len(), inner.registry.tickets()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_is_kept_a_day() {
    let broker = MemoryBroker::new(conformance::namespaces());
    let run = channel("run:r1");
    let once = || Once::Key { sub: "u".to_owned(), key: "k".to_owned() };
    let publish =
        async || conformance::append_once(&broker, &run, vec![entry(r#"{"type":"x"}"#)], once()).await[0].offset();
    assert_eq!(publish().await, 1);
    advance(DAY - Duration::from_secs(1)).await;
    assert_eq!(publish().await, 1);
    advance(Duration::from_secs(1)).await;
    assert_eq!(publish().await, 2);
}

#[tokio::test]
async fn a_repeat_older_than_the_kept_ids_is_accepted_without_an_id() {
    let broker = MemoryBroker::new(conformance::namespaces());
    let once = |first| Once::Sequence { producer: "p".into(), first };
    for first in 1..=200 {
        conformance::append_once(&broker, &channel("run:r1"), vec![entry(r#"{"type":"x"}"#)], once(first)).await;
    }
    let append =
        |first| Append { channel: channel("run:r1"), entries: vec![entry(r#"{"type":"x"}"#)], once: once(first) };
    assert_eq!(broker.append(&append(1)).await.unwrap(), [None]);
    assert_eq!(broker.append(&append(200)).await.unwrap()[0].unwrap().offset(), 200);
    assert_eq!(broker.append(&append(202)).await.unwrap_err(), AppendError::Gap { expected: 201 });
}

#[tokio::test]
async fn state_is_set_and_removed_with_its_event() {
    let broker = MemoryBroker::new(conformance::namespaces());
    let session = channel("session:s1");
    let mut event = entry(r#"{"type":"x"}"#);
    let document = serde_json::value::RawValue::from_string("{ \"n\": 1.50 }".to_owned()).unwrap();
    event.state = Some(State { key: "doc".to_owned(), value: Some(Arc::from(document)) });
    conformance::append_once(&broker, &session, vec![event.clone()], Once::No).await;
    let documents = async || broker.state(&session, None).await.unwrap().documents;
    assert_eq!(documents().await, [("doc".to_owned(), Bytes::from_static(b"{ \"n\": 1.50 }"))]);
    event.state = Some(State { key: "doc".to_owned(), value: None });
    conformance::append_once(&broker, &session, vec![event], Once::No).await;
    assert!(documents().await.is_empty());
}

/// Many publishers at once, one sink: it receives each channel in the order of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishers_on_many_threads_do_not_reorder() {
    let broker = Arc::new(MemoryBroker::new(conformance::namespaces()));
    let sink = Arc::new(TestSink::default());
    broker.start(sink.clone()).await.unwrap();
    let run = channel("run:r1");
    broker.subscribe(std::slice::from_ref(&run)).await.unwrap();
    let start = Instant::now();
    let publishers = (0..8).map(|_| {
        let (broker, run) = (broker.clone(), run.clone());
        tokio::spawn(async move {
            for n in 0..100 {
                append(&*broker, &run, &[n]).await;
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    assert!(start.elapsed() < conformance::DEADLINE);
    assert_eq!(sink.of("run:r1"), broker.history(&run, 0, 1000).await.unwrap().entries);
}
