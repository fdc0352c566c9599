//! One replica stores live values, another takes over.

use bytes::Bytes;
use crewcast_events::{EventId, Keys};
use crewcast_store::Transport;

use crewcast_test_servers::RedisServer;

use super::{config, started};
use crate::broker::{
    LogStore, PubSub,
    conformance::{append, channel, eventually},
    redis::RedisBroker,
};

fn live(n: u32) -> Bytes {
    format!(r#"{{"type":"signal","n":{n}}}"#).into()
}

async fn retained(broker: &RedisBroker, name: &str) -> Option<Bytes> {
    broker.snapshots(&[channel(name)]).await.unwrap().remove(0).retained
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captures_continue_after_the_holder_closes() {
    let server = RedisServer::start();
    let (one, _) = started(&config(&server), "one").await;
    let mission = channel("mission:abc");
    one.publish_live(&mission, live(1)).await.unwrap();
    eventually("the first captures", async || retained(&one, "mission:abc").await == Some(live(1))).await;
    let (two, _) = started(&config(&server), "two").await;
    let lease = Keys::default().capture_lease();
    let holder: String = server.command(&["GET", &lease]).await;
    assert!(holder.starts_with("one:"), "{holder}");
    one.close().await;
    two.publish_live(&mission, live(2)).await.unwrap();
    eventually("the second captures", async || retained(&two, "mission:abc").await == Some(live(2))).await;
    let holder: String = server.command(&["GET", &lease]).await;
    assert!(holder.starts_with("two:"), "{holder}");
}

/// A holder dies without releasing its lease: the next one stores what was published in the meantime.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_holder_dies() {
    let server = RedisServer::start();
    let lease = Keys::default().capture_lease();
    let _: String = server.command(&["SET", &lease, "dead", "PX", "5000"]).await;
    let (broker, _) = started(&config(&server), "heir").await;
    for n in 0..200 {
        broker.publish_live(&channel(&format!("mission:c{n}")), live(n)).await.unwrap();
    }
    assert_eq!(retained(&broker, "mission:c0").await, None, "another replica holds the lease");
    for n in 0..200 {
        let name = format!("mission:c{n}");
        eventually("the messages of that time are stored", async || retained(&broker, &name).await == Some(live(n)))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_captured_value_lives_as_long_as_the_head() {
    let server = RedisServer::start();
    let (broker, _) = started(&config(&server), "r").await;
    broker.publish_live(&channel("mission:abc"), live(1)).await.unwrap();
    eventually("captured", async || retained(&broker, "mission:abc").await.is_some()).await;
    let ttl: u64 = server.command(&["TTL", &Keys::default().retained(&channel("mission:abc"))]).await;
    let month_and_day = 31 * 24 * 3600;
    assert!((month_and_day - 60..=month_and_day).contains(&ttl), "{ttl}");
}

/// An event that only looks logged cannot replace the retained one: the head does not match it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_event_is_not_retained() {
    let server = RedisServer::start();
    let (broker, _) = started(&config(&server), "r").await;
    let mission = channel("mission:abc");
    append(&*broker, &mission, &[1]).await;
    broker.publish_live(&mission, live(1)).await.unwrap();
    eventually("captured", async || retained(&broker, "mission:abc").await == Some(live(1))).await;
    let forged = EventId::after(None, *b"forged");
    let forged = Bytes::from(format!(r#"{{"id":"{forged}","type":"signal"}}"#));
    broker.publish_live(&mission, forged.clone()).await.unwrap();
    // Another channel's capture, received later, is written after it.
    broker.publish_live(&channel("mission:later"), live(2)).await.unwrap();
    eventually("captured", async || retained(&broker, "mission:later").await == Some(live(2))).await;
    assert_eq!(retained(&broker, "mission:abc").await, Some(live(1)));
}
