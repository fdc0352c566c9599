//! The spool: events that find no room in memory, and events that a process leaves to the next one.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crewcast_events::{Keys, Namespaces};
use crewcast_publisher::{AppendError, Builder, Publisher, Transport, Unsent};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{Fake, Meddling, RedisServer, assert_chain, channel, eyes, log, until, with_namespaces};

pub(crate) const CLOSE: Duration = Duration::from_secs(30);
const CHANNELS: [&str; 3] = ["graph:a", "graph:b", "run:c"];

pub(crate) fn roomy() -> Namespaces {
    let mut namespaces = Namespaces::default();
    for namespace in namespaces.0.values_mut() {
        namespace.log.length = 100_000;
    }
    namespaces
}

/// A publisher with little room in memory.
pub(crate) fn small(directory: &Path) -> Builder {
    Publisher::builder().queue_events(100).spool(directory)
}

pub(crate) fn to(server: &RedisServer) -> Arc<dyn Transport> {
    Arc::new(with_namespaces(server, roomy()))
}

pub(crate) fn emit(publisher: &Publisher, name: &str, numbers: impl Iterator<Item = u64>) {
    for n in numbers {
        publisher.publish(name, &json!({"type": "x", "n": n})).unwrap();
    }
}

pub(crate) async fn numbers(server: &RedisServer, name: &str) -> Vec<u64> {
    let messages = log(server, name).await;
    assert_chain(&messages, None);
    messages.iter().map(|message| serde_json::from_str::<Value>(message).unwrap()["n"].as_u64().unwrap()).collect()
}

async fn assert_whole(server: &RedisServer, name: &str, count: u64) {
    assert_eq!(numbers(server, name).await, (1..=count).collect::<Vec<_>>(), "{name}");
}

fn segments(directory: &Path) -> usize {
    let names = directory.read_dir().unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".spool")).count()
}

#[tokio::test]
async fn an_outage_and_a_restart_during_it_lose_and_duplicate_nothing() {
    let server = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let publisher = small(directory.path()).try_with_transport(to(&server)).unwrap();
    emit(&publisher, "graph:a", 1..=10);
    until("the first are published", async || publisher.queued() == 0).await;
    // The server hangs: commands that it received run when it continues, even if their senders have given up.
    server.pause();
    for n in 1..=1020 {
        emit(&publisher, "graph:a", 5 * n + 6..=5 * n + 10);
        emit(&publisher, "graph:b", n..=n);
    }
    let unsent = publisher.close(Duration::from_millis(200)).await;
    assert_eq!(unsent, Unsent { spooled: 5100 + 1020, ..Unsent::default() });
    assert_eq!(publisher.stats().dropped, 0);

    let publisher = small(directory.path()).try_with_transport(to(&server)).unwrap();
    assert_eq!(publisher.spooled(), 5100 + 1020);
    emit(&publisher, "graph:a", 5111..=5200);
    server.resume();
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    assert_eq!(publisher.stats().dropped, 0);
    assert_whole(&server, "graph:a", 5200).await;
    assert_whole(&server, "graph:b", 1020).await;
    assert_eq!(segments(directory.path()), 0, "what is sent is not kept");
}

#[tokio::test]
async fn while_it_runs_the_backlog_is_sent_before_what_is_newer() {
    let server = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let away = Arc::new(AtomicBool::new(true));
    let transport = Arc::new(Meddling::recording(with_namespaces(&server, roomy())).while_away(&away));
    let publisher = small(directory.path()).try_with_transport(transport).unwrap();
    for name in CHANNELS {
        emit(&publisher, name, 1..=500);
    }
    assert_eq!((publisher.queued(), publisher.spooled()), (100, 1400));
    away.store(false, Ordering::SeqCst);
    for n in 501..=2000 {
        for name in CHANNELS {
            emit(&publisher, name, n..=n);
        }
        if n % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    until("all is sent", async || publisher.queued() + publisher.spooled() == 0).await;
    for name in CHANNELS {
        assert_whole(&server, name, 2000).await;
    }
    assert_eq!(segments(directory.path()), 0);
    assert_eq!((publisher.stats().published, publisher.stats().dropped), (6000, 0));
}

#[tokio::test]
async fn many_short_lives_with_lost_answers_are_one_long_one() {
    let server = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
    let lossy = || {
        let (before, after) = (random.clone(), random.clone());
        let lost = |random: &Mutex<fastrand::Rng>| {
            (random.lock().u8(..3) == 0).then(|| AppendError::Unavailable("lost".to_owned()))
        };
        let meddling = Meddling::recording(with_namespaces(&server, roomy()));
        Arc::new(meddling.before(move |_| lost(&before)).after(move |_| lost(&after)))
    };
    let mut sent = 0;
    for _ in 0..12 {
        let publisher =
            Publisher::builder().queue_events(30).spool(directory.path()).try_with_transport(lossy()).unwrap();
        for n in sent + 1..=sent + 150 {
            for name in CHANNELS {
                emit(&publisher, name, n..=n);
            }
        }
        sent += 150;
        let patience = random.lock().u64(..120);
        let unsent = publisher.close(Duration::from_millis(patience)).await;
        assert_eq!((unsent.events, publisher.stats().dropped), (0, 0));
    }
    let publisher = small(directory.path()).try_with_transport(to(&server)).unwrap();
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    for name in CHANNELS {
        assert_whole(&server, name, sent).await;
    }
}

const CHILD_URL: &str = "SPOOL_TEST_URL";
const CHILD_DIRECTORY: &str = "SPOOL_TEST_DIRECTORY";
const CHILD_ARRIVES: &str = "SPOOL_TEST_ARRIVES";

/// Not a test: the process that the next tests kill. No answer reaches it; what it sends may or may not arrive.
#[tokio::test]
#[ignore = "started by the tests that kill it"]
async fn child() {
    let [Ok(url), Ok(directory), Ok(arrives)] = [CHILD_URL, CHILD_DIRECTORY, CHILD_ARRIVES].map(std::env::var) else {
        return;
    };
    let redis = crewcast_publisher::RedisClient::new(&url, &Default::default(), 2, "test").unwrap();
    let redis = crewcast_publisher::RedisTransport::new(redis, Keys::default(), String::new(), roomy());
    let lost = || Some(AppendError::Unavailable("lost".to_owned()));
    let transport = Meddling::recording(redis);
    let transport =
        if arrives == "true" { transport.after(move |_| lost()) } else { transport.before(move |_| lost()) };
    let publisher = small(Path::new(&directory)).try_with_transport(Arc::new(transport)).unwrap();
    emit(&publisher, "graph:a", 1..=5100);
    until("an attempt is over", async || publisher.stats().retried > 0).await;
    println!("\nemitted");
    std::future::pending::<()>().await;
}

/// Kills a publisher that has spooled 5,000 events, and answers the log after another publisher has sent them.
async fn log_after_a_kill(arrives: bool) -> Vec<u64> {
    let server = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["spool::child", "--exact", "--ignored", "--nocapture"])
        .envs([(CHILD_URL, server.url()), (CHILD_ARRIVES, arrives.to_string())])
        .env(CHILD_DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "emitted"), "the child ended early");
    child.kill().unwrap();
    child.wait().unwrap();

    let publisher = small(directory.path()).try_with_transport(to(&server)).unwrap();
    assert_eq!(publisher.spooled(), 5000, "all but the hundred that memory had room for");
    emit(&publisher, "graph:a", 5101..=5150);
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    numbers(&server, "graph:a").await
}

#[tokio::test]
async fn what_was_spilled_survives_a_kill() {
    assert_eq!(log_after_a_kill(false).await, (101..=5150).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_arrived_before_a_kill_hides_nothing_that_was_spilled() {
    assert_eq!(log_after_a_kill(true).await, (1..=5150).collect::<Vec<_>>());
}

#[tokio::test]
async fn dropping_the_last_clone_keeps_everything() {
    let server = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let publisher = small(directory.path()).try_with_transport(Arc::new(Fake::away())).unwrap();
    emit(&publisher, "graph:a", 1..=300);
    drop(publisher);
    let publisher = Mutex::new(None);
    until("the spool is free", async || {
        let opened = small(directory.path()).try_with_transport(to(&server));
        *publisher.lock() = opened.ok();
        publisher.lock().is_some()
    })
    .await;
    let publisher = publisher.into_inner().unwrap();
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    assert_whole(&server, "graph:a", 300).await;
}

#[tokio::test]
async fn a_refused_event_does_not_affect_later_ones() {
    let server = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let publisher = small(directory.path()).try_with_transport(Arc::new(Fake::away())).unwrap();
    for n in 1..=300 {
        let kind = if n % 70 == 0 { "bad" } else { "x" };
        publisher.publish("graph:a", &json!({"type": kind, "n": n})).unwrap();
    }
    assert_eq!(publisher.close(Duration::ZERO).await.spooled, 300);
    let spoilt = |append: &crewcast_publisher::Append| {
        let bad = append.entries.iter().any(|entry| entry.body.kind() == "bad");
        bad.then(|| AppendError::Refused("bad".to_owned()))
    };
    let transport = Arc::new(Meddling::recording(with_namespaces(&server, roomy())).before(spoilt));
    let publisher = small(directory.path()).try_with_transport(transport).unwrap();
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    let expected: Vec<u64> = (1..=300).filter(|n| n % 70 != 0).collect();
    assert_eq!((numbers(&server, "graph:a").await, publisher.stats().dropped), (expected, 4));
}

#[tokio::test]
async fn the_name_that_follows_a_gap_outlives_the_process() {
    let server = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let publisher = small(directory.path()).try_with_transport(Arc::new(Fake::away())).unwrap();
    emit(&publisher, "graph:a", 1..=300);
    assert_eq!(publisher.close(Duration::ZERO).await.spooled, 300);
    // The first batch is confirmed, then the log forgets its producer. The batch is appended under the new name, and
    // its answer is lost.
    let behind_a_gap = |append: &crewcast_publisher::Append| append.entries.iter().any(|entry| of(entry) > 128);
    let gap = move |append: &crewcast_publisher::Append| match append.once {
        crewcast_publisher::Once::Sequence { first, .. } if first > 1 => Some(AppendError::Gap { expected: 1 }),
        _ => None,
    };
    let lost = move |append: &_| behind_a_gap(append).then(|| AppendError::Unavailable("lost".to_owned()));
    let transport = Arc::new(Meddling::recording(with_namespaces(&server, roomy())).before(gap).after(lost));
    let publisher = small(directory.path()).try_with_transport(transport).unwrap();
    until("it is appended under the new name", async || log(&server, "graph:a").await.len() == 256).await;
    assert_eq!(publisher.close(Duration::ZERO).await.spooled, 172);

    let publisher = small(directory.path()).try_with_transport(to(&server)).unwrap();
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    assert_whole(&server, "graph:a", 300).await;
}

/// The event's number.
fn of(entry: &crewcast_publisher::Entry) -> u64 {
    serde_json::from_slice::<Value>(entry.body.object()).unwrap()["n"].as_u64().unwrap()
}

#[tokio::test]
async fn state_and_ownership_are_kept_with_their_events() {
    let server = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let publisher = small(directory.path()).org("acme").try_with_transport(Arc::new(Fake::away())).unwrap();
    publisher.run("r1").with_crew("abc").boot(&json!({"topic": "tides"}));
    let event = json!({"type": "session_state"});
    publisher.publish_with_state("session:s", &event, "phase", &json!({"n": 1})).unwrap();
    publisher.publish_with_state("session:s", &event, "gone", &1).unwrap();
    publisher.publish_removing_state("session:s", &event, "gone").unwrap();
    assert_eq!(publisher.close(Duration::ZERO).await.spooled, 4);

    // The org is stored with the events and does not depend on the next publisher's.
    let publisher = small(directory.path()).try_with_transport(to(&server)).unwrap();
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    let mut redis = eyes(&server).await;
    let key = Keys::default().state(&channel("session:s"));
    let state: Vec<(String, String)> = redis::cmd("HGETALL").arg(key).query_async(&mut redis).await.unwrap();
    assert_eq!(state, [("phase".to_owned(), r#"{"n":1}"#.to_owned())]);
    let key = Keys::default().directory_entry(crewcast_events::Kind::Run, "r1");
    let owner: Option<String> = redis::cmd("HGET").arg(key).arg("org").query_async(&mut redis).await.unwrap();
    assert_eq!(owner.as_deref(), Some("acme"));
    assert_eq!(log(&server, "run:r1").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn live_events_are_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Arc::new(Fake::away());
    let publisher = small(directory.path()).try_with_transport(fake.clone()).unwrap();
    emit(&publisher, "graph:a", 1..=100);
    // In a full queue a live event of higher priority replaces a logged one, which goes to disk.
    publisher.publish_live("graph:a", r#"{"type":"done"}"#).unwrap();
    publisher.publish_live("graph:a", r#"{"type":"a_progress"}"#).unwrap();
    assert_eq!((publisher.queued(), publisher.spooled(), publisher.stats().dropped), (100, 1, 1));
    let unsent = publisher.close(Duration::ZERO).await;
    assert_eq!((unsent.events, unsent.spooled), (1, 100));
    assert_eq!(unsent.by_channel[&channel("graph:a")], [r#"{"type":"done"}"#]);
}
