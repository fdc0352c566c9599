//! A replica is killed while clients read through it.

use std::time::Duration;

use crewcast_client::{Client, Delivery};
use crewcast_events::EventId;
use crewcast_publisher::Publisher;
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::support::{
    PATIENCE,
    balancer::Balancer,
    gateway::{self, Gateway},
    redis::{RedisServer, free_port},
    token::token,
};

const CLIENTS: usize = 20;
const EVENTS: u64 = 600;

/// What one client received: the ids until the end of the run, and the number of its connections.
struct Seen {
    ids: Vec<EventId>,
    sockets: usize,
    resets: usize,
}

/// A client that tails `run:r1` until its end and reports the number of events so far.
fn tail(url: String, progress: watch::Sender<usize>) -> JoinHandle<Seen> {
    let client = Client::builder(url).token(token(json!({ "runs": ["r1"] }))).build().unwrap();
    tokio::spawn(async move {
        let mut run = client.run("r1").connect();
        let mut seen = Seen { ids: Vec::new(), sockets: 0, resets: 0 };
        loop {
            match timeout(PATIENCE, run.next())
                .await
                .expect("a delivery in time")
                .expect("the subscription continues")
                .unwrap()
            {
                Delivery::Event { event, .. } => {
                    seen.ids.push(event.id().expect("a logged event"));
                    progress.send_replace(seen.ids.len());
                }
                Delivery::Connected { .. } => seen.sockets += 1,
                Delivery::Reset { .. } => seen.resets += 1,
                Delivery::End { .. } => return seen,
                _ => {}
            }
        }
    })
}

fn tails(url: &str) -> (Vec<JoinHandle<Seen>>, Vec<watch::Receiver<usize>>) {
    (0..CLIENTS)
        .map(|_| {
            let (sender, receiver) = watch::channel(0);
            (tail(url.to_owned(), sender), receiver)
        })
        .unzip()
}

async fn until_each_has(readers: &mut [watch::Receiver<usize>], count: usize) {
    for reader in readers {
        timeout(PATIENCE, reader.wait_for(|had| *had >= count)).await.expect("events in time").unwrap();
    }
}

/// Publishes steps of the run at an even pace, then its end.
fn publish(redis: &RedisServer) -> JoinHandle<()> {
    let url = redis.url();
    tokio::spawn(async move {
        let publisher = Publisher::connect(&url).await.unwrap();
        let mut pace = tokio::time::interval(Duration::from_millis(4));
        for n in 1..EVENTS {
            pace.tick().await;
            publisher.publish("run:r1", &json!({ "type": "step", "n": n })).unwrap();
        }
        publisher.publish("run:r1", &json!({ "type": "done", "status": "success" })).unwrap();
        assert_eq!(publisher.close(PATIENCE).await.events, 0);
    })
}

async fn assert_each_saw_everything_once(clients: Vec<JoinHandle<Seen>>) {
    for (n, client) in clients.into_iter().enumerate() {
        let seen = client.await.unwrap();
        let mut before = None;
        for id in &seen.ids {
            assert!(id.continues(before), "client {n}: {id} after {before:?}");
            before = Some(*id);
        }
        assert_eq!(seen.ids.len() as u64, EVENTS, "client {n}");
        assert_eq!(seen.resets, 0, "client {n}");
        assert!(seen.sockets > 1, "client {n} was never cut: the test shows nothing");
    }
}

#[tokio::test]
async fn no_event_is_lost_when_a_replica_is_killed_and_replaced() {
    let redis = RedisServer::start();
    let address = format!("127.0.0.1:{}", free_port());
    let settings = [("CREWCAST_LISTEN", address.as_str())];
    let mut replica = gateway::on(&redis, &settings).await;
    let (clients, mut readers) = tails(&replica.url(""));
    let publishing = publish(&redis);
    until_each_has(&mut readers, 100).await;
    replica.kill();
    let _successor = gateway::on(&redis, &settings).await;
    publishing.await.unwrap();
    assert_each_saw_everything_once(clients).await;
}

#[tokio::test]
async fn clients_of_a_killed_replica_continue_on_another() {
    let redis = RedisServer::start();
    let mut replicas: Vec<Gateway> = vec![gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    let balancer = Balancer::start(&replicas[0].public).await;
    let (clients, mut readers) = tails(&format!("http://{}", balancer.address));
    let publishing = publish(&redis);
    // To the other replica, and back to the address of the new one.
    until_each_has(&mut readers, 100).await;
    balancer.switch_to(&replicas[1].public);
    replicas[0].kill();
    until_each_has(&mut readers, 250).await;
    replicas[0] = gateway::on(&redis, &[]).await;
    balancer.switch_to(&replicas[0].public);
    replicas[1].kill();
    publishing.await.unwrap();
    assert_each_saw_everything_once(clients).await;
}
