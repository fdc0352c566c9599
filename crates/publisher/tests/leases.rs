//! Leases: held, renewed in the background, released.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crewcast_events::Keys;
use crewcast_publisher::{LeaseStep, MAX_LEASE_TTL, Outcome, Publisher, RunOutcome};
use serde_json::{Value, json};

use crate::support::{Fake, Meddling, RedisServer, channel, eyes, until};

const SECOND: Duration = Duration::from_secs(1);

/// The leases of a channel in Redis: by name, what was published of them and their `about`.
async fn leases(server: &RedisServer, name: &str) -> HashMap<String, (String, Value)> {
    let mut redis = eyes(server).await;
    let key = Keys::default().leases(&channel(name));
    let all: HashMap<String, String> = redis::cmd("HGETALL").arg(key).query_async(&mut redis).await.unwrap();
    let read = |value: String| {
        let parts: Vec<&str> = value.splitn(4, ':').collect();
        (parts[2].to_owned(), serde_json::from_str(parts[3]).unwrap())
    };
    all.into_iter().map(|(name, value)| (name, read(value))).collect()
}

async fn sent(publisher: &Publisher) {
    until("everything is sent", async || publisher.queued() == 0).await;
}

#[tokio::test]
async fn tool_calls_and_runs_hold_leases_where_it_is_on() {
    let server = RedisServer::start();
    let publisher = Publisher::builder().leases(30 * SECOND).connect(&server.url()).await.unwrap();
    let run = publisher.run("r1").with_crew("abc");
    run.boot(&());
    let call = publisher.tools("abc", "r1", "a1").start("search", &());
    let other = publisher.tools("abc", "r1", "a1").start("search", &());
    sent(&publisher).await;
    let graph = leases(&server, "graph:abc").await;
    assert_eq!(graph.len(), 2, "each call has its own: {graph:?}");
    for id in [call.call_id(), other.call_id()] {
        let about = json!({"crew_id": "abc", "run_id": "r1", "agent_id": "a1", "tool": "search", "call_id": id});
        assert_eq!(graph[&format!("tool:{id}")], ("0".to_owned(), about));
    }
    let about = json!({"run_id": "r1", "crew_id": "abc"});
    assert_eq!(leases(&server, "run:r1").await, HashMap::from([("run:r1".to_owned(), ("0".to_owned(), about))]));

    call.end(0, Outcome::Success);
    run.done(RunOutcome::Success, SECOND, None);
    sent(&publisher).await;
    assert_eq!(leases(&server, "graph:abc").await.len(), 1);
    assert!(leases(&server, "run:r1").await.is_empty());
    drop(other);
    sent(&publisher).await;
    assert!(leases(&server, "graph:abc").await.is_empty());
    // `boot` by one emitter, `done` by another.
    let booted = publisher.run("r2");
    booted.boot(&());
    publisher.run("r2").done(RunOutcome::Success, SECOND, None);
    sent(&publisher).await;
    assert!(leases(&server, "run:r2").await.is_empty());
}

#[tokio::test]
async fn leases_are_off_by_default() {
    let server = RedisServer::start();
    let publisher = Publisher::connect(&server.url()).await.unwrap();
    publisher.run("r1").boot(&());
    let _call = publisher.tools("abc", "r1", "a1").start("search", &());
    sent(&publisher).await;
    assert!(leases(&server, "graph:abc").await.is_empty());
    assert!(leases(&server, "run:r1").await.is_empty());
}

fn renewals(fake: &Fake) -> Vec<String> {
    fake.seen().into_iter().filter(|line| line.starts_with("renew")).collect()
}

#[tokio::test(start_paused = true)]
async fn all_leases_are_renewed_together_every_third_of_the_ttl() {
    let fake = Arc::new(Fake::default());
    let publisher = Publisher::builder().leases(30 * SECOND).with_transport(fake.clone());
    tokio::time::sleep(300 * SECOND).await;
    assert!(renewals(&fake).is_empty(), "there is nothing to renew");
    let tools = publisher.tools("abc", "r1", "a1");
    let calls: Vec<_> = (0..100).map(|_| tools.start("search", &())).collect();
    let run = publisher.run("r1");
    run.boot(&());
    tokio::time::sleep(10 * SECOND + SECOND / 2).await;
    assert_eq!(renewals(&fake), ["renew graph:abc 100, run:r1 1"], "one call for all of them");
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(renewals(&fake).len(), 7);
    drop(calls);
    let clone = run.clone();
    drop(run);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(renewals(&fake)[7..], ["renew run:r1 1"]);
    drop(clone);
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(renewals(&fake).len(), 8, "a run without emitters is not renewed");
}

#[tokio::test(start_paused = true)]
async fn events_hold_the_lease_no_more_often_than_it_is_renewed() {
    let recording = Arc::new(Meddling::recording(Fake::default()));
    let publisher = Publisher::builder().leases(30 * SECOND).with_transport(recording.clone());
    let call = publisher.tools("abc", "r1", "a1").start("search", &());
    for _ in 0..60 {
        tokio::time::sleep(SECOND / 2).await;
        call.progress("on", None);
    }
    call.end(0, Outcome::Success);
    sent(&publisher).await;
    let appends = recording.appends.lock();
    let steps: Vec<Option<bool>> = appends
        .iter()
        .flat_map(|append| &append.entries)
        .map(|entry| entry.lease.as_ref().map(|step| matches!(step, LeaseStep::Hold { .. })))
        .collect();
    let held: Vec<usize> = (0..steps.len()).filter(|&n| steps[n] == Some(true)).collect();
    assert_eq!((held, steps[61]), (vec![0, 20, 40, 60], Some(false)), "{steps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_again_within_a_second() {
    let fake = Arc::new(Fake::default());
    let publisher = Publisher::builder().leases(30 * SECOND).with_transport(fake.clone());
    let _call = publisher.tools("abc", "r1", "a1").start("search", &());
    sent(&publisher).await;
    fake.set_away(true);
    tokio::time::sleep(20 * SECOND).await;
    assert!(renewals(&fake).is_empty());
    fake.set_away(false);
    tokio::time::sleep(SECOND * 3 / 2).await;
    assert_eq!(renewals(&fake), ["renew graph:abc 1"]);
    // Closed: nothing is renewed any more, although the call is still held.
    publisher.close(SECOND).await;
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(renewals(&fake).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_is_brought_inside_its_bounds() {
    let fake = Arc::new(Fake::default());
    let publisher = Publisher::builder().leases(Duration::ZERO).with_transport(fake.clone());
    let _call = publisher.tools("abc", "r1", "a1").start("search", &());
    tokio::time::sleep(SECOND).await;
    assert!((2..=3).contains(&renewals(&fake).len()), "every third of a second: {:?}", renewals(&fake));
    let fake = Arc::new(Fake::default());
    let publisher = Publisher::builder().leases(Duration::MAX).with_transport(fake.clone());
    let _call = publisher.tools("abc", "r1", "a1").start("search", &());
    tokio::time::sleep(MAX_LEASE_TTL / 3 + SECOND).await;
    assert_eq!(renewals(&fake).len(), 1);
}
