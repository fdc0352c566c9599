//! Confirmed events that a failover has lost are sent again as the same events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crewcast_events::Keys;
use crewcast_publisher::{Append, AppendError, Builder, Entry, Publisher, ResendWindow, Unsent};
use serde_json::{Value, json};

use crate::support::{
    GRAPH, Meddling, Stages, TestRecorder, assert_chain, channel, confirm_singly, confirmed, emit, eyes, log,
    numbers_of, until,
};

const CLOSE: Duration = Duration::from_secs(20);

fn builder() -> Builder {
    Publisher::builder()
}

/// A master that has the events 1 to 600 and is gone. Its replica has 1 to 150.
async fn lossy(publisher: &Publisher, stages: &Stages) {
    emit(publisher, 1..=150);
    confirmed(publisher).await;
    stages.cut(1).await;
    for n in 1..=9 {
        emit(publisher, 50 * n + 101..=50 * n + 150);
        confirmed(publisher).await;
    }
    stages.switch.to(1);
}

#[tokio::test]
async fn events_that_a_failover_lost_return_under_the_same_ids() {
    let stages = Stages::start(1).await;
    let publisher = stages.publisher(builder());
    lossy(&publisher, &stages).await;
    emit(&publisher, 601..=610);
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    let (old, new) = (stages.log(0).await, stages.log(1).await);
    assert_eq!(old.len(), 600);
    assert!(new.starts_with(&old), "ids and bytes");
    assert_chain(&new, None);
    assert_eq!(numbers_of(&new), (1..=610).collect::<Vec<_>>());
    let stats = publisher.stats();
    assert_eq!((stats.published, stats.resent, stats.dropped), (610, 450, 0));
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_with_the_master_keeps_its_place() {
    let stages = Stages::start(1).await;
    let failing = Arc::new(AtomicBool::new(false));
    let fail = {
        let (failing, switch) = (failing.clone(), stages.switch.clone());
        move |_: &_| {
            let fails = failing.swap(false, Ordering::SeqCst);
            fails.then(|| {
                switch.to(1);
                AppendError::Unavailable("the master is gone".to_owned())
            })
        }
    };
    let publisher = builder().with_transport(Arc::new(Meddling::recording(stages.switch.clone()).after(fail)));
    emit(&publisher, 1..=5);
    confirmed(&publisher).await;
    stages.cut(1).await;
    emit(&publisher, 6..=10);
    confirmed(&publisher).await;
    failing.store(true, Ordering::SeqCst);
    emit(&publisher, 11..=20);
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    assert_eq!(stages.log(0).await, stages.log(1).await);
    assert_eq!(numbers_of(&stages.log(1).await), (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn states_are_set_again_and_live_messages_are_not_sent_again() {
    let stages = Stages::start(1).await;
    let publisher = stages.publisher(builder());
    emit(&publisher, 1..=2);
    confirmed(&publisher).await;
    stages.cut(1).await;
    for n in 3..=6 {
        let (key, event) = (format!("k{}", n % 2), json!({"type": "x", "n": n}));
        publisher.publish_with_state(GRAPH, &event, &key, &n).unwrap();
        publisher.publish_live(GRAPH, r#"{"type":"live"}"#).unwrap();
    }
    publisher.publish_removing_state(GRAPH, &json!({"type": "x", "n": 7}), "k0").unwrap();
    confirmed(&publisher).await;
    stages.switch.to(1);
    emit(&publisher, 8..=8);
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    assert_eq!(numbers_of(&stages.log(1).await), (1..=8).collect::<Vec<_>>());
    assert_eq!(stages.switch.live.load(Ordering::SeqCst), 4);
    let state = Keys::default().state(&channel(GRAPH));
    let state: Vec<(String, String)> =
        redis::cmd("HGETALL").arg(state).query_async(&mut eyes(&stages.servers[1]).await).await.unwrap();
    assert_eq!(state, [("k1".to_owned(), "5".to_owned())]);
}

#[tokio::test]
async fn the_events_of_all_producers_of_a_channel_are_sent_again_in_order() {
    let stages = Stages::start(1).await;
    let publishers = [stages.publisher(builder()), stages.publisher(builder())];
    for n in 1..=20 {
        confirm_singly(&publishers[n as usize % 2], [n]).await;
        if n == 10 {
            stages.cut(1).await;
        }
    }
    stages.switch.to(1);
    // A third producer, which has lost nothing, comes before them.
    let third = stages.publisher(builder());
    confirm_singly(&third, [0]).await;
    for (n, publisher) in (21..).zip(&publishers) {
        emit(publisher, [n]);
    }
    for publisher in &publishers {
        assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    }
    let (old, new) = (stages.log(0).await, stages.log(1).await);
    assert_chain(&new, None);
    let all = numbers_of(&new);
    assert_eq!(all[..11], (1..=10).chain([0]).collect::<Vec<_>>());
    for (odd, last) in [(0, 21), (1, 22)] {
        let of_one: Vec<u64> =
            all[11..].iter().copied().filter(|&n| if n > 20 { n == last } else { n % 2 == odd }).collect();
        assert_eq!(of_one, (11..=20).filter(|n| n % 2 == odd).chain([last]).collect::<Vec<_>>());
    }
    assert_eq!(new.len(), 23);
    // It is another history: none of its ids equals an old one, even at the same offset.
    let id = |message: &String| crewcast_events::EventId::of_message(message.as_bytes()).unwrap();
    for (was, is) in old.iter().zip(&new).skip(10) {
        assert_ne!(id(was), id(is));
    }
}

/// One event per batch. 6 to 10 are lost, and `kept` of them are still kept.
async fn lost_with(window: ResendWindow) -> (Vec<u64>, Publisher) {
    let stages = Stages::start(1).await;
    let publisher = stages.publisher(builder().resend_window(window));
    confirm_singly(&publisher, 1..=5).await;
    stages.cut(1).await;
    confirm_singly(&publisher, 6..=10).await;
    stages.switch.to(1);
    confirm_singly(&publisher, 11..=12).await;
    let messages = stages.log(1).await;
    assert_chain(&messages, None);
    (numbers_of(&messages), publisher)
}

#[tokio::test]
async fn events_no_longer_kept_are_counted_and_the_rest_is_sent_again() {
    let recorder = TestRecorder::default();
    let _local = metrics::set_default_local_recorder(&recorder);
    let (log, publisher) = lost_with(ResendWindow { events: 3, ..ResendWindow::default() }).await;
    assert_eq!(log, [1, 2, 3, 4, 5, 8, 9, 10, 11, 12]);
    assert_eq!((publisher.stats().resent, publisher.stats().dropped), (3, 2));
    assert_eq!(recorder.value("crewcast_publisher_dropped_total{lost_by_redis}"), 2);
    assert_eq!(recorder.value("crewcast_publisher_resent_total"), 3);
}

#[tokio::test]
async fn without_a_resend_window_the_loss_is_counted() {
    let (log, publisher) = lost_with(ResendWindow::NONE).await;
    assert_eq!(log, [1, 2, 3, 4, 5, 11, 12]);
    assert_eq!((publisher.stats().resent, publisher.stats().dropped), (0, 5));
}

#[tokio::test]
async fn flushed_events_are_counted_and_not_sent_again() {
    let stages = Stages::start(0).await;
    let publisher = stages.publisher(builder());
    emit(&publisher, 1..=10);
    confirmed(&publisher).await;
    redis::cmd("FLUSHALL").exec_async(&mut eyes(&stages.servers[0]).await).await.unwrap();
    emit(&publisher, 11..=20);
    confirmed(&publisher).await;
    emit(&publisher, 21..=22);
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    assert_eq!(numbers_of(&stages.log(0).await), (11..=22).collect::<Vec<_>>());
    assert_eq!((publisher.stats().resent, publisher.stats().dropped), (0, 10));
}

fn bears(append: &Append, number: u64) -> bool {
    let of = |entry: &Entry| serde_json::from_slice::<Value>(entry.body.object()).unwrap()["n"].as_u64();
    append.entries.iter().any(|entry| of(entry) == Some(number))
}

/// Calls the hook for the new master's appends, counted from 1, until the hook has failed one.
fn meddled(stages: &Stages, hook: impl Fn(usize) -> Option<AppendError> + Send + Sync + 'static) -> Arc<Meddling> {
    let (failed_over, met) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let before = move |append: &Append| {
        if bears(append, 601) {
            failed_over.store(true, Ordering::SeqCst);
        }
        if !failed_over.load(Ordering::SeqCst) {
            return None;
        }
        hook(met.fetch_add(1, Ordering::SeqCst) + 1)
    };
    Arc::new(Meddling::recording(stages.switch.clone()).before(before))
}

#[tokio::test]
async fn a_second_failover_during_a_resend_is_repaired_too() {
    let stages = Stages::start(2).await;
    let switch = stages.switch.clone();
    // Seen: the gap, then batches of the missing events.
    let transport = meddled(&stages, move |met| {
        if met == 4 {
            switch.to(2);
        }
        None
    });
    let publisher = builder().with_transport(transport);
    emit(&publisher, 1..=100);
    confirmed(&publisher).await;
    stages.cut(2).await;
    lossy_from(&publisher, &stages, 100).await;
    emit(&publisher, 601..=610);
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    let (old, new) = (stages.log(0).await, stages.log(2).await);
    assert!(new.starts_with(&old));
    assert_eq!(numbers_of(&new), (1..=610).collect::<Vec<_>>());
    assert!(stages.log(1).await.len() > 150, "the first failover was being healed");
    assert_eq!(publisher.stats().dropped, 0);
}

/// As [`lossy`], after the first events are confirmed.
async fn lossy_from(publisher: &Publisher, stages: &Stages, from: u64) {
    emit(publisher, from + 1..=150);
    confirmed(publisher).await;
    stages.cut(1).await;
    emit(publisher, 151..=600);
    confirmed(publisher).await;
    stages.switch.to(1);
}

#[tokio::test]
async fn a_flush_while_sending_again_costs_what_it_flushed() {
    let stages = Stages::start(2).await;
    let switch = stages.switch.clone();
    // The other replica, which never had any events.
    stages.cut(2).await;
    let transport = meddled(&stages, move |met| {
        if met == 3 {
            switch.to(2);
        }
        None
    });
    let publisher = builder().with_transport(transport);
    lossy_from(&publisher, &stages, 0).await;
    emit(&publisher, 601..=601);
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    let first = numbers_of(&stages.log(2).await);
    assert_eq!(first, (279..=601).collect::<Vec<_>>(), "151 to 278 had been sent again");
    assert_eq!(publisher.stats().dropped, 278);
}

#[tokio::test]
async fn an_event_refused_during_a_resend_does_not_affect_others() {
    let stages = Stages::start(1).await;
    let failed_over = Arc::new(AtomicBool::new(false));
    let refusing = failed_over.clone();
    let refuse = move |append: &Append| {
        (bears(append, 300) && refusing.load(Ordering::SeqCst)).then(|| AppendError::Refused("bad".to_owned()))
    };
    let publisher = builder().with_transport(Arc::new(Meddling::recording(stages.switch.clone()).before(refuse)));
    lossy(&publisher, &stages).await;
    failed_over.store(true, Ordering::SeqCst);
    emit(&publisher, 601..=610);
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    let messages = stages.log(1).await;
    assert_chain(&messages, None);
    assert_eq!(numbers_of(&messages), (1..=610).filter(|&n| n != 300).collect::<Vec<_>>());
    assert_eq!((publisher.stats().resent, publisher.stats().dropped), (449, 1));
}

#[tokio::test]
async fn closing_during_a_resend_counts_what_is_lost() {
    let stages = Stages::start(1).await;
    let away = |met| (met > 2).then(|| AppendError::Unavailable("away".to_owned()));
    let publisher = builder().with_transport(meddled(&stages, away));
    lossy(&publisher, &stages).await;
    emit(&publisher, 601..=601);
    until("one batch is sent again", async || publisher.stats().resent > 0).await;
    let unsent = publisher.close(Duration::ZERO).await;
    assert_eq!((unsent.events, publisher.stats().dropped), (1, 450 - publisher.stats().resent));
}

#[tokio::test]
async fn events_from_the_spool_are_sent_again_too_and_in_order() {
    let stages = Stages::start(1).await;
    let directory = tempfile::tempdir().unwrap();
    let away = Arc::new(AtomicBool::new(false));
    let small = builder().queue_events(20).spool(directory.path());
    let publisher = small.with_transport(Arc::new(Meddling::recording(stages.switch.clone()).while_away(&away)));
    emit(&publisher, 1..=20);
    let settled = async || publisher.queued() + publisher.spooled() == 0;
    until("the first are confirmed", settled).await;
    stages.cut(1).await;
    for (numbers, server) in [(21..=300, 0), (301..=600, 1)] {
        away.store(true, Ordering::SeqCst);
        emit(&publisher, numbers);
        assert!(publisher.spooled() > 0);
        stages.switch.to(server);
        away.store(false, Ordering::SeqCst);
        until("all is confirmed", settled).await;
    }
    assert_eq!(publisher.close(CLOSE).await, Unsent::default());
    let (old, new) = (stages.log(0).await, stages.log(1).await);
    assert!(old.len() == 300 && new.starts_with(&old));
    assert_eq!(numbers_of(&new), (1..=600).collect::<Vec<_>>());
}

/// A real failover: the replicas hang and receive nothing of what the master confirms before it dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_failover_to_a_lagging_replica_leaves_history_complete() {
    let mut group = crewcast_test_servers::SentinelGroup::start();
    let publisher = builder().connect(&group.url()).await.unwrap();
    emit(&publisher, 1..=100);
    confirmed(&publisher).await;
    let old = group.master();
    let _: i64 = group.servers[old].run(&[b"WAIT", b"2", b"5000"]);
    let replicas: Vec<usize> = (0..3).filter(|&server| server != old).collect();
    replicas.iter().for_each(|&replica| group.servers[replica].pause());
    // The kernel buffers what is sent to a hung replica, so nothing may be sent.
    let _: i64 = group.servers[old].run(&[b"CLIENT", b"KILL", b"TYPE", b"replica"]);
    emit(&publisher, 101..=400);
    confirmed(&publisher).await;
    let lost = log(&group.servers[old], GRAPH).await;
    group.servers[old].kill();
    replicas.iter().for_each(|&replica| group.servers[replica].resume());
    emit(&publisher, 401..=500);
    let new = group.failed_over(old);
    assert_eq!(publisher.close(Duration::from_secs(30)).await, Unsent::default());
    let messages = log(&group.servers[new], GRAPH).await;
    assert!(messages.starts_with(&lost), "ids and bytes");
    assert_eq!(numbers_of(&messages), (1..=500).collect::<Vec<_>>());
    assert_eq!((publisher.stats().resent, publisher.stats().dropped), (300, 0));
}
