//! The publisher: order, batches, retries, overflow, closing.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crewcast_events::{EventId, Keys, LogPolicy, Namespace, Namespaces};
use crewcast_publisher::{AppendError, Once, Publisher, Stats};
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{
    Fake, Meddling, RedisServer, TestRecorder, assert_chain, channel, eyes, log, transport, until, with_namespaces,
};

/// Logs long enough for the events of these tests.
fn roomy() -> Namespaces {
    let mut namespaces = Namespaces::default();
    for namespace in namespaces.0.values_mut() {
        namespace.log.length = 100_000;
    }
    namespaces
}

fn numbers(messages: &[String]) -> Vec<u64> {
    messages.iter().map(|message| serde_json::from_str::<Value>(message).unwrap()["n"].as_u64().unwrap()).collect()
}

async fn assert_whole(server: &RedisServer, name: &str, count: u64) {
    let messages = log(server, name).await;
    assert_eq!(numbers(&messages), (1..=count).collect::<Vec<_>>(), "{name}");
    assert_chain(&messages, None);
}

fn emit(publisher: &Publisher, name: &str, numbers: impl Iterator<Item = u64>) {
    for n in numbers {
        publisher.publish(name, &json!({"type": "x", "n": n})).unwrap();
    }
}

const CLOSE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn events_are_logged_in_order_and_many_with_one_script() {
    let server = RedisServer::start();
    let transport = Arc::new(Meddling::recording(with_namespaces(&server, roomy())));
    let publisher = Publisher::builder().with_transport(transport.clone());
    for n in 1..=1000 {
        for name in ["graph:a", "graph:b", "run:c"] {
            emit(&publisher, name, n..=n);
        }
    }
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    for name in ["graph:a", "graph:b", "run:c"] {
        assert_whole(&server, name, 1000).await;
    }
    let calls = transport.appends.lock().len();
    assert!(calls <= 3 * 10, "{calls} scripts for 3000 events that stood ready");
    assert_eq!(publisher.stats(), Stats { published: 3000, retried: 0, dropped: 0, ..Stats::default() });
}

#[tokio::test]
async fn a_lost_answer_duplicates_and_loses_nothing() {
    let server = RedisServer::start();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let random = Mutex::new(fastrand::Rng::with_seed(seed));
    let lost = move |_: &_| random.lock().bool().then(|| AppendError::Unavailable("lost".to_owned()));
    let transport = Arc::new(Meddling::recording(with_namespaces(&server, roomy())).after(lost));
    let publisher = Publisher::builder().with_transport(transport.clone());
    for n in 1..=400 {
        emit(&publisher, "graph:a", n..=n);
        emit(&publisher, "graph:b", n..=n);
        if n % 40 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    assert_whole(&server, "graph:a", 400).await;
    assert_whole(&server, "graph:b", 400).await;
    // A retry is identical, including numbers and random halves.
    let appends = transport.appends.lock();
    assert!(appends.len() as u64 > publisher.stats().retried && publisher.stats().retried > 0);
    for append in appends.iter() {
        let Once::Sequence { first, .. } = &append.once else { panic!("numbered") };
        for other in appends.iter().filter(|other| other.channel == append.channel) {
            let Once::Sequence { first: of_other, .. } = &other.once else { panic!("numbered") };
            if first == of_other {
                let halves = |append: &crewcast_publisher::Append| {
                    append.entries.iter().map(|entry| entry.random).collect::<Vec<_>>()
                };
                assert_eq!(halves(append), halves(other));
            }
        }
    }
}

#[tokio::test]
async fn a_redis_that_hangs_for_a_while_delays_and_nothing_more() {
    let server = RedisServer::start();
    let publisher = Publisher::builder().namespaces(roomy()).connect(&server.url()).await.unwrap();
    emit(&publisher, "graph:a", 1..=50);
    until("the first are published", async || publisher.stats().published == 50).await;
    server.pause();
    emit(&publisher, "graph:a", 51..=300);
    until("an attempt has timed out", async || publisher.stats().retried > 0).await;
    emit(&publisher, "graph:a", 301..=400);
    server.resume();
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    assert_whole(&server, "graph:a", 400).await;
}

#[tokio::test]
async fn a_redis_that_lost_everything_gets_what_comes_afterwards() {
    let server = RedisServer::start();
    let publisher = Publisher::connect(&server.url()).await.unwrap();
    emit(&publisher, "graph:a", 1..=5);
    until("the first are published", async || publisher.stats().published == 5).await;
    redis::cmd("FLUSHALL").exec_async(&mut eyes(&server).await).await.unwrap();
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut eyes(&server).await).await.unwrap();
    emit(&publisher, "graph:a", 1..=5);
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    assert_whole(&server, "graph:a", 5).await;
    assert_eq!(publisher.stats().dropped, 5, "what it lost is told");
}

#[tokio::test]
async fn a_refused_event_does_not_affect_others() {
    let server = RedisServer::start();
    let spoilt = |append: &crewcast_publisher::Append| {
        let bad = append.entries.iter().any(|entry| entry.body.kind() == "bad");
        bad.then(|| AppendError::Refused("bad".to_owned()))
    };
    let publisher =
        Publisher::builder().with_transport(Arc::new(Meddling::recording(transport(&server)).before(spoilt)));
    emit(&publisher, "graph:a", 1..=3);
    publisher.publish("graph:a", &json!({"type": "bad"})).unwrap();
    emit(&publisher, "graph:a", 4..=6);
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    assert_whole(&server, "graph:a", 6).await;
    assert_eq!(publisher.stats(), Stats { published: 6, retried: 0, dropped: 1, ..Stats::default() });
}

#[tokio::test]
async fn a_namespace_without_a_log_refuses_and_live_goes_through() {
    let server = RedisServer::start();
    let mut namespaces = Namespaces::default();
    let log = LogPolicy { length: 0, age: Duration::from_secs(60) };
    namespaces.0.insert("ticks".to_owned(), Namespace { log, ..Namespace::default() });
    let publisher = Publisher::builder().namespaces(namespaces).connect(&server.url()).await.unwrap();
    let mut listener = redis::Client::open(server.url()).unwrap().get_async_pubsub().await.unwrap();
    listener.subscribe("ticks:a").await.unwrap();
    let text = r#" {"type":"tick", "id":"mine"} "#;
    publisher.publish("ticks:a", &json!({"type": "tick"})).unwrap();
    publisher.publish_live("ticks:a", text).unwrap();
    let heard = listener.on_message().next().await.unwrap();
    assert_eq!(heard.get_payload_bytes(), text.as_bytes());
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    assert_eq!(publisher.stats(), Stats { published: 1, retried: 0, dropped: 1, ..Stats::default() });
}

#[tokio::test(start_paused = true)]
async fn live_events_keep_their_place_and_are_not_repeated() {
    let fake = Arc::new(Fake::default());
    let publisher = Publisher::builder().with_transport(fake.clone());
    emit(&publisher, "graph:a", 1..=1);
    publisher.publish_live("graph:a", r#"{"type":"y"}"#).unwrap();
    emit(&publisher, "graph:a", 2..=2);
    until("all are sent", async || publisher.queued() == 0).await;
    assert_eq!(fake.seen(), ["append graph:a x", "live graph:a", "append graph:a x"]);
    fake.set_away(true);
    publisher.publish_live("graph:a", r#"{"type":"y"}"#).unwrap();
    until("it is dropped", async || publisher.queued() == 0).await;
    assert_eq!(publisher.stats(), Stats { published: 3, retried: 0, dropped: 1, ..Stats::default() });
}

#[tokio::test]
async fn a_channel_that_waits_holds_up_no_other() {
    let server = RedisServer::start();
    let stuck = |append: &crewcast_publisher::Append| {
        (append.channel.id() == "stuck").then(|| AppendError::Unavailable("stuck".to_owned()))
    };
    let publisher =
        Publisher::builder().with_transport(Arc::new(Meddling::recording(transport(&server)).before(stuck)));
    emit(&publisher, "graph:stuck", 1..=3);
    emit(&publisher, "graph:a", 1..=3);
    until("the other is published", async || publisher.stats().published == 3).await;
    let unsent = publisher.close(Duration::from_millis(10)).await;
    let bodies = &unsent.by_channel[&channel("graph:stuck")];
    assert_eq!((unsent.events, unsent.by_channel.len(), bodies.len()), (3, 1, 3));
    assert_eq!(&bodies[2][..], br#"{"n":3,"type":"x"}"#);
}

#[tokio::test(start_paused = true)]
async fn closing_returns_what_was_not_sent_and_ends_the_task() {
    let fake = Arc::new(Fake::away());
    let publisher = Publisher::builder().with_transport(fake.clone());
    emit(&publisher, "graph:a", 1..=200);
    emit(&publisher, "run:b", 1..=1);
    publisher.publish_live("hub:c", r#"{"type":"y"}"#).unwrap();
    let began = tokio::time::Instant::now();
    let unsent = publisher.close(Duration::from_secs(7)).await;
    assert_eq!(began.elapsed(), Duration::from_secs(7));
    assert_eq!(unsent.events, 201, "the live one was dropped at its first attempt");
    let bodies = &unsent.by_channel[&channel("graph:a")];
    for (n, body) in (1..).zip(bodies) {
        assert_eq!(body, format!(r#"{{"n":{n},"type":"x"}}"#).as_bytes());
    }
    assert_eq!(Arc::strong_count(&fake), 1, "the task is gone");
    emit(&publisher, "graph:a", 1..=1);
    assert_eq!(publisher.stats().dropped, 2);
    assert_eq!(publisher.close(Duration::ZERO).await.events, 0);
}

#[tokio::test]
async fn dropping_the_last_clone_ends_the_task() {
    let fake = Arc::new(Fake::away());
    let publisher = Publisher::builder().with_transport(fake.clone());
    let emitter = publisher.clone().mission("abc");
    drop(publisher);
    emitter.busy();
    until("it is tried", async || fake.attempts.load(Ordering::SeqCst) > 0).await;
    drop(emitter);
    until("the task is gone", async || Arc::strong_count(&fake) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn pauses_between_attempts_grow_to_two_seconds() {
    let fake = Arc::new(Fake::away());
    let publisher = Publisher::builder().with_transport(fake.clone());
    emit(&publisher, "graph:a", 1..=1);
    tokio::time::sleep(Duration::from_secs(100)).await;
    let attempts = fake.attempts.load(Ordering::SeqCst);
    assert!((50..=110).contains(&attempts), "{attempts} attempts in 100 s");
    fake.set_away(false);
    assert_eq!(publisher.close(Duration::from_secs(3)).await.events, 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_keeps_starts_and_ends_and_counts_what_it_drops() {
    let recorder = TestRecorder::default();
    let _local = metrics::set_default_local_recorder(&recorder);
    let fake = Arc::new(Fake::away());
    let publisher = Publisher::builder().queue_events(100).with_transport(fake.clone());
    let tools = publisher.tools("abc", "r1", "a1");
    let call = tools.start("one", &());
    for n in 0..500 {
        call.progress(format!("{n}"), None);
    }
    call.end(0, crewcast_publisher::Outcome::Success);
    assert_eq!(publisher.queued(), 100);
    assert_eq!(recorder.value("crewcast_publisher_queue_events"), 100);
    assert_eq!(recorder.value("crewcast_publisher_dropped_total{queue_full}"), 402);
    fake.set_away(false);
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    let seen = fake.seen();
    assert_eq!((seen[0].as_str(), seen[99].as_str()), ("append graph:abc tool_start", "append graph:abc tool_end"));
    assert_eq!(recorder.value("crewcast_publisher_published_total"), 100);
    assert_eq!(recorder.value("crewcast_publisher_queue_events"), 0);
    publisher.mission("abc").busy();
    assert_eq!(recorder.value("crewcast_publisher_dropped_total{closed}"), 1);
}

#[tokio::test(start_paused = true)]
async fn retries_and_what_is_too_large_are_counted() {
    let recorder = TestRecorder::default();
    let _local = metrics::set_default_local_recorder(&recorder);
    let fake = Arc::new(Fake::away());
    let publisher = Publisher::builder().queue_bytes(10_000).with_transport(fake.clone());
    publisher.publish("graph:a", &json!({"type": "x", "blob": "x".repeat(10_000)})).unwrap();
    assert_eq!(recorder.value("crewcast_publisher_dropped_total{too_large}"), 1);
    emit(&publisher, "graph:a", 1..=1);
    until("it is repeated", async || recorder.value("crewcast_publisher_retried_total") >= 3).await;
    drop(publisher);
    until("the gauge forgets", async || recorder.value("crewcast_publisher_queue_events") == 0).await;
}

#[tokio::test]
async fn what_is_no_event_is_an_error_at_once() {
    let publisher = Publisher::builder().with_transport(Arc::new(Fake::default()));
    assert!(publisher.publish("graph", &json!({"type": "x"})).is_err());
    assert!(publisher.publish("graph:a", &json!(["x"])).is_err());
    assert!(publisher.publish("graph:a", &json!({"type": "x", "id": 1})).is_err());
    assert!(publisher.publish_raw("graph:a", "{").is_err());
    assert!(publisher.publish_live("graph:a", "{}").is_err());
    for key in ["", "a\nb", &"k".repeat(129)] {
        assert!(publisher.publish_with_state("graph:a", &json!({"type": "x"}), key, &1).is_err());
    }
    assert_eq!(publisher.queued(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_gateways_would_not_deliver_is_an_error_and_counted() {
    let recorder = TestRecorder::default();
    let _local = metrics::set_default_local_recorder(&recorder);
    let sized = |bytes: usize| format!(r#"{{"type":"x","d":"{}"}}"#, "x".repeat(bytes - 19));
    assert_eq!(sized(100).len(), 100);
    for (builder, most) in [(Publisher::builder(), 1 << 20), (Publisher::builder().max_event_bytes(100), 100)] {
        let publisher = builder.with_transport(Arc::new(Fake::away()));
        publisher.publish_raw("graph:a", sized(most)).unwrap();
        publisher.publish_live("graph:a", sized(most)).unwrap();
        let error = publisher.publish_raw("graph:a", sized(most + 1)).unwrap_err();
        assert!(error.to_string().contains(&most.to_string()), "{error}");
        assert!(publisher.publish_live("graph:a", sized(most + 1)).is_err());
        let big: serde_json::Value = serde_json::from_str(&sized(most + 1)).unwrap();
        assert!(publisher.publish_with_state("graph:a", &big, "k", &1).is_err());
        publisher.run("r").boot(&big);
        assert_eq!((publisher.queued(), publisher.stats().dropped), (2, 4));
    }
    assert_eq!(recorder.value("crewcast_publisher_dropped_total{too_large}"), 8);
}

#[tokio::test]
async fn state_travels_with_its_event() {
    let server = RedisServer::start();
    let publisher = Publisher::connect(&server.url()).await.unwrap();
    let event = json!({"type": "session_state"});
    publisher.publish_with_state("session:s", &event, "phase", &json!({"n": 1})).unwrap();
    publisher.publish_with_state("session:s", &event, "gone", &1).unwrap();
    publisher.publish_removing_state("session:s", &event, "gone").unwrap();
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    let key = Keys::default().state(&channel("session:s"));
    let state: Vec<(String, String)> =
        redis::cmd("HGETALL").arg(key).query_async(&mut eyes(&server).await).await.unwrap();
    assert_eq!(state, [("phase".to_owned(), r#"{"n":1}"#.to_owned())]);
    assert_eq!(log(&server, "session:s").await.len(), 3);
}

#[tokio::test]
async fn raw_events_keep_their_bytes() {
    let server = RedisServer::start();
    let publisher = Publisher::connect(&server.url()).await.unwrap();
    let text = r#"{"type" :"x","n":1.50, "é":"\u00e9"}"#;
    publisher.publish_raw("graph:a", text).unwrap();
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    let message = log(&server, "graph:a").await.remove(0);
    let id = EventId::of_message(message.as_bytes()).unwrap();
    assert_eq!(message, format!(r#"{{"id":"{id}",{}"#, &text[1..]));
}

#[tokio::test]
async fn connecting_fails_for_what_waiting_cannot_fix() {
    for url in ["redis:/", "http://127.0.0.1", "redis://:hunter2@[::1"] {
        let Err(error) = Publisher::connect(url).await else { panic!("{url}") };
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let server = RedisServer::start_with(&["--requirepass", "hunter2"]);
    assert!(Publisher::connect(&server.url()).await.is_err());
    assert!(Publisher::connect(&server.url().replace("//", "//:wrong@")).await.is_err());
    let publisher = Publisher::connect(&server.url().replace("//", "//:hunter2@")).await.unwrap();
    emit(&publisher, "graph:a", 1..=1);
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    // No server: events wait.
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let publisher = Publisher::connect(&format!("redis://127.0.0.1:{port}")).await.unwrap();
    emit(&publisher, "graph:a", 1..=1);
    assert_eq!(publisher.close(Duration::from_millis(50)).await.events, 1);
}
