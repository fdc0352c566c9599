//! Readers that resume at the same time, each behind an event of its own.

use std::sync::atomic::Ordering;

use tokio::task::JoinHandle;

use super::*;

impl Fixture {
    /// A channel with this many events that nobody has read here.
    async fn with_log(ring_events: usize, events: u64) -> (Self, Vec<EventId>) {
        let f = Self::new(ring_events, 10_000).await;
        let mut ids = Vec::new();
        for n in 1..=events {
            ids.push(f.append(n).await);
        }
        (f, ids)
    }

    fn reads(&self) -> usize {
        self.broker.reads.load(Ordering::Relaxed)
    }

    /// A reader that has seen everything up to `id`, and catches up in a task of its own.
    fn resume(&self, id: EventId) -> JoinHandle<Following> {
        let (mut reader, history) = (self.reader(Start::Since(Since::After(id))), self.history.clone());
        tokio::spawn(async move {
            reader.catch_up(&history).await;
            reader
        })
    }
}

/// Waits until every task waits: the paused clock advances only then.
async fn wait_for_idle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test(start_paused = true)]
async fn one_read_serves_readers_that_resume_one_after_another() {
    let (f, ids) = Fixture::with_log(1024, 600).await;
    // The first has seen more than the others.
    for seen in (500..600).rev().map(|n| n as usize) {
        let reader = f.resume(ids[seen - 1]).await.unwrap();
        assert_eq!(reader.seen, numbers(seen as u64 + 1..=600));
    }
    assert_eq!(f.reads(), 1);
    // Further back than the first read began.
    let reader = f.resume(ids[299]).await.unwrap();
    assert_eq!(reader.seen, numbers(301..=600));
    assert_eq!(f.reads(), 2);
    // Now everything from there on is in memory.
    f.resume(ids[300]).await.unwrap();
    assert_eq!(f.reads(), 2);
}

/// Whether or not the ring has room for the page: a ring of four events has not.
#[tokio::test(start_paused = true)]
async fn one_read_serves_readers_that_resume_at_once() {
    for ring in [1024, 4] {
        let (f, ids) = Fixture::with_log(ring, 600).await;
        let answers = f.broker.answers.write().await;
        let readers: Vec<_> = (0..50).map(|n| (500 + 2 * n, f.resume(ids[499 + 2 * n]))).collect();
        wait_for_idle().await;
        assert_eq!(f.reads(), 1);
        drop(answers);
        for (seen, reader) in readers {
            assert_eq!(reader.await.unwrap().seen, numbers(seen as u64 + 1..=600));
        }
        assert_eq!(f.reads(), 1, "ring of {ring}");
    }
}

#[tokio::test(start_paused = true)]
async fn readers_far_apart_catch_up_page_by_page() {
    let (f, ids) = Fixture::with_log(1024, 3000).await;
    let readers: Vec<_> = (0..100).map(|n| (30 * n + 1, f.resume(ids[30 * n]))).collect();
    for (seen, reader) in readers {
        assert_eq!(reader.await.unwrap().seen, numbers(seen as u64 + 1..=3000));
    }
    // Without shared reads, each of them would read six times on average.
    assert!(f.reads() < 250, "{} reads", f.reads());
    // The end of the log is in memory now.
    let reads = f.reads();
    f.resume(ids[2950]).await.unwrap();
    assert_eq!(f.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn large_events_are_read_from_less_far_back() {
    let f = Fixture::new(1024, 10_000).await;
    let mut ids = Vec::new();
    for n in 1..=200u64 {
        ids.push(f.append_text(format!(r#"{{"type":"x","n":{n},"filler":"{}"}}"#, "x".repeat(10_000))).await);
    }
    for seen in [150usize, 180, 199, 120, 1] {
        let reader = f.resume(ids[seen - 1]).await.unwrap();
        assert_eq!(reader.seen, numbers(seen as u64 + 1..=200));
    }
}

/// A read that other readers began may end between the request and its answer.
#[tokio::test(start_paused = true)]
async fn a_request_for_a_page_that_was_just_read_is_served_from_the_ring() {
    let (f, ids) = Fixture::with_log(1024, 200).await;
    let mut late = f.reader(Start::Since(Since::After(ids[149])));
    let mut entries = Vec::new();
    let range = loop {
        match late.reader.read(3, &mut entries) {
            Read::NeedsPage(range) => break range,
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    f.resume(ids[179]).await.unwrap();
    late.page = Some(f.history.clone().page(f.channel.clone(), range).await.unwrap());
    late.catch_up(&f.history).await;
    assert_eq!((late.seen, f.reads()), (numbers(151..=200), 1));
}

/// A read that began before the reader's last event was written says nothing about that event.
#[tokio::test(start_paused = true)]
async fn no_reader_is_reset_by_a_read_that_knows_less_than_the_reader() {
    let (f, mut ids) = Fixture::with_log(4, 10).await;
    let answers = f.broker.answers.write().await;
    let first = f.resume(ids[4]);
    wait_for_idle().await;
    for n in 11..=30 {
        ids.push(f.append(n).await);
    }
    let second = f.resume(ids[19]);
    wait_for_idle().await;
    assert_eq!(f.reads(), 1, "both wait for one read");
    drop(answers);
    assert_eq!(first.await.unwrap().seen, numbers(6..=30));
    assert_eq!(second.await.unwrap().seen, numbers(21..=30));
}

#[tokio::test(start_paused = true)]
async fn an_id_of_another_history_causes_a_reset() {
    let (f, ids) = Fixture::with_log(1024, 20).await;
    f.resume(ids[0]).await.unwrap();
    let other = EventId::after(Some(ids[9]), *b"zzzzzz");
    let reader = f.resume(other).await.unwrap();
    assert_eq!(reader.seen[0], "reset unknown_id Some(1)");
    assert_eq!(reader.seen[1..], numbers(1..=20));
    assert_eq!(f.reads(), 3, "one that does not know the id, and one from the beginning");
}

/// What was read for the former owner's readers does not enter memory for the new owner's.
#[tokio::test(start_paused = true)]
async fn a_read_under_way_when_the_channel_moves_is_not_kept() {
    let (f, ids) = Fixture::with_log(1024, 20).await;
    let answers = f.broker.answers.write().await;
    let reader = f.resume(ids[4]);
    wait_for_idle().await;
    f.hub.forget_past(&f.channel);
    drop(answers);
    reader.await.unwrap();
    assert_eq!(f.hub.held_bytes(), 0);
    let reads = f.reads();
    f.resume(ids[4]).await.unwrap();
    assert_eq!(f.reads(), reads + 1, "asked of the log, which is the new owner's");
}

#[tokio::test(start_paused = true)]
async fn events_heard_during_a_read_stay_in_order_behind_it() {
    let (f, mut ids) = Fixture::with_log(1024, 20).await;
    let answers = f.broker.answers.write().await;
    let early = f.resume(ids[9]);
    wait_for_idle().await;
    f.live(1).await;
    ids.push(f.append(21).await);
    let late = f.resume(ids[4]);
    wait_for_idle().await;
    f.live(2).await;
    drop(answers);
    let seen = |from, live: &[&str]| {
        let mut all = numbers(from..=20);
        all.extend(live.iter().map(|&text| text.to_owned()));
        all
    };
    assert_eq!(early.await.unwrap().seen, seen(11, &["live 1", "21", "live 2"]));
    // The reader may have seen what was live before it resumed.
    assert_eq!(late.await.unwrap().seen, seen(6, &["21", "live 2"]));
    assert_eq!(f.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn reads_under_way_are_waited_for_at_the_end() {
    let (f, ids) = Fixture::with_log(1024, 20).await;
    let answers = f.broker.answers.write().await;
    let reader = f.resume(ids[4]);
    wait_for_idle().await;
    let early = tokio::time::timeout(Duration::from_secs(1), f.history.stopped()).await;
    assert!(early.is_err(), "a read has not been answered");
    drop(answers);
    f.history.stopped().await;
    assert_eq!(reader.await.unwrap().seen, numbers(6..=20));
}
