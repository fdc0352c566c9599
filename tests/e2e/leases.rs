//! Lease expiry: producers in separate processes are killed and frozen while several replicas watch.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use crewcast_publisher::Publisher;
use serde_json::{Value, json};

use crate::support::{
    eventually,
    gateway::{self, Gateway},
    redis::RedisServer,
    socket::{Socket, connect},
    token::token,
};

const URL: &str = "LEASES_TEST_URL";
const TTL: Duration = Duration::from_secs(5);

/// The producer process: starts a tool call of a run and never ends it.
#[ignore = "started by the others, as a process of its own"]
#[tokio::test]
async fn producer() {
    let publisher = Publisher::builder().leases(TTL).connect(&std::env::var(URL).unwrap()).await.unwrap();
    let run = publisher.run("r1").with_crew("abc");
    run.boot(&());
    let _call = publisher.tools("abc", "r1", "a1").start("search", &());
    std::future::pending::<()>().await;
}

struct Producer(Child);

impl Producer {
    fn start(redis: &RedisServer) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "leases::producer"]).env(URL, redis.url());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn replicas(redis: &RedisServer, count: usize) -> Vec<Gateway> {
    let lost = [("CREWCAST_NAMESPACES__GRAPH__LOST_AFTER", "2s"), ("CREWCAST_NAMESPACES__RUN__LOST_AFTER", "2s")];
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(gateway::on(redis, &lost).await);
    }
    all
}

/// A socket on each replica.
async fn sockets(replicas: &[Gateway], path: &str) -> Vec<Socket> {
    let token = token(json!({"crews": ["abc"], "runs": ["r1"]}));
    let mut all = Vec::new();
    for replica in replicas {
        all.push(connect(&replica.ws(path), Some(&token)).await);
    }
    all
}

/// The next event, which must be the same on every socket.
async fn next(sockets: &mut [Socket]) -> Value {
    let mut events = Vec::new();
    for socket in sockets {
        events.push(socket.event().await);
    }
    assert!(events.iter().all(|event| *event == events[0]), "{events:?}");
    events.remove(0)
}

fn types(redis: &RedisServer, channel: &str) -> Vec<String> {
    let log: Vec<String> = redis.run(&[b"LRANGE", format!("crewcast:{{{channel}}}:log").as_bytes(), b"0", b"-1"]);
    let kind = |text: &String| serde_json::from_str::<Value>(text).unwrap()["type"].as_str().unwrap().to_owned();
    log.iter().map(kind).collect()
}

/// The time of the last renewal of the run's lease, in milliseconds.
fn renewed(redis: &RedisServer) -> u64 {
    let lease: Option<String> = redis.run(&[b"HGET", b"crewcast:{run:r1}:leases", b"run:r1"]);
    lease.map_or(0, |lease| lease.split(':').next().unwrap().parse().unwrap())
}

/// Whether the channel still has a lease that may expire.
fn is_pending(redis: &RedisServer, channel: &str) -> bool {
    let due: u64 = redis.run(&[b"ZCARD", format!("crewcast:{{{channel}}}:due").as_bytes()]);
    due > 0
}

#[tokio::test]
async fn a_killed_producer_is_reported_stalled_and_lost_once_across_all_replicas() {
    let redis = RedisServer::start();
    let replicas = replicas(&redis, 3).await;
    let producer = Producer::start(&redis);
    let mut graph = sockets(&replicas, "/ws/graph/abc?since=0").await;
    let mut run = sockets(&replicas, "/ws/runs/r1").await;
    assert_eq!(next(&mut graph).await["type"], "tool_start");
    assert_eq!(next(&mut run).await["type"], "boot");
    let began = renewed(&redis);
    eventually("the producer has run for longer than its lease", || async {
        renewed(&redis) > began + TTL.as_millis() as u64 + 1000
    })
    .await;
    assert_eq!((types(&redis, "graph:abc"), types(&redis, "run:r1")), (vec!["tool_start".into()], vec!["boot".into()]));

    drop(producer);
    for expected in ["stalled", "lost"] {
        let told = next(&mut graph).await;
        assert_eq!(
            (&told["type"], &told["synthetic"], &told["tool"]),
            (&expected.into(), &true.into(), &"search".into())
        );
        let told = next(&mut run).await;
        assert_eq!(
            (&told["type"], &told["synthetic"], &told["run_id"]),
            (&expected.into(), &true.into(), &"r1".into())
        );
        assert!(told["silent_s"].as_f64().unwrap() >= TTL.as_secs_f64(), "{told}");
    }
    assert!(!is_pending(&redis, "graph:abc") && !is_pending(&redis, "run:r1"), "a lease is left");
    assert_eq!(types(&redis, "graph:abc"), ["tool_start", "stalled", "lost"]);
    assert_eq!(types(&redis, "run:r1"), ["boot", "stalled", "lost"]);
    // The second name is the metric's former one, exported for one more release.
    for metric in ["crewcast_lease_expirations_total", "crewcast_silences_told_total"] {
        for state in ["stalled", "lost"] {
            let mut published = 0.0;
            for replica in &replicas {
                published += replica.metric(metric, state).await;
            }
            assert_eq!(published, 2.0, "{metric} {state}: the run and the call");
        }
    }

    // A later reader sees the expiry as well, and the next process recovers the run with its own event.
    let mut late = sockets(&replicas[..1], "/ws/runs/r1").await;
    for expected in ["boot", "stalled", "lost"] {
        assert_eq!(next(&mut late).await["type"], expected);
    }
    let _producer = Producer::start(&redis);
    assert_eq!(next(&mut run).await["type"], "boot");
    assert!(is_pending(&redis, "run:r1"), "the run has no lease");
}

#[tokio::test]
async fn a_producer_that_freezes_and_recovers_is_reported_once_each_time() {
    let redis = RedisServer::start();
    let replicas = replicas(&redis, 2).await;
    let mut run = sockets(&replicas, "/ws/runs/r1").await;
    let producer = Producer::start(&redis);
    assert_eq!(next(&mut run).await["type"], "boot");
    for _ in 0..2 {
        producer.signal("STOP");
        assert_eq!(next(&mut run).await["type"], "stalled");
        producer.signal("CONT");
        let mut told = next(&mut run).await;
        if told["type"] == "lost" {
            told = next(&mut run).await;
        }
        assert_eq!((&told["type"], &told["synthetic"]), (&"recovered".into(), &true.into()), "{told}");
    }
}
