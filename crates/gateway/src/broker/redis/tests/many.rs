//! The number of channels that one replica may come to hold.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crewcast_events::Channel;
use crewcast_store::Transport;
use crewcast_test_servers::RedisServer;

use super::{config, started};
use crate::broker::{
    Link, PubSub,
    conformance::{TestSink, channel},
};

const CHANNELS: usize = 50_000;
/// Generous: a third of a second is usual.
const BOUND: Duration = Duration::from_secs(5);

/// Waits until the link is up for the `times`th time, and returns how long it took.
async fn up_again(sink: &TestSink, times: usize) -> Duration {
    let since = Instant::now();
    let ups = |sink: &TestSink| sink.links().iter().filter(|link| **link == Link::Up).count();
    sink.until("the link is up again", |sink| ups(sink) == times).await;
    since.elapsed()
}

/// The number of subscribed channels, as Redis reports it.
async fn subscribed(server: &RedisServer) -> usize {
    server.command::<Vec<String>>(&["PUBSUB", "CHANNELS", "graph:*"]).await.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_channels_are_subscribed_again_before_the_link_is_up() {
    let mut server = RedisServer::start();
    let (broker, sink) = started(&config(&server), "many").await;
    let channels: Vec<Channel> = (0..CHANNELS).map(|n| channel(&format!("graph:c{n}"))).collect();
    let since = Instant::now();
    for batch in channels.chunks(1000) {
        broker.subscribe(batch).await.unwrap();
    }
    let first = since.elapsed();
    assert_eq!(subscribed(&server).await, CHANNELS);

    let killed: u32 = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(killed, 1);
    let cut = up_again(&sink, 2).await;
    assert_eq!(subscribed(&server).await, CHANNELS);

    server.kill();
    server.restart();
    let restarted = up_again(&sink, 3).await;
    assert_eq!(subscribed(&server).await, CHANNELS);

    println!("{CHANNELS} channels: {first:?} at first, {cut:?} after a cut, {restarted:?} after a restart");
    assert!(first.max(cut).max(restarted) < BOUND);
    // A sample of one in a hundred shows that messages arrive.
    sink.clear();
    for channel in channels.iter().step_by(100) {
        broker.publish_live(channel, Bytes::from_static(br#"{"type":"x"}"#)).await.unwrap();
    }
    broker.barrier().await.unwrap();
    assert_eq!(sink.count(), CHANNELS / 100);
}
