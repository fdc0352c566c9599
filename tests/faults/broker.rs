//! Redis restarts, freezes, and cuts its connections.

use std::time::Duration;

use crewcast_test_servers::RedisServer;

use crate::stage::{Setup, Stage};

const PERSISTENT: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// How often each replica has reconnected to the broker so far.
async fn reconnects(stage: &Stage) -> Vec<f64> {
    let mut counts = Vec::new();
    for replica in &stage.replicas {
        counts.push(replica.reconnects().await);
    }
    counts
}

/// Waits until each replica has reconnected since `before` was read.
async fn all_reconnected(stage: &Stage, before: &[f64]) {
    let more = async || reconnects(stage).await.iter().zip(before).all(|(now, before)| now > before);
    stage.until_async("every replica's link is back", more).await;
}

/// Kills the connections of these types and returns how many.
async fn kill_clients(redis: &RedisServer, kinds: &[&str]) -> u64 {
    let mut killed = 0;
    for kind in kinds {
        killed += redis.command::<u64>(&["CLIENT", "KILL", "TYPE", kind]).await;
    }
    killed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_restarted_with_what_it_saved() {
    let mut redis = RedisServer::start_with(&PERSISTENT);
    let stage = Stage::start(&redis, Setup::default()).await;
    for _ in 0..2 {
        let before = reconnects(&stage).await;
        let told: Vec<usize> = stage.readers.iter().map(|reader| reader.seen().broker_down).collect();
        redis.kill();
        let all_told = || stage.readers.iter().zip(&told).all(|(reader, told)| reader.seen().broker_down > *told);
        stage.until("every reader is told that the broker is away", all_told).await;
        // The fault itself.
        tokio::time::sleep(Duration::from_secs(1)).await;
        redis.restart();
        all_reconnected(&stage, &before).await;
        stage.flow(20).await;
    }
    let verdict = stage.finish(&redis, "Redis killed twice, appendfsync always").await;
    assert!(stage.readers.iter().all(|reader| reader.sockets() == 1), "the fault closed a socket");
    verdict.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_frozen_for_three_seconds() {
    const FROZEN: Duration = Duration::from_secs(3);
    let redis = RedisServer::start();
    let stage = Stage::start(&redis, Setup::default()).await;
    redis.pause();
    // The fault itself.
    tokio::time::sleep(FROZEN).await;
    redis.resume();
    stage.flow(50).await;
    let verdict = stage.finish(&redis, "Redis frozen for 3 s").await;
    assert!(verdict.silence > FROZEN - Duration::from_millis(500), "the fault was not noticed: {:?}", verdict.silence);
    assert!(stage.readers.iter().all(|reader| reader.sockets() == 1), "the fault closed a socket");
    verdict.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_killed_ten_times() {
    let redis = RedisServer::start();
    let stage = Stage::start(&redis, Setup::default()).await;
    for _ in 0..10 {
        let before = reconnects(&stage).await;
        assert_eq!(kill_clients(&redis, &["pubsub"]).await, 3, "each replica subscribes with one connection");
        all_reconnected(&stage, &before).await;
        stage.flow(5).await;
    }
    stage.finish(&redis, "CLIENT KILL TYPE pubsub, ten times").await.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_killed_ten_times() {
    let redis = RedisServer::start();
    let stage = Stage::start(&redis, Setup::default()).await;
    for _ in 0..10 {
        let before = reconnects(&stage).await;
        let killed = kill_clients(&redis, &["normal", "pubsub"]).await;
        assert!(killed > 4, "expected connections of subscribers, the producer and commands: {killed}");
        all_reconnected(&stage, &before).await;
        stage.flow(5).await;
    }
    stage.finish(&redis, "every connection killed, ten times").await.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_cut_by_the_output_buffer_limit() {
    let redis = RedisServer::start_with(&["--client-output-buffer-limit", "pubsub", "64kb", "64kb", "0"]);
    let stage = Stage::start(&redis, Setup::default()).await;
    for _ in 0..3 {
        let before = reconnects(&stage).await;
        // Each event is larger than the output buffer limit.
        stage.producer.burst(5, 100 << 10);
        all_reconnected(&stage, &before).await;
        stage.flow(20).await;
    }
    let verdict = stage.finish(&redis, "output buffer limit hit, three times").await;
    verdict.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_down_for_longer_than_sockets_wait() {
    let mut redis = RedisServer::start_with(&PERSISTENT);
    let settings = vec![("CREWCAST_BROKER__PATIENCE", "2s".to_owned())];
    let stage = Stage::start(&redis, Setup { settings, ..Setup::default() }).await;
    redis.kill();
    let all_sent_away = || stage.readers.iter().all(|reader| reader.seen().cuts.contains(&Some(1013)));
    stage.until("every reader is sent away with 1013", all_sent_away).await;
    redis.restart();
    stage.flow(20).await;
    let verdict = stage.finish(&redis, "Redis away for longer than broker.patience").await;
    assert!(stage.readers.iter().all(|reader| reader.sockets() > 1), "a reader did not come back");
    verdict.assert_whole();
}
