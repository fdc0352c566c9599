//! Lease expiry by the clock: when it is published, when it is not, and what the checks cost. On a paused clock.

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

    /// The types of the channel's events up to now.
    async fn types(&self) -> Vec<String> {
        let page = self.broker.history(&self.channel, 0, 1000).await.expect("read");
        let kind = |raw: &bytes::Bytes| {
            serde_json::from_slice::<serde_json::Value>(raw).expect("JSON")["type"].as_str().expect("a type").to_owned()
        };
        page.entries.iter().map(kind).collect()
    }

    /// The moment at which the channel has `count` events.
    async fn count(&self, count: usize) -> Instant {
        while self.types().await.len() < count {
            sleep(SECOND / 10).await;
        }
        Instant::now()
    }
}

/// A call whose process ends without releasing its lease.
async fn die(publisher: Publisher, call: ToolCall) {
    publisher.close(SECOND).await;
    std::mem::forget(call);
}

#[tokio::test(start_paused = true)]
async fn a_dead_producer_is_reported_stalled_and_a_minute_later_lost() {
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
async fn a_producer_that_renews_is_never_reported_and_costs_few_lease_checks() {
    let bench = Bench::new(Namespaces::default()).await;
    let _reader = bench.reader().await;
    let publisher = bench.producer(TTL);
    let call = publisher.tools("abc", "r1", "a1").start("search", &());
    sleep(3600 * SECOND).await;
    assert_eq!(bench.types().await, ["tool_start"]);
    let lease_reads = bench.broker.lease_reads();
    assert!((120..=200).contains(&lease_reads), "about one as often as the lease would run out: {lease_reads}");
    call.end(0, Outcome::Success);
    sleep(60 * SECOND).await;
    let lease_reads = bench.broker.lease_reads();
    sleep(3600 * SECOND).await;
    assert_eq!(bench.broker.lease_reads(), lease_reads, "there is no lease to check");
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_without_leases_is_rarely_checked() {
    let bench = Bench::new(Namespaces::default()).await;
    let _reader = bench.reader().await;
    let publisher = Publisher::builder().with_transport(bench.broker.clone());
    for n in 0..3600 {
        publisher.publish("graph:abc", &serde_json::json!({"type": "x", "n": n})).expect("queued");
        sleep(SECOND).await;
    }
    let lease_reads = bench.broker.lease_reads();
    assert!((100..=130).contains(&lease_reads), "one every half minute: {lease_reads}");
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_without_lease_expiry_gets_no_reports() {
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
    assert_eq!(bench.broker.lease_reads(), 0);
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_reader_of_a_channel_whose_producer_died_long_ago_is_told() {
    let bench = Bench::new(Namespaces::default()).await;
    let publisher = bench.producer(TTL);
    let call = publisher.tools("abc", "r1", "a1").start("search", &());
    bench.count(1).await;
    die(publisher, call).await;
    sleep(3600 * SECOND).await;
    assert_eq!(bench.types().await, ["tool_start"], "the channel has no readers");
    let _reader = bench.reader().await;
    sleep(4 * SECOND).await;
    assert_eq!(bench.types().await, ["tool_start", "stalled"]);
    sleep(62 * SECOND).await;
    assert_eq!(bench.types().await, ["tool_start", "stalled", "lost"]);
    bench.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_outage_does_not_expire_leases() {
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
async fn a_producer_that_comes_back_is_reported_recovered() {
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
    assert_eq!(bench.types().await, expected, "the recovery is an event of its own");
    bench.relay.stop().await;
}

/// The list of active sessions, as the dialect reads it.
#[tokio::test(start_paused = true)]
async fn a_session_whose_producer_died_leaves_the_list_of_active_sessions() {
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
    assert_eq!(bench.types().await, ["session_changed", "session_changed", "stalled", "lost"], "readers are told");
    bench.relay.stop().await;
}
