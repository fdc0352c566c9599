//! Lease expiry by the clock: when it is told, of whom it is not, and what looking costs. On a paused clock.

use std::{sync::Arc, time::Duration};

use crewcast_events::{Channel, Namespaces};
use crewcast_publisher::{Outcome, Publisher, ToolCall};
use tokio::time::{Instant, sleep};

use super::paused_clock::LossyBroker;
use crate::relay::Relay;
use crate::{
    broker::{Broker, Link, LogStore, PubSub},
    hub::{Hub, Notifier, RingLimits, Subscriber},
};

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(30);

struct Bench {
    broker: Arc<LossyBroker>,
    relay: Arc<Relay>,
    hub: Arc<Hub>,
    channel: Channel,
}

impl Bench {
    async fn new(namespaces: Namespaces) -> Self {
        let broker = Arc::new(LossyBroker::new(namespaces.clone()));
        let (hub, demands) = Hub::new(RingLimits { events: 64, bytes: 1 << 20, total_bytes: 1 << 20 });
        let relay = Relay::start(hub.clone(), demands, Broker::of(broker.clone()), namespaces, 1 << 20);
        broker.start(relay.clone()).await.expect("started");
        Self { broker, relay, hub, channel: "graph:abc".parse().expect("a channel") }
    }

    async fn reader(&self) -> Subscriber {
        let subscriber = self.hub.subscribe(&self.channel, &Arc::new(Notifier::default()), 0);
        while subscriber.current_start().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
        subscriber
    }

    fn producer(&self, ttl: Duration) -> Publisher {
        Publisher::builder().leases(ttl).with_transport(self.broker.clone())
    }

    /// The types of the channel's events so far.
    async fn types(&self) -> Vec<String> {
        let page = self.broker.history(&self.channel, 0, 1000).await.expect("read");
        let kind = |raw: &bytes::Bytes| {
            serde_json::from_slice::<serde_json::Value>(raw).expect("JSON")["type"].as_str().expect("a type").to_owned()
        };
        page.entries.iter().map(kind).collect()
    }

    /// When the channel has so many events.
    async fn count(&self, count: usize) -> Instant {
        while self.types().await.len() < count {
            sleep(SECOND / 10).await;
        }
        Instant::now()
    }
}

/// A call whose process ends without a word.
async fn die(publisher: Publisher, call: ToolCall) {
    publisher.close(SECOND).await;
    std::mem::forget(call);
}

#[tokio::test(start_paused = true)]
async fn a_dead_producer_is_told_stalled_and_a_minute_later_lost() {
    let bench = Bench::new(Namespaces::default()).await;
    let _reader = bench.reader().await;
    let publisher = bench.producer(TTL);
    let call = publisher.tools("abc", "r1", "a1").start("search", &());
    let began = bench.count(1).await;
    die(publisher, call).await;
    let stalled = bench.count(2).await - began;
    assert!(stalled >= TTL && stalled < TTL + 2 * SECOND, "{stalled:?}");
    let lost = bench.count(3).await - began - stalled;
    assert!(lost >= 59 * SECOND && lost < 62 * SECOND, "{lost:?}");
    sleep(3600 * SECOND).await;
    assert_eq!(bench.types().await, ["tool_start", "stalled", "lost"], "each once");
    let page = bench.broker.history(&bench.channel, 1, 1).await.expect("read");
    let stalled: serde_json::Value = serde_json::from_slice(&page.entries[0]).expect("JSON");
    assert_eq!(stalled["synthetic"], true);
    assert_eq!(
        (&stalled["tool"], &stalled["run_id"], &stalled["agent_id"]),
        (&"search".into(), &"r1".into(), &"a1".into())
    );
    assert!(stalled["silent_s"].as_f64().is_some_and(|seconds| seconds >= 30.0), "{stalled}");
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_renews_is_never_told_and_costs_few_looks() {
    let bench = Bench::new(Namespaces::default()).await;
    let _reader = bench.reader().await;
    let publisher = bench.producer(TTL);
    let call = publisher.tools("abc", "r1", "a1").start("search", &());
    sleep(3600 * SECOND).await;
    assert_eq!(bench.types().await, ["tool_start"]);
    let looks = bench.broker.looks();
    assert!((120..=200).contains(&looks), "about one as often as the lease would run out: {looks}");
    call.end(0, Outcome::Success);
    sleep(60 * SECOND).await;
    let looks = bench.broker.looks();
    sleep(3600 * SECOND).await;
    assert_eq!(bench.broker.looks(), looks, "nothing to lease_check at");
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_without_leases_is_hardly_looked_at() {
    let bench = Bench::new(Namespaces::default()).await;
    let _reader = bench.reader().await;
    let publisher = Publisher::builder().with_transport(bench.broker.clone());
    for n in 0..3600 {
        publisher.publish("graph:abc", &serde_json::json!({"type": "x", "n": n})).expect("queued");
        sleep(SECOND).await;
    }
    let looks = bench.broker.looks();
    assert!((100..=130).contains(&looks), "one in half a minute: {looks}");
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_does_not_want_it_is_told_nothing() {
    let mut namespaces = Namespaces::default();
    namespaces.0.get_mut("graph").expect("built in").lost_after = Duration::ZERO;
    let bench = Bench::new(namespaces).await;
    let _reader = bench.reader().await;
    let publisher = bench.producer(TTL);
    let call = publisher.tools("abc", "r1", "a1").start("search", &());
    bench.count(1).await;
    die(publisher, call).await;
    sleep(3600 * SECOND).await;
    assert_eq!(bench.types().await, ["tool_start"]);
    assert_eq!(bench.broker.looks(), 0);
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_reads_first_when_the_producer_is_long_dead_is_told_then() {
    let bench = Bench::new(Namespaces::default()).await;
    let publisher = bench.producer(TTL);
    let call = publisher.tools("abc", "r1", "a1").start("search", &());
    bench.count(1).await;
    die(publisher, call).await;
    sleep(3600 * SECOND).await;
    assert_eq!(bench.types().await, ["tool_start"], "nobody reads");
    let _reader = bench.reader().await;
    sleep(4 * SECOND).await;
    assert_eq!(bench.types().await, ["tool_start", "stalled"]);
    sleep(62 * SECOND).await;
    assert_eq!(bench.types().await, ["tool_start", "stalled", "lost"]);
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_when_the_broker_was_away_for_all() {
    let bench = Bench::new(Namespaces::default()).await;
    let _reader = bench.reader().await;
    let publisher = bench.producer(TTL);
    let _call = publisher.tools("abc", "r1", "a1").start("search", &());
    bench.count(1).await;
    bench.broker.link(Link::Down);
    bench.broker.refuse_renewals(true);
    sleep(600 * SECOND).await;
    bench.broker.refuse_renewals(false);
    bench.broker.link(Link::Up);
    sleep(600 * SECOND).await;
    assert_eq!(bench.types().await, ["tool_start"]);
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_comes_back_is_told_recovered() {
    let bench = Bench::new(Namespaces::default()).await;
    let _reader = bench.reader().await;
    let publisher = bench.producer(TTL);
    let call = publisher.tools("abc", "r1", "a1").start("search", &());
    bench.broker.refuse_renewals(true);
    bench.count(2).await;
    bench.broker.refuse_renewals(false);
    sleep(33 * SECOND).await;
    assert_eq!(bench.types().await, ["tool_start", "stalled", "recovered"]);
    bench.broker.refuse_renewals(true);
    bench.count(4).await;
    call.progress("back", None);
    bench.broker.refuse_renewals(false);
    sleep(600 * SECOND).await;
    let expected = ["tool_start", "stalled", "recovered", "stalled", "tool_progress"];
    assert_eq!(bench.types().await, expected, "an event of its own says it");
    bench.relay.stop().await;
}

/// The list of active sessions, as the dialect reads it.
#[tokio::test(start_paused = true)]
async fn a_session_whose_producer_died_leaves_the_list() {
    let mut bench = Bench::new(Namespaces::default()).await;
    bench.channel = "tracking:acme".parse().expect("a channel");
    let _reader = bench.reader().await;
    let producer = || Publisher::builder().org("acme").with_transport(bench.broker.clone());
    let (dies, lives) = (producer(), producer());
    let session = dies.session("s1").open("one");
    let _other = lives.session("s2").open("two");
    bench.count(2).await;
    dies.close(SECOND).await;
    std::mem::forget(session);
    let listed = async || {
        let state = bench.broker.state(&bench.channel, Some(60 * SECOND)).await.expect("read");
        state.documents.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    sleep(58 * SECOND).await;
    assert_eq!(listed().await, ["s1", "s2"]);
    sleep(4 * SECOND).await;
    assert_eq!(listed().await, ["s2"]);
    bench.count(4).await;
    assert_eq!(bench.types().await, ["session_changed", "session_changed", "stalled", "lost"], "readers learn of it");
    bench.relay.stop().await;
}
