//! The append script: ids, bytes, ages, and the recognition of retries.

use crewcast_events::{EventId, Keys, LogPolicy, Namespace, Namespaces};
use crewcast_publisher::{Append, AppendError, Entry, MAX_ENTRIES, Once, State, Transport};
use futures_util::StreamExt;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, time::Duration};

use crate::support::{
    RedisServer, assert_chain, body, channel, eyes, log, numbered, single, transport, with_namespaces,
};

fn ids(answer: &[Option<EventId>]) -> Vec<EventId> {
    answer.iter().map(|id| id.unwrap()).collect()
}

fn one_namespace(name: &str, namespace: Namespace) -> Namespaces {
    Namespaces(BTreeMap::from([(name.to_owned(), namespace)]))
}

fn log_of(length: u32, age: u64) -> Namespace {
    Namespace { log: LogPolicy { length, age: Duration::from_secs(age) }, ..Namespace::default() }
}

async fn ttl(server: &RedisServer, key: String) -> i64 {
    redis::cmd("TTL").arg(key).query_async(&mut eyes(server).await).await.unwrap()
}

#[tokio::test]
async fn a_logged_message_is_the_producers_bytes_with_an_id_before_them() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let mut listener = redis::Client::open(server.url()).unwrap().get_async_pubsub().await.unwrap();
    listener.subscribe("graph:a").await.unwrap();
    let texts = [
        r#"{"type":"x", "n":1.50,"z":{"id":1},  "a":"\u00e9 é 🎉 %s %d \\"}"#.to_owned(),
        format!(r#"{{"type":"big","blob":"{}"}}"#, "x".repeat(100_000)),
    ];
    let mut stream = listener.on_message();
    for text in &texts {
        let answer = transport.append(&single("graph:a", text, Once::No)).await.unwrap();
        let expected = format!(r#"{{"id":"{}",{}"#, ids(&answer)[0], &text[1..]);
        assert_eq!(log(&server, "graph:a").await.last().unwrap(), &expected);
        assert_eq!(stream.next().await.unwrap().get_payload_bytes(), expected.as_bytes());
    }
}

/// Two halves of tags, added digit by digit.
fn sum(a: &[u8], b: &[u8]) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(36).unwrap();
    a.iter().zip(b).map(|(&a, &b)| char::from_digit((digit(a) + digit(b)) % 36, 36).unwrap() as u8).collect()
}

#[tokio::test]
async fn ids_count_without_a_hole_and_stand_for_all_events_before() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let (mut all, mut own) = (Vec::new(), b"000000".to_vec());
    for first in [1, 4, 7] {
        let append = numbered("graph:a", "p", first, 3);
        let answer = ids(&transport.append(&append).await.unwrap());
        for (id, entry) in answer.iter().zip(&append.entries) {
            own = sum(&own, &entry.random);
            assert_eq!(id.tag().own(), own);
        }
        all.extend(answer);
    }
    assert_chain(&log(&server, "graph:a").await, None);
    assert_eq!(all.iter().map(EventId::offset).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    let head: String = redis::cmd("GET")
        .arg(Keys::default().head(&channel("graph:a")))
        .query_async(&mut eyes(&server).await)
        .await
        .unwrap();
    assert_eq!(head, all[8].to_string());
}

/// A producer retries its events after other events, at the same offsets: a reader of one history must not be able to
/// continue in the other.
#[tokio::test]
async fn a_rewritten_history_does_not_pass_for_the_old_one() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let repeated = numbered("graph:a", "p", 1, 3);
    let mut histories = Vec::new();
    for server in [&old, &new] {
        let transport = transport(server);
        let other = transport.append(&single("graph:a", r#"{"type":"other"}"#, Once::No)).await.unwrap();
        histories.push(ids(&[other, transport.append(&repeated).await.unwrap()].concat()));
    }
    for (was, is) in histories[0].windows(2).zip(histories[1].windows(2)) {
        assert_eq!(was[0].offset(), is[0].offset());
        assert!(was[0] != is[0] && !is[1].continues(Some(was[0])), "{was:?} {is:?}");
    }
}

#[tokio::test]
async fn the_chain_goes_on_behind_a_log_that_is_gone_and_a_head_that_is_gone() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let keys = Keys::default();
    let mut redis = eyes(&server).await;
    let mut last = None;
    for (n, gone) in [keys.log(&channel("graph:a")), keys.head(&channel("graph:a"))].into_iter().enumerate() {
        let id = ids(&transport.append(&single("graph:a", r#"{"type":"x"}"#, Once::No)).await.unwrap())[0];
        assert!(id.continues(last), "after {n} losses");
        last = Some(id);
        redis::cmd("DEL").arg(gone).exec_async(&mut redis).await.unwrap();
    }
    let id = ids(&transport.append(&single("graph:a", r#"{"type":"x"}"#, Once::No)).await.unwrap())[0];
    assert!(id.continues(last));
}

#[tokio::test]
async fn offsets_and_numbers_count_on_beyond_32_bits() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let (keys, a) = (Keys::default(), channel("graph:a"));
    for last in [(1_u64 << 31) - 3, (1 << 31) - 1, (1 << 32) - 2, (1 << 53) - 20] {
        let (head, once) = (format!("{last}-abcdefghijkl"), format!("{last}:{last}:{last}"));
        for (key, value) in [(keys.head(&a), &head), (keys.producer(&a, "p"), &once)] {
            redis::cmd("SET").arg(key).arg(value).exec_async(&mut eyes(&server).await).await.unwrap();
        }
        let batch = numbered("graph:a", "p", last + 1, 3);
        let answer = ids(&transport.append(&batch).await.unwrap());
        assert_eq!(answer.iter().map(EventId::offset).collect::<Vec<_>>(), [last + 1, last + 2, last + 3]);
        assert!(answer[0].continues(Some(head.parse().unwrap())) && answer[2].continues(Some(answer[1])));
        assert_eq!(ids(&transport.append(&batch).await.unwrap()), answer);
        let next = transport.append(&numbered("graph:a", "p", last + 4, 1)).await.unwrap();
        assert!(ids(&next)[0].continues(Some(answer[2])));
        let gap = transport.append(&numbered("graph:a", "p", last + 9, 1)).await;
        assert_eq!(gap, Err(AppendError::Gap { expected: last + 5 }));
    }
}

#[tokio::test]
async fn the_log_is_trimmed_and_everything_has_an_age() {
    let server = RedisServer::start();
    let namespaces = one_namespace("n", Namespace { retain: true, ..log_of(5, 60) });
    let transport = with_namespaces(&server, namespaces);
    for first in [1, 4, 7] {
        transport.append(&numbered("n:a", "p", first, 3)).await.unwrap();
    }
    let entries = log(&server, "n:a").await;
    assert_eq!(entries.len(), 5);
    assert_eq!(EventId::of_message(entries[0].as_bytes()).unwrap().offset(), 5);
    let (keys, a) = (Keys::default(), channel("n:a"));
    let month = 30 * 24 * 3600;
    for (key, age) in [
        (keys.log(&a), 60),
        (keys.head(&a), 60 + month),
        (keys.retained(&a), 60 + month),
        (keys.producer(&a, "p"), 24 * 3600),
    ] {
        let left = ttl(&server, key.clone()).await;
        assert!((age - 5..=age).contains(&left), "{key}: {left}");
    }
}

#[tokio::test]
async fn producers_are_remembered_as_long_as_the_log() {
    let server = RedisServer::start();
    let transport = with_namespaces(&server, one_namespace("n", log_of(5, 100_000)));
    transport.append(&numbered("n:a", "p", 1, 1)).await.unwrap();
    let left = ttl(&server, Keys::default().producer(&channel("n:a"), "p")).await;
    assert!((99_990..=100_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_repeated_batch_answers_the_same_ids_and_appends_nothing() {
    let server = RedisServer::start();
    let transport = transport(&server);
    transport.append(&numbered("graph:a", "p", 1, 2)).await.unwrap();
    let batch = numbered("graph:a", "p", 3, 4);
    let first = transport.append(&batch).await.unwrap();
    transport.append(&numbered("graph:a", "other", 1, 2)).await.unwrap();
    assert_eq!(transport.append(&batch).await.unwrap(), first);
    assert_eq!(log(&server, "graph:a").await.len(), 8);
    // An older batch was accepted too, but its ids are no longer known.
    assert_eq!(transport.append(&numbered("graph:a", "p", 1, 2)).await.unwrap(), [None, None]);
    assert_eq!(log(&server, "graph:a").await.len(), 8);
}

#[tokio::test]
async fn a_repeat_that_brings_more_appends_only_what_is_new() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let first = transport.append(&numbered("graph:a", "p", 1, 2)).await.unwrap();
    let second = transport.append(&numbered("graph:a", "p", 1, 4)).await.unwrap();
    assert_eq!(second[..2], first[..]);
    assert_eq!(ids(&second).iter().map(EventId::offset).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let entries = log(&server, "graph:a").await;
    assert_chain(&entries, None);
    assert_eq!(entries.len(), 4);
    for (n, entry) in (1..).zip(&entries) {
        assert!(entry.ends_with(&format!(r#""n":{n}}}"#)), "{entry}");
    }
}

#[tokio::test]
async fn a_repeat_behind_a_trimmed_log_is_known_but_its_ids_are_not() {
    let server = RedisServer::start();
    let transport = with_namespaces(&server, one_namespace("n", log_of(2, 60)));
    let batch = numbered("n:a", "p", 1, 3);
    let first = transport.append(&batch).await.unwrap();
    assert_eq!(transport.append(&batch).await.unwrap(), [None, first[1], first[2]]);
    assert_eq!(log(&server, "n:a").await.len(), 2);
}

#[tokio::test]
async fn a_gap_is_refused_with_the_number_expected() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let refused = transport.append(&numbered("graph:a", "p", 2, 1)).await;
    assert_eq!(refused, Err(AppendError::Gap { expected: 1 }));
    transport.append(&numbered("graph:a", "p", 1, 3)).await.unwrap();
    let refused = transport.append(&numbered("graph:a", "p", 5, 1)).await;
    assert_eq!(refused, Err(AppendError::Gap { expected: 4 }));
    assert_eq!(log(&server, "graph:a").await.len(), 3);
}

#[tokio::test]
async fn an_idempotency_key_is_answered_with_the_same_id_in_the_scope_of_its_sub() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let key = |sub: &str, key: &str| Once::Key { sub: sub.to_owned(), key: key.to_owned() };
    let text = r#"{"type":"x"}"#;
    let first = transport.append(&single("graph:a", text, key("u", "k"))).await.unwrap();
    assert_eq!(transport.append(&single("graph:a", text, key("u", "k"))).await.unwrap(), first);
    for (name, sub, other) in [("graph:a", "v", "k"), ("graph:a", "u", "k2"), ("graph:b", "u", "k")] {
        assert_ne!(transport.append(&single(name, text, key(sub, other))).await.unwrap(), first);
    }
    assert_eq!(log(&server, "graph:a").await.len(), 3);
    let left = ttl(&server, Keys::default().idempotency(&channel("graph:a"), "u", "k")).await;
    assert!((24 * 3600 - 5..=24 * 3600).contains(&left), "{left}");
}

#[tokio::test]
async fn only_a_retaining_namespace_retains() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let mut redis = eyes(&server).await;
    for (name, retains) in [("mission:a", true), ("graph:a", false)] {
        transport.append(&numbered(name, "p", 1, 3)).await.unwrap();
        let key = Keys::default().retained(&channel(name));
        let retained: Option<String> = redis::cmd("GET").arg(key).query_async(&mut redis).await.unwrap();
        assert_eq!(retained, log(&server, name).await.last().filter(|_| retains).cloned(), "{name}");
    }
}

#[tokio::test]
async fn state_is_set_and_removed_with_its_event() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let entry = |key: &str, value: Option<&str>| {
        let value = value.map(|value| RawValue::from_string(value.to_owned()).unwrap().into());
        Entry { state: Some(State { key: key.to_owned(), value }), ..Entry::new(body(r#"{"type":"x"}"#)) }
    };
    let append = |entries| Append { channel: channel("session:s"), entries, once: Once::No };
    let read = async || -> BTreeMap<String, String> {
        let key = Keys::default().state(&channel("session:s"));
        redis::cmd("HGETALL").arg(key).query_async(&mut eyes(&server).await).await.unwrap()
    };
    let document = r#"{ "n" : 1.50 }"#;
    transport.append(&append(vec![entry("a", Some(document)), entry("b", Some("1"))])).await.unwrap();
    assert_eq!(read().await, BTreeMap::from([("a".into(), document.into()), ("b".into(), "1".into())]));
    // Within one batch the last change counts.
    transport.append(&append(vec![entry("a", None), entry("b", None), entry("b", Some("2"))])).await.unwrap();
    assert_eq!(read().await, BTreeMap::from([("b".into(), "2".into())]));
    transport.append(&append(vec![entry("b", Some("3")), entry("b", None)])).await.unwrap();
    assert_eq!(read().await, BTreeMap::new());
    let too_long = "k".repeat(129);
    for bad in ["", "a\nb", &too_long] {
        assert!(matches!(transport.append(&append(vec![entry(bad, None)])).await, Err(AppendError::Refused(_))));
    }
}

#[tokio::test]
async fn what_no_log_takes_is_refused_with_a_reason() {
    let server = RedisServer::start();
    let namespaces = Namespaces(BTreeMap::from([("live".to_owned(), log_of(0, 60)), ("n".to_owned(), log_of(9, 60))]));
    let transport = with_namespaces(&server, namespaces);
    let why = async |append: Append| match transport.append(&append).await {
        Err(AppendError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(numbered("live:a", "p", 1, 1)).await.contains("publish live"));
    assert!(why(numbered("foreign:a", "p", 1, 1)).await.contains("not configured"));
    assert!(why(numbered("n:a", "p", 1, MAX_ENTRIES as u64 + 1)).await.contains("128"));
    assert!(why(numbered("n:a", "p", 1, 0)).await.contains("1 to"));
    assert!(why(numbered("n:a", "p", 0, 1)).await.contains("from 1"));
    let key = Once::Key { sub: "u".into(), key: "k".into() };
    assert!(why(Append { once: key, ..numbered("n:a", "p", 1, 2) }).await.contains("one event"));
    transport.publish_live(&channel("live:a"), r#"{"type":"x"}"#.into()).await.unwrap();
    assert!(transport.publish_live(&channel("foreign:a"), "{}".into()).await.is_err());
}

#[tokio::test]
async fn an_append_onto_keys_of_another_type_writes_nothing() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let (keys, a) = (Keys::default(), channel("session:s"));
    let mut redis = eyes(&server).await;
    let state = State { key: "k".into(), value: Some(RawValue::from_string("1".into()).unwrap().into()) };
    let entry = Entry { state: Some(state), ..Entry::new(body(r#"{"type":"x"}"#)) };
    let append = Append { channel: a.clone(), entries: vec![entry], once: numbered("session:s", "p", 1, 1).once };
    for broken in [keys.log(&a), keys.head(&a), keys.state(&a), keys.producer(&a, "p")] {
        redis::cmd("FLUSHALL").exec_async(&mut redis).await.unwrap();
        redis::cmd("SADD").arg(&broken).arg("x").exec_async(&mut redis).await.unwrap();
        let answer = transport.append(&append).await;
        assert!(matches!(answer, Err(AppendError::Refused(_))), "{broken}: {answer:?}");
        let left: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
        assert_eq!(left, [broken]);
    }
}

#[tokio::test]
async fn a_full_memory_is_worth_a_repetition_and_writes_nothing() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let mut redis = eyes(&server).await;
    let maxmemory = async |value: &str| {
        let mut redis = eyes(&server).await;
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(value).exec_async(&mut redis).await.unwrap();
    };
    maxmemory("1").await;
    let append = numbered("mission:a", "p", 1, 2);
    let answer = transport.append(&append).await;
    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    let left: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    maxmemory("0").await;
    assert_eq!(ids(&transport.append(&append).await.unwrap()).len(), 2);
}

#[tokio::test]
async fn the_channel_prefix_stands_before_names_and_not_in_keys() {
    let server = RedisServer::start();
    let redis = crewcast_publisher::RedisClient::new(&server.url(), &Default::default(), 1, "test").unwrap();
    let transport =
        crewcast_publisher::RedisTransport::new(redis, Keys::new("k"), "blue.".to_owned(), Namespaces::default());
    let mut listener = redis::Client::open(server.url()).unwrap().get_async_pubsub().await.unwrap();
    listener.psubscribe("*").await.unwrap();
    transport.append(&numbered("graph:a", "p", 1, 1)).await.unwrap();
    transport.publish_live(&channel("graph:a"), r#"{"type":"x"}"#.into()).await.unwrap();
    let heard: Vec<_> = listener.on_message().take(2).collect().await;
    assert!(heard.iter().all(|message| message.get_channel_name() == "blue.graph:a"));
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut eyes(&server).await).await.unwrap();
    keys.sort();
    assert_eq!(keys, ["k:{graph:a}:head", "k:{graph:a}:log", "k:{graph:a}:producer:p"]);
}

#[tokio::test]
async fn what_gateways_would_not_deliver_is_refused() {
    let server = RedisServer::start();
    let sized = |bytes: usize| format!(r#"{{"type":"x","d":"{}"}}"#, "x".repeat(bytes - 19));
    for (transport, most) in [(transport(&server), 1 << 20), (transport(&server).max_event_bytes(100), 100)] {
        let name = format!("graph:of-{most}");
        transport.append(&single(&name, &sized(most), Once::No)).await.unwrap();
        transport.publish_live(&channel(&name), sized(most).into()).await.unwrap();
        let refusals = [
            transport.append(&single(&name, &sized(most + 1), Once::No)).await.map(|_| ()),
            transport.publish_live(&channel(&name), sized(most + 1).into()).await,
        ];
        for refusal in refusals {
            let Err(AppendError::Refused(why)) = refusal else { panic!("{refusal:?}") };
            assert!(why.contains(&format!("at most {most} bytes")), "{why}");
        }
        assert_eq!(log(&server, &name).await.len(), 1);
    }
}
