//! Failovers with a batch whose answer was lost: no event is duplicated, however far replication had come.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{Channel, EventId, Keys};
use crewcast_publisher::{
    Append, AppendError, Once, Ownership, OwnershipMode, OwnershipOutcome, Publisher, RedisTransport, Stats, Transport,
};
use serde_json::{Value, json};

use crate::support::{Fake, Meddling, RedisServer, assert_chain, channel, eyes, log, transport, until};

const CLOSE: Duration = Duration::from_secs(20);

/// Two servers, one of which is used. Once `failing` is set, the next append runs on the master, and its answer is lost
/// with the master.
struct Failover {
    master: RedisTransport,
    replica: RedisTransport,
    failing: AtomicBool,
    failed: AtomicBool,
}

#[async_trait::async_trait]
impl Transport for Failover {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        if self.failed.load(Ordering::SeqCst) {
            return self.replica.append(append).await;
        }
        let answer = self.master.append(append).await;
        if self.failing.load(Ordering::SeqCst) {
            self.failed.store(true, Ordering::SeqCst);
            return Err(AppendError::Unavailable("the master is gone".to_owned()));
        }
        answer
    }

    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError> {
        self.master.publish_live(channel, message).await
    }

    async fn register(&self, ownership: &Ownership, mode: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        self.master.register(ownership, mode).await
    }
}

struct Pair {
    master: RedisServer,
    replica: RedisServer,
    transport: Arc<Failover>,
    publisher: Publisher,
}

impl Pair {
    async fn start() -> Self {
        // Immediately, instead of after five seconds.
        let master = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
        let replica = RedisServer::start();
        let port = master.url().rsplit(':').next().unwrap().to_owned();
        redis::cmd("REPLICAOF").arg("127.0.0.1").arg(port).exec_async(&mut eyes(&replica).await).await.unwrap();
        let failover = Failover {
            master: transport(&master),
            replica: transport(&replica),
            failing: AtomicBool::default(),
            failed: AtomicBool::default(),
        };
        let transport = Arc::new(failover);
        let publisher = Publisher::builder().with_transport(transport.clone());
        Self { master, replica, transport, publisher }
    }

    /// Emits the numbers and waits until the master has confirmed them.
    async fn confirm(&self, numbers: std::ops::RangeInclusive<u64>) {
        self.emit(numbers);
        until("they are confirmed", async || self.publisher.queued() == 0).await;
    }

    fn emit(&self, numbers: std::ops::RangeInclusive<u64>) {
        for n in numbers {
            self.publisher.publish("graph:a", &json!({"type": "x", "n": n})).unwrap();
        }
    }

    async fn replicated(&self) {
        let name = "graph:a";
        until("they are replicated", async || {
            log(&self.replica, name).await.len() == log(&self.master, name).await.len()
        })
        .await;
    }

    /// Cuts the replica off and promotes it.
    async fn promote(&self) {
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec_async(&mut eyes(&self.replica).await).await.unwrap();
    }

    /// The log of the new master in the end, when the answer for the batch 11 to 20 is lost.
    async fn outcome(self) -> (Vec<u64>, Stats) {
        self.emit(21..=30);
        assert_eq!(self.publisher.close(CLOSE).await.events, 0);
        let messages = log(&self.replica, "graph:a").await;
        assert_chain(&messages, None);
        let number = |message: &String| serde_json::from_str::<Value>(message).unwrap()["n"].as_u64().unwrap();
        (messages.iter().map(number).collect(), self.publisher.stats())
    }
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.collect()
}

#[tokio::test]
async fn a_replica_that_has_the_batch_answers_its_ids() {
    let pair = Pair::start().await;
    pair.confirm(1..=10).await;
    pair.replicated().await;
    pair.transport.failing.store(true, Ordering::SeqCst);
    pair.emit(11..=11);
    until("the answer is lost", async || pair.transport.failed.load(Ordering::SeqCst)).await;
    pair.replicated().await;
    pair.promote().await;
    pair.emit(12..=20);
    let (log, stats) = pair.outcome().await;
    assert_eq!((log, stats.dropped), (numbers(1..=30), 0));
}

#[tokio::test]
async fn a_replica_without_the_batch_takes_it_under_the_same_number() {
    let pair = Pair::start().await;
    pair.confirm(1..=10).await;
    pair.replicated().await;
    pair.promote().await;
    pair.transport.failing.store(true, Ordering::SeqCst);
    pair.emit(11..=20);
    let (log, stats) = pair.outcome().await;
    assert_eq!((log, stats), (numbers(1..=30), Stats { published: 30, retried: 1, dropped: 0, ..Stats::default() }));
}

#[tokio::test]
async fn a_replica_that_lacks_what_was_confirmed_gets_it_and_the_batch_once() {
    let pair = Pair::start().await;
    pair.confirm(1..=5).await;
    pair.replicated().await;
    pair.promote().await;
    // Confirmed, then lost by the failover: they are sent again.
    pair.confirm(6..=10).await;
    pair.transport.failing.store(true, Ordering::SeqCst);
    pair.emit(11..=20);
    let (log, stats) = pair.outcome().await;
    assert_eq!((log, stats.resent, stats.dropped), (numbers(1..=30), 5, 0));
}

/// A replica that lags or is still syncing lacks events of its master. A gap would look like a loss, and the batch
/// would be duplicated once the replica has caught up and is promoted.
#[tokio::test]
async fn a_replica_answers_no_gap() {
    let server = RedisServer::start();
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec_async(&mut eyes(&server).await).await.unwrap();
    let answer = transport(&server).append(&crate::support::numbered("graph:a", "p", 11, 1)).await;
    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
}

#[tokio::test]
async fn a_late_attempt_behind_a_gap_is_not_accepted() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let late = crate::support::numbered("graph:a", "p", 3, 2);
    transport.append(&crate::support::numbered("graph:a", "p", 1, 2)).await.unwrap();
    redis::cmd("FLUSHALL").exec_async(&mut eyes(&server).await).await.unwrap();
    assert_eq!(transport.append(&late).await, Err(AppendError::Gap { expected: 1 }));
    // What the worker does then, and a late attempt that hung meanwhile.
    let once = Once::Sequence { producer: "q".into(), first: 1 };
    transport.append(&Append { once, ..late.clone() }).await.unwrap();
    assert_eq!(transport.append(&late).await, Err(AppendError::Gap { expected: 1 }));
    assert_eq!(log(&server, "graph:a").await.len(), 2);
    let keys: Vec<String> = redis::cmd("KEYS").arg("*producer*").query_async(&mut eyes(&server).await).await.unwrap();
    assert_eq!(keys, [Keys::default().producer(&channel("graph:a"), "q")]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_contradicts_itself_is_no_loss() {
    let asked = AtomicUsize::new(0);
    let contradiction = move |append: &Append| {
        let Once::Sequence { first, .. } = append.once else { panic!("numbered") };
        let expected = first + asked.fetch_add(1, Ordering::SeqCst) as u64;
        (expected < first + 3).then_some(AppendError::Gap { expected })
    };
    let transport = Arc::new(Meddling::recording(Fake::default()).before(contradiction));
    let publisher = Publisher::builder().with_transport(transport.clone());
    publisher.publish("graph:a", &json!({"type": "x"})).unwrap();
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    let appends = transport.appends.lock();
    let name = |append: &Append| match &append.once {
        Once::Sequence { producer, first } => (producer.clone(), *first),
        _ => panic!("numbered"),
    };
    assert_eq!(appends.len(), 4);
    assert!(appends.iter().all(|append| name(append) == name(&appends[0])), "the same to the number");
}
