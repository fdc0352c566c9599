//! The seam between log and ring, over the memory broker and a real relay.

mod resuming;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Body, Channel, EventId, Namespaces, Since};
use crewcast_store::{Append, Entry as Publication, Once, Transport};
use proptest::prelude::*;

use super::*;
use crate::{
    broker::PubSub,
    hub::{Hub, Item, Notifier, RingLimits},
    relay::Relay,
    testing::FaultyBroker,
};

struct Fixture {
    broker: Arc<FaultyBroker>,
    hub: Arc<Hub>,
    relay: Arc<Relay>,
    history: Arc<History>,
    channel: Channel,
}

impl Fixture {
    async fn new(ring_events: usize, log_length: u32) -> Self {
        let mut namespaces = Namespaces::default();
        namespaces.0.get_mut("run").unwrap().log.length = log_length;
        let broker = Arc::new(FaultyBroker::new(namespaces.clone()));
        let (hub, demands) = Hub::new(RingLimits { events: ring_events, bytes: 1 << 20, total_bytes: 1 << 24 });
        let relay = Relay::start(hub.clone(), demands, broker.sides(), namespaces, 1 << 20);
        broker.inner.start(relay.clone()).await.unwrap();
        let history = History::new(broker.clone(), hub.clone());
        Self { broker, hub, relay, history, channel: "run:r1".parse().unwrap() }
    }

    async fn append(&self, n: u64) -> EventId {
        self.append_text(format!(r#"{{"type":"x","n":{n}}}"#)).await
    }

    async fn append_text(&self, text: String) -> EventId {
        let body = Body::parse(Bytes::from(text)).unwrap();
        let append = Append { channel: self.channel.clone(), entries: vec![Publication::new(body)], once: Once::No };
        self.broker.append(&append).await.unwrap()[0].unwrap()
    }

    async fn live(&self, n: u64) {
        let message = Bytes::from(format!(r#"{{"type":"live","n":{n}}}"#));
        self.broker.publish_live(&self.channel, message).await.unwrap();
    }

    fn reader(&self, start: Start) -> Following {
        let notifier = Arc::new(Notifier::default());
        Following {
            reader: Reader::new(self.hub.subscribe(&self.channel, &notifier, 0), start),
            page: None,
            seen: Vec::new(),
        }
    }
}

/// A reader and what it has seen.
struct Following {
    reader: Reader,
    /// Read and not yet taken.
    page: Option<Option<Arc<LogPage>>>,
    seen: Vec<String>,
}

impl Following {
    /// Takes one step, and returns whether there may be more.
    async fn step(&mut self, history: &Arc<History>) -> bool {
        let mut entries = Vec::new();
        if let Some(page) = self.page.take() {
            self.reader.take_page(page.as_deref(), &mut entries);
        }
        let more = match self.reader.read(3, &mut entries) {
            Read::Opened(opening) => {
                entries.extend(opening.retained);
                true
            }
            Read::Entries => true,
            Read::CaughtUp | Read::Idle => false,
            Read::NeedsPage(range) => {
                self.page = Some(history.clone().page(self.reader.channel().clone(), range).await.unwrap());
                true
            }
        };
        for entry in entries {
            self.seen.push(match entry.item() {
                Item::Event(event) => match event.id() {
                    Some(id) => id.offset().to_string(),
                    None => event.text().replace(r#"{"type":"live","n":"#, "live ").replace('}', ""),
                },
                Item::Reset { reason, from } => format!("reset {} {:?}", reason.label(), from.map(|id| id.offset())),
                Item::Gap { missed } => format!("gap {missed:?}"),
            });
        }
        more
    }

    async fn catch_up(&mut self, history: &Arc<History>) {
        // The channel opens in one of the relay's tasks.
        while !self.reader.is_open() {
            self.step(history).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while self.step(history).await {}
    }
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_reader_without_since_starts_live() {
    let f = Fixture::new(16, 100).await;
    f.append(1).await;
    let mut reader = f.reader(Start::Live);
    reader.catch_up(&f.history).await;
    assert!(reader.seen.is_empty());
    assert_eq!(reader.reader.position().map(|id| id.offset()), Some(1));
    f.append(2).await;
    f.live(1).await;
    reader.catch_up(&f.history).await;
    assert_eq!(reader.seen, ["2", "live 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_from_the_beginning_reads_the_log_and_then_live() {
    let f = Fixture::new(16, 1000).await;
    for n in 1..=600 {
        f.append(n).await;
    }
    let mut reader = f.reader(Start::Since(Since::Beginning));
    reader.catch_up(&f.history).await;
    // Several pages, and no later event that would reveal a hole.
    assert_eq!(reader.seen, numbers(1..=600));
    f.append(601).await;
    reader.catch_up(&f.history).await;
    assert_eq!(reader.seen, numbers(1..=601));
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_a_trimmed_log_is_reset_first() {
    let f = Fixture::new(16, 10).await;
    let mut ids = Vec::new();
    for n in 1..=30 {
        ids.push(f.append(n).await);
    }
    let mut from_beginning = f.reader(Start::Since(Since::Beginning));
    from_beginning.catch_up(&f.history).await;
    assert_eq!(from_beginning.seen[0], "reset trimmed Some(21)");
    assert_eq!(from_beginning.seen[1..], numbers(21..=30));
    let mut resumed = f.reader(Start::Since(Since::After(ids[24])));
    resumed.catch_up(&f.history).await;
    assert_eq!(resumed.seen, numbers(26..=30));
    let mut unknown = f.reader(Start::Since(Since::Unknown));
    unknown.catch_up(&f.history).await;
    assert_eq!(unknown.seen[0], "reset unknown_id Some(21)");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_falls_off_the_ring_and_continues_from_the_log() {
    let f = Fixture::new(8, 1000).await;
    let mut reader = f.reader(Start::Live);
    reader.catch_up(&f.history).await;
    for n in 1..=300 {
        f.append(n).await;
        if n % 100 == 0 {
            f.live(n).await;
        }
    }
    reader.catch_up(&f.history).await;
    // Two of the three live events left the ring before they were read.
    assert_eq!(reader.seen[0], "gap Some(2)");
    let logged: Vec<_> = reader.seen.iter().filter(|text| text.parse::<u64>().is_ok()).cloned().collect();
    assert_eq!(logged, numbers(1..=300));
    assert_eq!(reader.seen.last().map(String::as_str), Some("live 300"));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_that_falls_off_the_log_is_reset() {
    let f = Fixture::new(8, 20).await;
    let mut reader = f.reader(Start::Live);
    reader.catch_up(&f.history).await;
    for n in 1..=300 {
        f.append(n).await;
    }
    reader.catch_up(&f.history).await;
    assert_eq!(reader.seen[0], "reset trimmed Some(281)");
    assert_eq!(reader.seen[1..], numbers(281..=300));
    f.relay.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In every order of publishing, joining and reading, each reader sees every logged event behind its start once and
    /// in order, and no live event twice.
    #[test]
    fn no_reader_sees_a_hole_or_a_repeat(
        steps in proptest::collection::vec((0u8..6, 0usize..4), 1..200),
        ring in 4usize..32,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let f = Fixture::new(ring, 10_000).await;
            let mut readers: Vec<(u64, Following)> = Vec::new();
            let mut ids: Vec<EventId> = Vec::new();
            let mut live = 0;
            for (step, which) in steps {
                match step {
                    0 | 1 => ids.push(f.append(ids.len() as u64 + 1).await),
                    2 => {
                        live += 1;
                        f.live(live).await;
                    }
                    3 if readers.len() < 6 => {
                        let after = if ids.is_empty() { 0 } else { (which * 7) % (ids.len() + 1) };
                        let since = after.checked_sub(1).map_or(Since::Beginning, |last| Since::After(ids[last]));
                        readers.push((after as u64, f.reader(Start::Since(since))));
                    }
                    4 => {
                        if let Some((_, reader)) = readers.get_mut(which) {
                            reader.step(&f.history).await;
                        }
                    }
                    _ => tokio::task::yield_now().await,
                }
            }
            for (after, reader) in &mut readers {
                reader.catch_up(&f.history).await;
                let logged: Vec<String> =
                    reader.seen.iter().filter(|text| text.parse::<u64>().is_ok()).cloned().collect();
                prop_assert_eq!(logged, numbers(*after + 1..=ids.len() as u64));
                prop_assert!(!reader.seen.iter().any(|text| text.starts_with("reset")));
                let live: Vec<u64> = reader.seen.iter().filter_map(|t| t.strip_prefix("live ")?.parse().ok()).collect();
                prop_assert!(live.is_sorted_by(|a, b| a < b), "{:?}", live);
            }
            f.relay.stop().await;
            Ok(())
        })?;
    }
}
