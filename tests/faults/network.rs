//! The network between Redis and one replica, or the producer, fails. The other replicas are not affected.

use std::time::Duration;

use crewcast_test_servers::{Proxy, RedisServer};

use crate::stage::{Setup, Stage};

/// Longer than a silent connection is kept: one second of the heartbeat and five seconds for its answer.
const LONGER_THAN_THE_HEARTBEAT: Duration = Duration::from_secs(8);

async fn set_up(redis: &RedisServer) -> Stage {
    Stage::start(redis, Setup { proxied: true, ..Setup::default() }).await
}

fn link(stage: &Stage) -> &Proxy {
    stage.replicas[0].proxy.as_ref().expect("each replica has a proxy")
}

/// Waits until the first replica has reconnected `count` times.
async fn reconnected(stage: &Stage, count: usize) {
    let back = async || stage.replicas[0].reconnects().await >= count as f64;
    stage.until_async("the link is back", back).await;
}

/// Checks the verdict, and that the other replicas never reconnected.
async fn finish(stage: &Stage, redis: &RedisServer, fault: &str) {
    let verdict = stage.finish(redis, fault).await;
    for other in &stage.replicas[1..] {
        assert_eq!(other.reconnects().await, 0.0, "the fault affected another replica");
    }
    assert!(stage.readers.iter().all(|reader| reader.sockets() == 1), "the fault closed a socket");
    verdict.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_and_refused() {
    let redis = RedisServer::start();
    let stage = set_up(&redis).await;
    for round in 1..=5 {
        link(&stage).refuse();
        let down = async || stage.replicas[0].gateway.metric("crewcast_broker_up", "").await == 0.0;
        stage.until_async("the link is down", down).await;
        link(&stage).forward();
        reconnected(&stage, round).await;
        stage.flow(10).await;
    }
    assert!(link(&stage).cuts() >= 5);
    finish(&stage, &redis, "network to one replica cut, five times").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_events_before_a_silence_published_during_a_cut() {
    let redis = RedisServer::start();
    let stage = set_up(&redis).await;
    link(&stage).refuse();
    let down = async || stage.replicas[0].gateway.metric("crewcast_broker_up", "").await == 0.0;
    stage.until_async("the link is down", down).await;
    stage.producer.burst(10, 100);
    let last = stage.producer.pause();
    let others = || stage.readers.iter().filter(|reader| reader.last() == last).count();
    stage.until("the others have them", || others() == 8).await;
    link(&stage).forward();
    // No later event shows that something is missing.
    finish(&stage, &redis, "network to one replica cut before a silence").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_inside_a_message() {
    let redis = RedisServer::start();
    let stage = set_up(&redis).await;
    for round in 1..=10 {
        // Larger than the answer to a ping and smaller than a message, so that events and pages of logs are cut.
        link(&stage).cut_inside(60 + 8 * round);
        stage.until("a message is cut", || link(&stage).cuts() >= round).await;
        stage.flow(10).await;
    }
    reconnected(&stage, 5).await;
    finish(&stage, &redis, "network to one replica cut inside a message, ten times").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_delayed() {
    const LATE: Duration = Duration::from_millis(400);
    let redis = RedisServer::start();
    let stage = set_up(&redis).await;
    link(&stage).delay(LATE);
    stage.flow(100).await;
    let silence = stage.readers.iter().map(|reader| reader.seen().silence).max();
    assert!(silence > Some(LATE - Duration::from_millis(50)), "nothing was delayed: {silence:?}");
    // Cut while delayed: the reads of the repair are delayed, too.
    link(&stage).cut();
    reconnected(&stage, 1).await;
    stage.flow(100).await;
    link(&stage).forward();
    finish(&stage, &redis, "network to one replica slow by 400 ms, and cut").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_for_longer_than_the_heartbeat() {
    let redis = RedisServer::start();
    let stage = set_up(&redis).await;
    link(&stage).black_hole();
    // The fault itself.
    tokio::time::sleep(LONGER_THAN_THE_HEARTBEAT).await;
    assert_eq!(stage.replicas[0].gateway.metric("crewcast_broker_up", "").await, 0.0, "the heartbeat did not notice");
    link(&stage).forward();
    reconnected(&stage, 1).await;
    stage.flow(20).await;
    finish(&stage, &redis, "network to one replica a black hole for 8 s").await;
}

/// The script has run, but the producer does not know. A retry with another number would log the events twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_producers_answers_cut() {
    let redis = RedisServer::start();
    let stage = set_up(&redis).await;
    let link = stage.producer_link.as_ref().expect("the producer has a proxy");
    for round in 1..=10 {
        link.cut_inside(1);
        stage.until("an answer is cut", || link.cuts() >= round).await;
        stage.flow(10).await;
    }
    assert!(stage.producer.retried() >= 10, "expected a retry for each cut: {}", stage.producer.retried());
    stage.finish(&redis, "the producer's answers cut, ten times").await.assert_whole();
}

/// Longer than the timeout of the producer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_producer_in_a_black_hole() {
    let redis = RedisServer::start();
    let stage = set_up(&redis).await;
    let link = stage.producer_link.as_ref().expect("the producer has a proxy");
    let before = stage.producer.retried();
    link.black_hole();
    stage.until("the producer gives up waiting", || stage.producer.retried() > before).await;
    link.forward();
    stage.flow(50).await;
    stage.finish(&redis, "network to the producer a black hole for longer than it waits").await.assert_whole();
}
