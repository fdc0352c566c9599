//! Helpers of the tests.

#[cfg(feature = "http")]
mod gateway;
mod recorder;
mod stages;
mod transports;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crewcast_events::{Body, Channel, EventId, Keys, Namespaces};
use crewcast_publisher::{Append, Entry, Once, RedisClient, RedisTransport, Tls};
use serde_json::Value;

pub(crate) use crewcast_test_servers::RedisServer;
#[cfg(feature = "http")]
pub(crate) use gateway::Gateway;
pub(crate) use recorder::TestRecorder;
pub(crate) use stages::{GRAPH, Stages, confirm_singly, confirmed, emit, numbers_of};
pub(crate) use transports::{Fake, Meddling};

pub(crate) fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

pub(crate) fn body(text: &str) -> Body {
    Body::parse(text.as_bytes().to_vec()).unwrap()
}

/// An append of numbered events: `{"type":"x","n":<first>}` and so on.
pub(crate) fn numbered(name: &str, producer: &str, first: u64, count: u64) -> Append {
    let entries = (first..first + count).map(|n| Entry::new(body(&format!(r#"{{"type":"x","n":{n}}}"#)))).collect();
    Append { channel: channel(name), entries, once: Once::Sequence { producer: Arc::from(producer), first } }
}

pub(crate) fn single(name: &str, text: &str, once: Once) -> Append {
    Append { channel: channel(name), entries: vec![Entry::new(body(text))], once }
}

pub(crate) fn transport(server: &RedisServer) -> RedisTransport {
    with_namespaces(server, Namespaces::default())
}

pub(crate) fn with_namespaces(server: &RedisServer, namespaces: Namespaces) -> RedisTransport {
    let redis = RedisClient::new(&server.url(), &Tls::default(), 4, "test").unwrap();
    RedisTransport::new(redis, Keys::default(), String::new(), namespaces)
}

/// A connection to inspect Redis.
pub(crate) async fn eyes(server: &RedisServer) -> redis::aio::MultiplexedConnection {
    redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// A channel's log, oldest first.
pub(crate) async fn log(server: &RedisServer, name: &str) -> Vec<String> {
    let mut redis = eyes(server).await;
    let key = Keys::default().log(&channel(name));
    redis::cmd("LRANGE").arg(key).arg(0).arg(-1).query_async(&mut redis).await.unwrap()
}

/// A channel's log as JSON.
pub(crate) async fn events(server: &RedisServer, name: &str) -> Vec<Value> {
    log(server, name).await.iter().map(|message| serde_json::from_str(message).unwrap()).collect()
}

/// A channel's state documents.
pub(crate) async fn state(server: &RedisServer, name: &str) -> BTreeMap<String, Value> {
    let mut redis = eyes(server).await;
    let key = Keys::default().state(&channel(name));
    let documents: BTreeMap<String, String> = redis::cmd("HGETALL").arg(key).query_async(&mut redis).await.unwrap();
    documents.into_iter().map(|(key, document)| (key, serde_json::from_str(&document).unwrap())).collect()
}

/// Asserts that a log's ids follow each other without a hole.
pub(crate) fn assert_chain(messages: &[String], mut previous: Option<EventId>) {
    for message in messages {
        let id = EventId::of_message(message.as_bytes()).unwrap_or_else(|| panic!("no id: {message}"));
        assert!(id.continues(previous), "{id} does not follow {previous:?}");
        previous = Some(id);
    }
}

/// Waits until a condition holds, at most 20 s.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Polls until the condition holds.
pub(crate) async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), polling).await.expect("in time");
}
