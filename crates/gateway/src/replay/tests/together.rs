//! Readers who come back at the same time, each behind an event of its own.

use std::sync::atomic::Ordering;

use tokio::task::JoinHandle;

use super::*;

impl Fixture {
    /// A channel with so many events that nobody has read here.
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

    /// A reader that has seen everything up to `id`, catching up in a task of its own.
    fn comes_back(&self, id: EventId) -> JoinHandle<Following> {
        let (mut reader, history) = (self.reader(Start::Since(Since::After(id))), self.history.clone());
        tokio::spawn(async move {
            reader.catch_up(&history).await;
            reader
        })
    }
}

/// Waits until everybody waits: the clock is paused, and goes on only then.
async fn all_wait() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test(start_paused = true)]
async fn one_read_serves_all_who_come_back_one_after_another() {
    let (f, ids) = Fixture::with_log(1024, 600).await;
    // The first has seen more than the others.
    for seen in (500..600).rev().map(|n| n as usize) {
        let reader = f.comes_back(ids[seen - 1]).await.unwrap();
        assert_eq!(reader.seen, numbers(seen as u64 + 1..=600));
    }
    assert_eq!(f.reads(), 1);
    // Further back than that one read began.
    let reader = f.comes_back(ids[299]).await.unwrap();
    assert_eq!(reader.seen, numbers(301..=600));
    assert_eq!(f.reads(), 2);
    // And now everything from there on is in memory.
    f.comes_back(ids[300]).await.unwrap();
    assert_eq!(f.reads(), 2);
}

/// Whether or not the ring can take what was read: in one of four events it cannot.
#[tokio::test(start_paused = true)]
async fn one_read_serves_all_who_come_back_at_once() {
    for ring in [1024, 4] {
        let (f, ids) = Fixture::with_log(ring, 600).await;
        let answers = f.broker.answers.write().await;
        let readers: Vec<_> = (0..50).map(|n| (500 + 2 * n, f.comes_back(ids[499 + 2 * n]))).collect();
        all_wait().await;
        assert_eq!(f.reads(), 1);
        drop(answers);
        for (seen, reader) in readers {
            assert_eq!(reader.await.unwrap().seen, numbers(seen as u64 + 1..=600));
        }
        assert_eq!(f.reads(), 1, "ring of {ring}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_stands_far_apart_reads_on_page_by_page() {
    let (f, ids) = Fixture::with_log(1024, 3000).await;
    let readers: Vec<_> = (0..100).map(|n| (30 * n + 1, f.comes_back(ids[30 * n]))).collect();
    for (seen, reader) in readers {
        assert_eq!(reader.await.unwrap().seen, numbers(seen as u64 + 1..=3000));
    }
    // Each for himself they would read six times on the average.
    assert!(f.reads() < 250, "{} reads", f.reads());
    // The end of the log is in memory now.
    let reads = f.reads();
    f.comes_back(ids[2950]).await.unwrap();
    assert_eq!(f.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn events_of_which_few_fill_a_page_are_read_from_less_far_back() {
    let f = Fixture::new(1024, 10_000).await;
    let mut ids = Vec::new();
    for n in 1..=200u64 {
        ids.push(f.append_text(format!(r#"{{"type":"x","n":{n},"filler":"{}"}}"#, "x".repeat(10_000))).await);
    }
    for seen in [150usize, 180, 199, 120, 1] {
        let reader = f.comes_back(ids[seen - 1]).await.unwrap();
        assert_eq!(reader.seen, numbers(seen as u64 + 1..=200));
    }
}

/// Between asking and being answered a read may have ended that others had begun.
#[tokio::test(start_paused = true)]
async fn who_asks_for_what_has_just_been_read_is_sent_to_the_ring() {
    let (f, ids) = Fixture::with_log(1024, 200).await;
    let mut late = f.reader(Start::Since(Since::After(ids[149])));
    let mut entries = Vec::new();
    let stretch = loop {
        match late.reader.read(3, &mut entries) {
            Read::NeedsPage(stretch) => break stretch,
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    f.comes_back(ids[179]).await.unwrap();
    late.page = Some(f.history.clone().page(f.channel.clone(), stretch).await.unwrap());
    late.catch_up(&f.history).await;
    assert_eq!((late.seen, f.reads()), (numbers(151..=200), 1));
}

/// A read that began before the reader's last event was written says nothing about that event.
#[tokio::test(start_paused = true)]
async fn nobody_is_reset_by_a_read_that_knows_less_than_he() {
    let (f, mut ids) = Fixture::with_log(4, 10).await;
    let answers = f.broker.answers.write().await;
    let first = f.comes_back(ids[4]);
    all_wait().await;
    for n in 11..=30 {
        ids.push(f.append(n).await);
    }
    let second = f.comes_back(ids[19]);
    all_wait().await;
    assert_eq!(f.reads(), 1, "both wait for one read");
    drop(answers);
    assert_eq!(first.await.unwrap().seen, numbers(6..=30));
    assert_eq!(second.await.unwrap().seen, numbers(21..=30));
}

#[tokio::test(start_paused = true)]
async fn an_id_of_another_history_is_told() {
    let (f, ids) = Fixture::with_log(1024, 20).await;
    f.comes_back(ids[0]).await.unwrap();
    let other = EventId::after(Some(ids[9]), *b"zzzzzz");
    let reader = f.comes_back(other).await.unwrap();
    assert_eq!(reader.seen[0], "reset unknown_id Some(1)");
    assert_eq!(reader.seen[1..], numbers(1..=20));
    assert_eq!(f.reads(), 3, "one that does not know it, and one from the beginning");
}

/// What was read for the former owner's readers does not get into memory for the new one's.
#[tokio::test(start_paused = true)]
async fn a_read_under_way_when_the_channel_moves_is_not_kept() {
    let (f, ids) = Fixture::with_log(1024, 20).await;
    let answers = f.broker.answers.write().await;
    let reader = f.comes_back(ids[4]);
    all_wait().await;
    f.hub.forget_past(&f.channel);
    drop(answers);
    reader.await.unwrap();
    assert_eq!(f.hub.held_bytes(), 0);
    let reads = f.reads();
    f.comes_back(ids[4]).await.unwrap();
    assert_eq!(f.reads(), reads + 1, "asked of the log, which is the new owner's");
}

#[tokio::test(start_paused = true)]
async fn what_a_channel_heard_since_stays_in_order_behind_what_is_read() {
    let (f, mut ids) = Fixture::with_log(1024, 20).await;
    let answers = f.broker.answers.write().await;
    let early = f.comes_back(ids[9]);
    all_wait().await;
    f.live(1).await;
    ids.push(f.append(21).await);
    let late = f.comes_back(ids[4]);
    all_wait().await;
    f.live(2).await;
    drop(answers);
    let seen = |from, live: &[&str]| {
        let mut all = numbers(from..=20);
        all.extend(live.iter().map(|&text| text.to_owned()));
        all
    };
    assert_eq!(early.await.unwrap().seen, seen(11, &["live 1", "21", "live 2"]));
    // What was live before he came he may have seen.
    assert_eq!(late.await.unwrap().seen, seen(6, &["21", "live 2"]));
    assert_eq!(f.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn reads_under_way_are_waited_for_at_the_end() {
    let (f, ids) = Fixture::with_log(1024, 20).await;
    let answers = f.broker.answers.write().await;
    let reader = f.comes_back(ids[4]);
    all_wait().await;
    let early = tokio::time::timeout(Duration::from_secs(1), f.history.stopped()).await;
    assert!(early.is_err(), "a read has not been answered");
    drop(answers);
    f.history.stopped().await;
    assert_eq!(reader.await.unwrap().seen, numbers(6..=20));
}
