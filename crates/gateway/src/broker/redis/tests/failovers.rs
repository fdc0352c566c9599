//! Another server takes over: elected by Sentinels, by a Cluster, or because a slot moves.

use std::time::Duration;

use crewcast_store::slot_of;
use crewcast_test_servers::{Cluster, Program, SentinelGroup};

use super::{
    outages::{all_deliver, channels, link_became},
    *,
};
use crate::broker::conformance::{append, channel, eventually};

fn at(url: String) -> BrokerConfig {
    BrokerConfig { url: Secret::new(url), ..BrokerConfig::default() }
}

const FELL_AND_CAME_BACK: [Link; 3] = [Link::Up, Link::Down, Link::Up];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_masters_death_the_broker_follows_the_sentinels_choice() {
    let mut group = SentinelGroup::start();
    let (broker, sink) = started(&at(group.url()), "r").await;
    let channels = channels(300);
    broker.subscribe(&channels).await.unwrap();
    let before = append(&*broker, &channels[0], &[1, 2, 3]).await;
    let _: i64 = group.servers[0].run(&[b"WAIT", b"2", b"5000"]);
    let old = group.master();
    group.servers[old].kill();
    link_became(&sink, &[Link::Up, Link::Down]).await;
    group.failed_over(old);
    link_became(&sink, &FELL_AND_CAME_BACK).await;
    all_deliver(&broker, &sink, &channels).await;
    let page = broker.history(&channels[0], 0, 10).await.unwrap();
    assert_eq!((page.head, page.entries.len()), (before.last().copied(), 3), "read from the new master");
    assert!(broker.probe().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_leaves_a_master_that_is_deposed_alive() {
    let group = SentinelGroup::start();
    let (broker, sink) = started(&at(group.url()), "r").await;
    let channels = channels(300);
    broker.subscribe(&channels).await.unwrap();
    let old = group.master();
    group.fail_over();
    group.failed_over(old);
    link_became(&sink, &FELL_AND_CAME_BACK).await;
    all_deliver(&broker, &sink, &channels).await;
    let clients = group.servers[old].clients();
    assert!(!clients.iter().any(|client| client.contains("crewcast-sub")), "{clients:?}");
}

/// The master hangs, another takes over, and the old one resumes as if it were still the master.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_hangs_and_resumes_is_not_trusted() {
    let group = SentinelGroup::start();
    let (broker, sink) = started(&at(group.url()), "r").await;
    let channels = channels(300);
    broker.subscribe(&channels).await.unwrap();
    let old = group.master();
    group.servers[old].pause();
    link_became(&sink, &[Link::Up, Link::Down]).await;
    group.failed_over(old);
    group.servers[old].resume();
    link_became(&sink, &FELL_AND_CAME_BACK).await;
    all_deliver(&broker, &sink, &channels).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_cluster_masters_death_the_broker_follows_its_replica() {
    let mut cluster = Cluster::start();
    let (broker, sink) = started(&at(cluster.url()), "r").await;
    // On all three masters.
    let channels = channels(300);
    broker.subscribe(&channels).await.unwrap();
    all_deliver(&broker, &sink, &channels).await;
    let slot = slot_of(channels[0].as_str().as_bytes());
    let old = cluster.holder(slot).unwrap();
    cluster.servers[old].kill();
    link_became(&sink, &[Link::Up, Link::Down]).await;
    cluster.failed_over(slot, old);
    link_became(&sink, &FELL_AND_CAME_BACK).await;
    all_deliver(&broker, &sink, &channels).await;
    assert!(broker.probe().await.is_ok());
}

/// Only the channels of that slot are affected: they are reported as possibly having missed messages, and continue at
/// the new server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_takes_its_channels_along() {
    let cluster = Cluster::start();
    let (broker, sink) = started(&at(cluster.url()), "r").await;
    let channels = channels(300);
    broker.subscribe(&channels).await.unwrap();
    let moving = channel("graph:c7");
    let ids = append(&*broker, &moving, &[1, 2, 3]).await;
    let slot = slot_of(moving.as_str().as_bytes());
    let from = cluster.holder(slot).unwrap();
    let to = (0..3).find(|index| *index != from).unwrap();
    for to in [to, from, to] {
        let before = sink.missed_channels().len();
        cluster.move_slot(slot, to);
        sink.until("the channel is reported as missed", |sink| sink.missed_channels()[before..].contains(&moving))
            .await;
    }
    assert_eq!(sink.links(), [Link::Up], "the link stays up for the other channels");
    all_deliver(&broker, &sink, &channels).await;
    let more = append(&*broker, &moving, &[4]).await;
    assert!(more[0].continues(ids.last().copied()), "the log has moved too");
}

/// A plain PUBLISH goes to every server of the Cluster. The old server must not forward it, or it would arrive twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_publish_arrives_once_after_its_slot_has_moved() {
    let cluster = Cluster::start();
    let (broker, sink) = started(&at(cluster.url()), "r").await;
    let (moving, last) = (channel("graph:c7"), channel("graph:last"));
    broker.subscribe(&[moving.clone(), last.clone()]).await.unwrap();
    let slot = slot_of(moving.as_str().as_bytes());
    let from = cluster.holder(slot).unwrap();
    let to = (0..3).find(|index| *index != from).unwrap();
    cluster.move_slot(slot, to);
    sink.until("the channel is reported as missed", |sink| sink.missed_channels().contains(&moving)).await;
    let names = || cluster.servers[from].run::<Vec<String>>(&[b"PUBSUB", b"CHANNELS", moving.as_str().as_bytes()]);
    eventually("the old server is left", async || names().is_empty()).await;
    for n in 0..10 {
        cluster.servers[n % 3].publish(moving.as_str(), format!(r#"{{"type":"n","n":{n}}}"#).as_bytes());
    }
    sink.messages(moving.as_str(), 10).await;
    assert!(broker.probe().await.is_ok());
    assert_eq!(sink.of(moving.as_str()).len(), 10, "each arrives once");
}

/// No server replaces a master without a replica: the others are not asked for the topology in a tight loop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_part_of_a_cluster_is_polled_at_a_slow_pace() {
    let options = ["--cluster-require-full-coverage", "no"];
    let mut cluster = Cluster::start_program(Program::Redis, &options).expect("redis-server");
    let (_broker, sink) = started(&at(cluster.url()), "r").await;
    [5, 2].into_iter().for_each(|server| cluster.servers[server].kill());
    link_became(&sink, &[Link::Up, Link::Down]).await;
    let looks = || {
        let count = |server: &RedisServer| {
            let stats: String = server.try_run(&[b"INFO", b"commandstats"]).unwrap_or_default();
            let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_cluster|slots:calls="));
            calls.and_then(|calls| calls.split(',').next()?.parse::<usize>().ok()).unwrap_or(0)
        };
        cluster.servers.iter().map(count).sum::<usize>()
    };
    let before = looks();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let asked = looks() - before;
    // Every 20 ms, plus 200 ms on average: 18. At the initial pace it would be 90.
    assert!((2..=45).contains(&asked), "asked {asked} times in 4 s");
}

/// A planned failover, as before an upgrade: the old master stays as a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_leaves_a_cluster_master_that_steps_down() {
    let cluster = Cluster::start();
    let (broker, sink) = started(&at(cluster.url()), "r").await;
    let channels = channels(300);
    broker.subscribe(&channels).await.unwrap();
    let slot = slot_of(channels[0].as_str().as_bytes());
    let old = cluster.holder(slot).unwrap();
    cluster.fail_over(slot);
    cluster.failed_over(slot, old);
    let probe = async || broker.probe().await.is_ok();
    eventually("the new master is followed", probe).await;
    let left = || !cluster.servers[old].clients().iter().any(|client| client.contains("crewcast-sub"));
    eventually("the old master is left", async || left()).await;
    all_deliver(&broker, &sink, &channels).await;
}

/// Servers without sharded pub/sub are upgraded in place: publishers shard from then on, and their messages arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_before_and_after_an_upgrade_to_sharded_pubsub() {
    let Some(mut cluster) = Cluster::start_program(Program::Redis62, &[]) else { return };
    let (broker, sink) = started(&at(cluster.url()), "r").await;
    let channels = channels(30);
    broker.subscribe(&channels).await.unwrap();
    all_deliver(&broker, &sink, &channels).await;
    cluster.servers.iter_mut().for_each(|server| server.kill());
    link_became(&sink, &[Link::Up, Link::Down]).await;
    cluster.servers.iter_mut().for_each(|server| server.restart_as(Program::Redis));
    let probe = async || broker.probe().await.is_ok();
    eventually("the servers are back", probe).await;
    all_deliver(&broker, &sink, &channels).await;
    let is_sharded = async || {
        let redis = super::super::connect(&at(cluster.url()), 1).unwrap();
        let channels: Vec<String> =
            redis::cmd("PUBSUB").arg("SHARDCHANNELS").query_async(&mut redis.shared()).await.unwrap();
        !channels.is_empty()
    };
    assert!(is_sharded().await);
}

/// A user that may not ask whether a server knows sharded pub/sub would miss half of what is published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_cannot_ask_for_sharded_pubsub_fails() {
    let cluster = Cluster::start();
    for server in &cluster.servers {
        let _: () = server.command(&["ACL", "SETUSER", "blind", "on", ">secret", "~*", "&*", "+@all", "-info"]).await;
    }
    let url = cluster.url().replace("redis+cluster://", "redis+cluster://blind:secret@");
    let broker = RedisBroker::new(&at(url), conformance::namespaces(), "r".to_owned()).unwrap();
    let error = broker.start(Arc::new(TestSink::default())).await.unwrap_err();
    assert!(error.to_string().contains("NOPERM"), "{error}");
}
