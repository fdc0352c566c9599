//! Publishing to several servers: replicas that must have an event, the master of a Sentinel group, a Cluster.

use std::time::Duration;

use crewcast_events::{EventId, Keys, Namespaces};
use crewcast_publisher::{AppendError, Publisher, RedisClient, RedisTransport, Tls, Transport, WaitReplicas, slot_of};
use crewcast_test_servers::{Cluster, Program, RedisServer, SentinelGroup};
use serde_json::json;

use crate::support::{channel, eventually, log, numbered};

fn waiting(url: &str, replicas: u32) -> RedisTransport {
    let redis = RedisClient::new(url, &Tls::default(), 2, "test").unwrap();
    let wait = WaitReplicas { replicas, timeout: Duration::from_millis(300) };
    RedisTransport::new(redis, Keys::default(), String::new(), Namespaces::default()).wait_replicas(Some(wait))
}

#[tokio::test]
async fn an_append_waits_for_its_replicas_and_a_retry_duplicates_nothing() {
    let master = RedisServer::start();
    let port = master.port.to_string();
    let mut replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
    let transport = waiting(&master.url(), 1);
    let ids = eventually_appended(&transport, "graph:a", 1).await;
    assert_eq!(log(&replica, "graph:a").await.len(), 1, "it is there when the append returns");
    replica.kill();
    let append = numbered("graph:a", "p", 2, 3);
    let error = transport.append(&append).await.unwrap_err();
    assert_eq!(error, AppendError::Unavailable("0 of 1 replicas have it".to_owned()));
    // On another connection, which has written nothing: the retry must not count as replicated.
    let other = waiting(&master.url(), 1);
    assert!(matches!(other.append(&append).await, Err(AppendError::Unavailable(_))));
    replica.restart();
    let mut more = Err(error);
    eventually(async || {
        more = other.append(&append).await;
        more.is_ok()
    })
    .await;
    assert_eq!(log(&replica, "graph:a").await.len(), 4);
    let ids: Vec<EventId> = ids.into_iter().chain(more.unwrap().into_iter().flatten()).collect();
    assert!(ids.windows(2).all(|pair| pair[1].continues(Some(pair[0]))), "{ids:?}");
}

async fn eventually_appended(transport: &RedisTransport, name: &str, first: u64) -> Vec<EventId> {
    let append = numbered(name, "p", first, 1);
    let mut ids = Vec::new();
    eventually(async || match transport.append(&append).await {
        Ok(appended) => {
            ids = appended.into_iter().flatten().collect();
            true
        }
        Err(_) => false,
    })
    .await;
    ids
}

/// The master dies while events are emitted. With `WAIT` no confirmed event is lost, and none is duplicated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_costs_no_event_that_replicas_had() {
    let mut group = SentinelGroup::start();
    let wait = WaitReplicas { replicas: 2, timeout: Duration::from_millis(500) };
    // Two of three servers remain, and one of them becomes the master: from then on there is only one replica.
    let publisher = Publisher::builder().wait_replicas(wait).connect(&group.url()).await.unwrap();
    let publish = |numbers: std::ops::Range<u32>| {
        numbers.for_each(|n| publisher.publish("run:r1", &json!({"type": "step", "n": n})).unwrap());
    };
    publish(0..200);
    eventually(async || publisher.stats().published >= 100).await;
    let old = group.master();
    group.servers[old].kill();
    publish(200..400);
    let new = group.failed_over(old);
    group.servers[old].restart();
    assert_eq!(publisher.close(Duration::from_secs(30)).await.events, 0);
    let numbers: Vec<u64> = log(&group.servers[new], "run:r1").await.iter().map(|message| number_of(message)).collect();
    assert_eq!(numbers, (0..400).collect::<Vec<u64>>());
}

fn number_of(message: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(message).unwrap()["n"].as_u64().unwrap()
}

/// Channels on all masters. One master dies, and a slot moves meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_takes_events_across_a_dead_master_and_a_moved_slot() {
    const CHANNELS: usize = 12;
    const EVENTS: u64 = 60;
    let mut cluster = Cluster::start();
    let wait = WaitReplicas { replicas: 1, timeout: Duration::from_millis(500) };
    let names: Vec<String> = (0..CHANNELS).map(|n| format!("graph:c{n}")).collect();
    let publisher = Publisher::builder().connect(&cluster.url()).await.unwrap();
    let careful = Publisher::builder().wait_replicas(wait).connect(&cluster.url()).await.unwrap();
    let slot = slot_of(names[0].as_bytes());
    let holder = cluster.holder(slot).unwrap();
    let victim = (0..3).find(|index| *index != holder).unwrap();
    let victims_slot = [0, 8000, 16000].into_iter().find(|slot| cluster.holder(*slot) == Some(victim)).unwrap();
    for n in 0..EVENTS {
        if n == EVENTS / 3 {
            let to = (0..3).find(|index| *index != holder && *index != victim).unwrap();
            cluster.move_slot(slot, to);
        }
        if n == EVENTS / 2 {
            // Events on the failing master were replicated or are settled: no confirmed event is lost with it.
            eventually(async || publisher.queued() + careful.queued() == 0).await;
            for server in &cluster.servers[..3] {
                let _: i64 = server.run(&[b"WAIT", b"1", b"5000"]);
            }
            cluster.servers[victim].kill();
        }
        for name in &names {
            publisher.publish(name, &json!({"type": "step", "n": n})).unwrap();
            careful.publish(&format!("{name}-w"), &json!({"type": "step", "n": n})).unwrap();
        }
    }
    // Restarted before a replica takes over, the server would be the master again, and empty.
    cluster.failed_over(victims_slot, victim);
    cluster.servers[victim].restart();
    assert_eq!(publisher.close(Duration::from_secs(30)).await.events, 0);
    assert_eq!(careful.close(Duration::from_secs(30)).await.events, 0);
    let redis = RedisClient::new(&cluster.url(), &Tls::default(), 1, "test").unwrap();
    for name in names.iter().flat_map(|name| [name.clone(), format!("{name}-w")]) {
        let key = Keys::default().log(&channel(&name));
        let mut range = redis::cmd("LRANGE");
        range.arg(key).arg(0).arg(-1);
        let messages: Vec<String> = range.query_async(&mut redis.shared()).await.unwrap();
        let numbers: Vec<u64> = messages.iter().map(|message| number_of(message)).collect();
        assert_eq!(numbers, (0..EVENTS).collect::<Vec<u64>>(), "{name}");
    }
}

/// The servers do not have the script yet, and one of them is down: the others receive it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_does_not_keep_the_others_from_learning_the_script() {
    let options = ["--cluster-require-full-coverage", "no"];
    let mut cluster = Cluster::start_program(Program::Redis, &options).expect("redis-server");
    let redis = RedisClient::new(&cluster.url(), &Tls::default(), 2, "test").unwrap();
    let transport = RedisTransport::new(redis, Keys::default(), String::new(), Namespaces::default());
    let victim = cluster.holder(slot_of(b"graph:c0")).unwrap();
    let name =
        (1..).map(|n| format!("graph:c{n}")).find(|name| cluster.holder(slot_of(name.as_bytes())) != Some(victim));
    let name = name.unwrap();
    // Its replica first, so that no server takes over.
    cluster.servers[victim + 3].kill();
    cluster.servers[victim].kill();
    let holder = cluster.holder(slot_of(name.as_bytes())).unwrap();
    for first in 1..=3 {
        let _: () = cluster.servers[holder].run(&[b"SCRIPT", b"FLUSH"]);
        assert_eq!(transport.append(&numbered(&name, "p", first, 1)).await.map(|ids| ids.len()), Ok(1));
    }
}
