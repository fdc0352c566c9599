//! Links that go down, and come back with everything subscribed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crewcast_events::Channel;
use crewcast_store::Transport;

use crewcast_test_servers::RedisServer;

use super::{config, started};
use crate::{
    broker::{
        BrokerError, Link, LogStore, PubSub,
        conformance::{self, TestSink, append, channel, eventually},
        redis::RedisBroker,
    },
    config::{BrokerConfig, Secret},
};

const LIVE: &[u8] = br#"{"type":"x"}"#;

pub(super) fn channels(count: usize) -> Vec<Channel> {
    (0..count).map(|n| channel(&format!("graph:c{n}"))).collect()
}

/// Publishes one message into each channel and waits until each has arrived.
pub(super) async fn all_deliver(broker: &RedisBroker, sink: &TestSink, channels: &[Channel]) {
    sink.clear();
    for channel in channels {
        let published = async || broker.publish_live(channel, Bytes::from_static(LIVE)).await.is_ok();
        eventually("publishing works again", published).await;
    }
    for channel in channels {
        sink.messages(channel.as_str(), 1).await;
    }
    assert_eq!(sink.count(), channels.len(), "each arrives once");
}

pub(super) async fn link_became(sink: &TestSink, links: &[Link]) {
    sink.until(&format!("links {links:?}"), |sink| sink.links() == links).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_delivers_again() {
    let mut server = RedisServer::start();
    let (broker, sink) = started(&config(&server), "r").await;
    let channels = channels(2500);
    broker.subscribe(&channels).await.unwrap();
    server.kill();
    link_became(&sink, &[Link::Up, Link::Down]).await;
    assert!(matches!(broker.barrier().await, Err(BrokerError::Unavailable(_))));
    server.restart();
    link_became(&sink, &[Link::Up, Link::Down, Link::Up]).await;
    all_deliver(&broker, &sink, &channels).await;
    assert!(broker.probe().await.is_ok());
}

/// While Redis loads its data, it greets and confirms subscriptions but serves no log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_is_down_while_the_server_loads() {
    let mut server = RedisServer::start();
    let fill = "for n = 1, 1000 do redis.call('SET', 'k' .. n, string.rep('x', 100)) end";
    let _: () = server.command(&["EVAL", fill, "0"]).await;
    let _: () = server.command(&["SAVE"]).await;
    let (broker, sink) = started(&config(&server), "r").await;
    server.kill();
    link_became(&sink, &[Link::Up, Link::Down]).await;
    // One and a half milliseconds per key, with connections served in between.
    server.restart_with(&["--key-load-delay", "1500", "--loading-process-events-interval-bytes", "1024"]);
    let loading = async || server.command::<String>(&["INFO", "persistence"]).await.contains("loading:1");
    assert!(loading().await, "Redis must still be loading");
    sink.until("the link is up again", |sink| sink.links().len() > 2).await;
    assert!(!loading().await);
    assert_eq!(sink.links(), [Link::Up, Link::Down, Link::Up]);
    broker.history(&channel("run:r"), 0, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_by_redis_comes_back() {
    let server = RedisServer::start();
    let (broker, sink) = started(&config(&server), "r").await;
    let channels = channels(50);
    broker.subscribe(&channels).await.unwrap();
    for round in 1..=3 {
        let killed: u32 = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        assert_eq!(killed, 1);
        sink.until("down and up", |sink| sink.links().len() == 1 + 2 * round).await;
        assert_eq!(sink.links()[2 * round - 1..], [Link::Down, Link::Up]);
        all_deliver(&broker, &sink, &channels).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_heartbeat_detects_a_hanging_server() {
    let server = RedisServer::start();
    let (broker, sink) = started(&config(&server), "r").await;
    let channels = channels(50);
    broker.subscribe(&channels).await.unwrap();
    broker.history(&channels[0], 0, 10).await.unwrap();
    server.pause();
    let since = Instant::now();
    link_became(&sink, &[Link::Up, Link::Down]).await;
    assert!(since.elapsed() < Duration::from_secs(8), "heartbeat and timeout: {:?}", since.elapsed());
    let since = Instant::now();
    assert!(broker.history(&channels[0], 0, 10).await.is_err());
    assert!(since.elapsed() < Duration::from_secs(11), "the call must not hang: {:?}", since.elapsed());
    server.resume();
    link_became(&sink, &[Link::Up, Link::Down, Link::Up]).await;
    all_deliver(&broker, &sink, &channels).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_subscribed_while_the_link_is_down_are_served_after_the_reconnect() {
    let mut server = RedisServer::start();
    let (broker, sink) = started(&config(&server), "r").await;
    let channels = channels(30);
    broker.subscribe(&channels[..10]).await.unwrap();
    server.kill();
    link_became(&sink, &[Link::Up, Link::Down]).await;
    let since = Instant::now();
    assert!(matches!(broker.subscribe(&channels[10..20]).await, Err(BrokerError::Unavailable(_))));
    assert!(since.elapsed() < Duration::from_secs(3), "the call waits a second at most: {:?}", since.elapsed());
    broker.unsubscribe(&channels[..5]).await.unwrap();
    // Whether this call still waits or has given up when the link comes back, its channels are subscribed.
    let subscribing = broker.subscribe(&channels[20..]);
    let restarting = async {
        tokio::task::yield_now().await;
        server.restart();
    };
    let (_served, ()) = tokio::join!(subscribing, restarting);
    link_became(&sink, &[Link::Up, Link::Down, Link::Up]).await;
    all_deliver(&broker, &sink, &channels[5..]).await;
    broker.publish_live(&channels[0], Bytes::from_static(LIVE)).await.unwrap();
    broker.barrier().await.unwrap();
    assert!(sink.of(channels[0].as_str()).is_empty(), "a channel unsubscribed during the outage stays unsubscribed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_starts_before_its_server_reports_the_link_once_it_is_up() {
    let port = crewcast_test_servers::free_port();
    let config = BrokerConfig { url: Secret::new(format!("redis://127.0.0.1:{port}")), ..BrokerConfig::default() };
    let broker = RedisBroker::new(&config, conformance::namespaces(), "r".to_owned()).unwrap();
    let sink = Arc::new(TestSink::default());
    assert!(matches!(broker.start(sink.clone()).await, Err(BrokerError::Unavailable(_))));
    assert!(broker.subscribe(&channels(3)).await.is_err());
    assert_eq!(sink.links(), []);
    let _server = RedisServer::on(port, &[]).expect("the port is still free");
    link_became(&sink, &[Link::Up]).await;
    all_deliver(&broker, &sink, &channels(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_holds_one_subscribing_connection_and_closes_all_connections() {
    let server = RedisServer::start();
    let (one, _) = started(&config(&server), "one").await;
    let (two, _) = started(&config(&server), "two").await;
    for broker in [&one, &two] {
        broker.subscribe(&channels(1500)).await.unwrap();
        append(&**broker, &channel("run:r"), &[1]).await;
        futures_util::future::join_all((0..20).map(|_| broker.probe())).await;
    }
    let named = async |name: &str| {
        let clients: String = server.command(&["CLIENT", "LIST"]).await;
        clients.lines().filter(|line| line.contains(&format!(" name={name} "))).count()
    };
    let clients: String = server.command(&["CLIENT", "LIST"]).await;
    let subscribing = clients.lines().filter(|line| !line.contains(" sub=0 psub=0 ")).count();
    assert_eq!(subscribing, 2, "{clients}");
    assert_eq!((named("crewcast-sub-one").await, named("crewcast-sub-two").await), (1, 1));
    assert!(named("crewcast-cmd").await >= 2);
    one.close().await;
    two.close().await;
    eventually("every connection is gone", async || {
        let clients: String = server.command(&["CLIENT", "LIST"]).await;
        !clients.contains("name=crewcast")
    })
    .await;
    assert!(
        one.append(&crewcast_store::Append {
            channel: channel("run:r"),
            entries: vec![conformance::entry(r#"{"type":"x"}"#)],
            once: crewcast_store::Once::No,
        })
        .await
        .is_err()
    );
    assert!(one.subscribe(&channels(1)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_broker_closes_its_connections() {
    let server = RedisServer::start();
    let (broker, _) = started(&config(&server), "dropped").await;
    drop(broker);
    eventually("every connection is gone", async || {
        let clients: String = server.command(&["CLIENT", "LIST"]).await;
        !clients.contains("name=crewcast")
    })
    .await;
}

/// Two replicas on one server hear the same, in the same order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_hear_the_same() {
    let server = RedisServer::start();
    let (one, first) = started(&config(&server), "one").await;
    let (two, second) = started(&config(&server), "two").await;
    let run = channel("run:r1");
    one.subscribe(std::slice::from_ref(&run)).await.unwrap();
    two.subscribe(std::slice::from_ref(&run)).await.unwrap();
    for n in 0..50 {
        let (left, right) = ([n], [n + 100]);
        tokio::join!(append(&*one, &run, &left), append(&*two, &run, &right));
    }
    assert_eq!(first.messages("run:r1", 100).await, second.messages("run:r1", 100).await);
}

#[tokio::test]
async fn no_error_contains_the_password() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    let url = server.url().replace("redis://", "redis://:s3cret-password@");
    let config = BrokerConfig { url: Secret::new(url), ..BrokerConfig::default() };
    let broker = RedisBroker::new(&config, conformance::namespaces(), "r".to_owned()).unwrap();
    let error = broker.start(Arc::new(TestSink::default())).await.unwrap_err();
    let read = broker.history(&channel("run:r"), 0, 1).await.unwrap_err();
    let url = RedisBroker::new(
        &BrokerConfig { url: Secret::new("http://u:s3cret-password@host"), ..BrokerConfig::default() },
        conformance::namespaces(),
        "r".to_owned(),
    );
    let url = url.err().expect("not a Redis URL");
    assert!(!format!("{error} {error:?} {read} {url} {url:?}").contains("s3cret"), "{error} {read} {url}");
}
