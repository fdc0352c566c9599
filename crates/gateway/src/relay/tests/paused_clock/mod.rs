//! What the relay does by the clock: scheduled comparisons, lingering, retries. On a paused clock.

mod broker;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{Body, Channel, EventId, Namespaces, Since};
use crewcast_store::{Append, Entry, Once, Transport};
use tokio::time::{Instant, sleep};

use crate::relay::Relay;
use crate::{
    broker::{Broker, Link, LogStore, PubSub},
    hub::{Hub, Item, Notifier, ReadOutcome, RingLimits, Subscriber},
    replay::{History, Read, Reader, Start},
};
pub(super) use broker::LossyBroker;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

struct Bench {
    broker: Arc<LossyBroker>,
    hub: Arc<Hub>,
    relay: Arc<Relay>,
    channel: Channel,
}

/// A subscriber, and what it has seen: offsets, and marks by name.
struct Watcher {
    subscriber: Subscriber,
    next: i64,
}

fn text(item: &Item) -> String {
    match item {
        Item::Event(event) => event.id().map_or("live".to_owned(), |id| id.offset().to_string()),
        Item::Reset { reason, .. } => format!("reset {}", reason.label()),
        Item::Gap { .. } => "gap".to_owned(),
    }
}

impl Watcher {
    fn seen(&mut self) -> Vec<String> {
        let mut entries = Vec::new();
        assert!(!matches!(self.subscriber.read(self.next, 1000, &mut entries), ReadOutcome::FellOff { .. }));
        self.next += entries.len() as i64;
        entries.iter().map(|entry| text(entry.item())).collect()
    }
}

impl Bench {
    async fn new() -> Self {
        let namespaces = Namespaces::default();
        let broker = Arc::new(LossyBroker::new(namespaces.clone()));
        let (hub, demands) = Hub::new(RingLimits { events: 64, bytes: 1 << 20, total_bytes: 1 << 20 });
        let relay = Relay::start(hub.clone(), demands, Broker::of(broker.clone()), namespaces, 1 << 20);
        broker.start(relay.clone()).await.expect("started");
        Self { broker, hub, relay, channel: "run:r1".parse().expect("a channel") }
    }

    async fn watcher(&self) -> Watcher {
        let subscriber = self.hub.subscribe(&self.channel, &Arc::new(Notifier::default()), 0);
        while subscriber.current_start().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
        Watcher { subscriber, next: 0 }
    }

    async fn append(&self) -> EventId {
        let body = Body::parse(Bytes::from_static(br#"{"type":"x"}"#)).expect("an event");
        let append = Append { channel: self.channel.clone(), entries: vec![Entry::new(body)], once: Once::No };
        self.broker.append(&append).await.expect("appended")[0].expect("an id")
    }

    /// What a reader sees that resumes with `since` and reads until it has caught up.
    async fn resume(&self, since: Option<EventId>) -> Vec<String> {
        let history = History::new(self.broker.clone(), self.hub.clone());
        let subscriber = self.hub.subscribe(&self.channel, &Arc::new(Notifier::default()), 0);
        let mut reader = Reader::new(subscriber, Start::Since(since.map_or(Since::Beginning, Since::After)));
        let mut entries = Vec::new();
        loop {
            match reader.read(100, &mut entries) {
                Read::Opened(_) | Read::Entries => {}
                Read::CaughtUp => break,
                Read::Idle => sleep(Duration::from_millis(1)).await,
                Read::NeedsPage(range) => {
                    let page = history.clone().page(self.channel.clone(), range).await.expect("read");
                    reader.take_page(page.as_deref(), &mut entries);
                }
            }
        }
        entries.iter().map(|entry| text(entry.item())).collect()
    }

    /// Seconds between the comparisons of `span`, the first from its beginning.
    async fn comparisons(&self, span: Duration) -> Vec<u64> {
        self.broker.compared.lock().clear();
        let mut before = Instant::now();
        sleep(span).await;
        let compared = self.broker.compared.lock().clone();
        let mut wait = |at: Instant| (at - std::mem::replace(&mut before, at)).as_millis().div_ceil(1000) as u64;
        compared.into_iter().map(&mut wait).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_lost_end_of_a_burst_is_found_within_two_seconds_and_a_tick() {
    let bench = Bench::new().await;
    let mut watcher = bench.watcher().await;
    bench.append().await;
    bench.broker.lose(true);
    bench.append().await;
    bench.broker.lose(false);
    sleep(SECOND * 19 / 10).await;
    assert_eq!(watcher.seen(), ["1"], "no message shows the hole");
    // The schedule runs every half second.
    sleep(SECOND * 7 / 10).await;
    assert_eq!(watcher.seen(), ["2"]);
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_channel_is_compared_less_and_less_often_down_to_every_five_minutes() {
    let bench = Bench::new().await;
    let _watcher = bench.watcher().await;
    bench.append().await;
    let waits = bench.comparisons(HOUR).await;
    // Each wait may be half a second longer: the schedule runs every half second.
    let expected = [2, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300];
    let is_near = |(wait, expected): (&u64, &u64)| (*expected..=expected + 1).contains(wait);
    assert!(waits.iter().zip(&expected).all(is_near), "{waits:?}");
    assert!(waits[9..].iter().all(|wait| (300..=301).contains(wait)), "{waits:?}");
    // An event starts the schedule over.
    bench.append().await;
    let waits = bench.comparisons(SECOND * 20).await;
    assert!(waits.iter().zip(&expected).all(is_near) && waits.len() == 4, "{waits:?}");
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn channels_are_compared_at_once_after_a_reconnect() {
    let bench = Bench::new().await;
    let mut watcher = bench.watcher().await;
    bench.append().await;
    // The schedule has reached its longest wait.
    sleep(HOUR).await;
    bench.broker.link(Link::Down);
    bench.append().await;
    bench.append().await;
    sleep(SECOND).await;
    assert_eq!(watcher.seen(), ["1"]);
    bench.broker.link(Link::Up);
    sleep(SECOND / 10).await;
    assert_eq!(watcher.seen(), ["2", "3"]);
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failed_log_reads_are_retried_with_growing_waits() {
    let bench = Bench::new().await;
    let mut watcher = bench.watcher().await;
    bench.broker.lose(true);
    bench.append().await;
    bench.broker.lose(false);
    bench.broker.failures.store(8, Ordering::Relaxed);
    bench.append().await;
    // 50 + 100 + 200 + 400 + 800 + 1000 + 1000 + 1000 ms at most, half of each at least: the eighth attempt fails after
    // 1775 ms or later.
    sleep(SECOND * 17 / 10).await;
    assert!(watcher.seen().is_empty(), "nothing is delivered beyond the hole");
    assert!((1..8).contains(&bench.broker.failures.load(Ordering::Relaxed)), "neither given up nor without a pause");
    sleep(SECOND * 29 / 10).await;
    assert_eq!(watcher.seen(), ["1", "2"]);
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_stays_subscribed_ten_seconds_after_its_last_reader() {
    let bench = Bench::new().await;
    drop(bench.watcher().await);
    sleep(SECOND * 9).await;
    let back = bench.watcher().await;
    sleep(SECOND * 60).await;
    assert!(bench.broker.unsubscribed.lock().is_empty(), "the channel still has a reader");
    drop(back);
    let idle_since = Instant::now();
    sleep(SECOND * 60).await;
    let unsubscribed = bench.broker.unsubscribed.lock().clone();
    assert_eq!(unsubscribed.len(), 1);
    assert!(unsubscribed[0] - idle_since >= SECOND * 10 && unsubscribed[0] - idle_since < SECOND * 11);
    assert_eq!(bench.hub.channels(), 0);
    bench.relay.stop().await;
}

/// The log of a quiet channel expires while every reader is idle. Its head says that nothing was missed.
#[tokio::test(start_paused = true)]
async fn a_log_that_expires_on_a_quiet_channel_causes_no_reset() {
    let bench = Bench::new().await;
    let mut watcher = bench.watcher().await;
    bench.append().await;
    let last = bench.append().await;
    sleep(HOUR * 25).await;
    let page = bench.broker.history(&bench.channel, 0, 10).await.expect("read");
    assert_eq!((page.first, page.head), (None, Some(last)), "the log is gone, the head stays");
    bench.broker.link(Link::Down);
    sleep(SECOND).await;
    bench.broker.link(Link::Up);
    // A reader of another replica resumes from the last event, whether or not this replica knows the channel.
    assert_eq!(bench.resume(Some(last)).await, Vec::<String>::new());
    assert_eq!(watcher.seen(), ["1", "2"], "no reset");
    drop(watcher);
    sleep(SECOND * 60).await;
    assert_eq!(bench.hub.channels(), 0);
    assert_eq!(bench.resume(Some(last)).await, Vec::<String>::new());
    let mut watcher = bench.watcher().await;
    bench.append().await;
    assert_eq!(watcher.seen(), ["3"]);
    assert_eq!(bench.resume(Some(last)).await, ["3"]);
    assert_eq!(bench.resume(None).await, ["reset trimmed", "3"], "a reader that missed 1 and 2 is told");
    bench.relay.stop().await;
}
