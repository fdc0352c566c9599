//! The spool when it is full, and when the disk or its files are damaged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crewcast_publisher::{ConnectError, Unsent};

use crate::{
    spool::{CLOSE, emit, numbers, roomy, small, to},
    support::{Fake, Meddling, RedisServer, TestRecorder, until, with_namespaces},
};

#[tokio::test]
async fn files_that_are_removed_under_a_publisher_cost_their_events_and_no_others() {
    let recorder = TestRecorder::default();
    let _local = metrics::set_default_local_recorder(&recorder);
    let server = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let away = Arc::new(AtomicBool::new(true));
    let transport = Arc::new(Meddling::recording(with_namespaces(&server, roomy())).while_away(&away));
    let publisher = small(directory.path()).try_with_transport(transport).unwrap();
    emit(&publisher, "graph:a", 1..=300);
    std::fs::remove_file(directory.path().join("0000000001.spool")).unwrap();
    away.store(false, Ordering::SeqCst);
    until("the rest is sent", async || publisher.queued() + publisher.spooled() == 0).await;
    assert_eq!(recorder.value("crewcast_publisher_dropped_total{spool_damaged}"), 200);
    emit(&publisher, "graph:a", 301..=310);
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    assert_eq!(numbers(&server, "graph:a").await, (1..=100).chain(301..=310).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_full_spool_drops_as_a_full_queue_does_and_counts_it() {
    let recorder = TestRecorder::default();
    let _local = metrics::set_default_local_recorder(&recorder);
    let directory = tempfile::tempdir().unwrap();
    let fake = Arc::new(Fake::away());
    let publisher = small(directory.path()).spool_bytes(50_000).try_with_transport(fake.clone()).unwrap();
    let tools = publisher.tools("abc", "r1", "a1");
    let call = tools.start("one", &());
    for n in 0..500 {
        call.progress(format!("{n}"), None);
    }
    call.end(0, crewcast_publisher::Outcome::Success);
    let kept = publisher.spooled() as i64;
    assert!(kept > 30, "{kept}");
    assert_eq!(recorder.value("crewcast_publisher_spooled_events"), kept);
    assert_eq!(recorder.value("crewcast_publisher_dropped_total{spool_full}"), 402 - kept);
    assert_eq!(recorder.value("crewcast_publisher_dropped_total{queue_full}"), 0);
    fake.set_away(false);
    until("all is sent", async || publisher.queued() + publisher.spooled() == 0).await;
    let seen = fake.seen();
    assert_eq!(seen.len() as i64, 100 + kept);
    assert_eq!(
        (seen[0].as_str(), seen[seen.len() - 1].as_str()),
        ("append graph:abc tool_start", "append graph:abc tool_end")
    );
    assert_eq!(recorder.value("crewcast_publisher_spooled_events"), 0);
}

#[tokio::test]
async fn a_torn_or_damaged_file_costs_what_stood_there_and_is_counted() {
    let recorder = TestRecorder::default();
    let _local = metrics::set_default_local_recorder(&recorder);
    let server = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let publisher = small(directory.path()).try_with_transport(Arc::new(Fake::away())).unwrap();
    emit(&publisher, "graph:a", 1..=200);
    assert_eq!(publisher.close(Duration::ZERO).await.spooled, 200);
    let file = directory.path().join("0000000001.spool");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(bytes.len() - 3);
    let at = bytes.windows(7).position(|window| window == br#""n":150"#).unwrap();
    bytes[at + 4] = b'9';
    std::fs::write(&file, bytes).unwrap();
    let publisher = small(directory.path()).try_with_transport(to(&server)).unwrap();
    assert_eq!(recorder.value("crewcast_publisher_dropped_total{spool_damaged}"), 2);
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    // The last record is that of the queue's last event: 101 to 200 were spooled before 1 to 100.
    let expected: Vec<u64> = (1..=200).filter(|n| ![100, 150].contains(n)).collect();
    assert_eq!(numbers(&server, "graph:a").await, expected);
}

#[tokio::test]
async fn a_disk_that_refuses_leaves_what_memory_can_do() {
    let recorder = TestRecorder::default();
    let _local = metrics::set_default_local_recorder(&recorder);
    let directory = tempfile::tempdir().unwrap();
    let spooled = directory.path().join("spool");
    let fake = Arc::new(Fake::away());
    let publisher = small(&spooled).try_with_transport(fake.clone()).unwrap();
    std::fs::remove_dir_all(&spooled).unwrap();
    emit(&publisher, "graph:a", 1..=150);
    assert_eq!(recorder.value("crewcast_publisher_dropped_total{spool_failed}"), 50);
    fake.set_away(false);
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    assert_eq!(fake.seen().len(), 100);
}

#[tokio::test]
async fn a_spool_that_is_in_use_or_unusable_is_an_error_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let one = small(directory.path()).try_with_transport(Arc::new(Fake::default())).unwrap();
    let Err(error) = small(directory.path()).try_with_transport(Arc::new(Fake::default())) else { panic!("twice") };
    assert!(matches!(error, ConnectError::Spool(_)) && error.to_string().contains("of its own"), "{error}");
    // Closing releases it, even while clones exist.
    one.close(CLOSE).await;
    small(directory.path()).try_with_transport(Arc::new(Fake::default())).unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let Err(error) = small(&file).try_with_transport(Arc::new(Fake::default())) else { panic!("a file") };
    assert!(error.to_string().contains("may write to"), "{error}");
}
