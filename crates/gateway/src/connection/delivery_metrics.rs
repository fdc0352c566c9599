//! Counts deliveries, batch by batch rather than event by event.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use crewcast_events::{Channel, timestamp};
use dashmap::DashMap;
use metrics::{Counter, Histogram};

use crate::{
    hub::{Entry, Item},
    stats::OrgUsage,
    telemetry::metrics::{Metric, counter, histogram},
};

struct Counters {
    events: Counter,
    bytes: Counter,
    deflated_bytes: Counter,
}

impl Counters {
    fn count(&self, events: u64, bytes: u64, deflated_bytes: u64) {
        self.events.increment(events);
        self.bytes.increment(bytes);
        if deflated_bytes > 0 {
            self.deflated_bytes.increment(deflated_bytes);
        }
    }
}

// Looking up a metric by its labels costs more than a delivery.
static BY_DIALECT: LazyLock<DashMap<&'static str, Counters>> = LazyLock::new(DashMap::new);
static LATENCY: LazyLock<DashMap<String, Histogram>> = LazyLock::new(DashMap::new);

/// The deliveries of one connection.
#[derive(Default)]
pub(super) struct DeliveryMetrics {
    /// The usage of the connection's org, once the org is known.
    org: Option<Arc<OrgUsage>>,
    /// The current batch, lent from the scratch buffers: an idle socket has none.
    pub(super) batch: Option<Box<DeliveryBatch>>,
}

/// The deliveries of one read: entries of one channel.
#[derive(Default)]
pub(super) struct DeliveryBatch {
    events: u64,
    bytes: u64,
    /// Bytes of compressed frames.
    deflated_bytes: u64,
    /// The channel whose latency is measured.
    channel: Option<Channel>,
    /// The oldest entry: its latency, the batch's worst, is recorded.
    oldest: Option<Arc<Entry>>,
    /// The buffer for entries between the ring and the dialect.
    pub(super) entries: Vec<Arc<Entry>>,
}

impl DeliveryMetrics {
    /// Counts all later deliveries for this org.
    pub(super) fn set_org(&mut self, org: Arc<OrgUsage>) {
        self.org = Some(org);
    }

    pub(super) fn batch(&mut self) -> &mut DeliveryBatch {
        self.batch.get_or_insert_default()
    }

    /// Counts the missed events that a gap reports.
    pub(super) fn count_missed(&mut self, entry: &Entry) {
        if let (Item::Gap { missed }, Some(org)) = (entry.item(), &self.org) {
            org.missed(missed.unwrap_or(1));
        }
    }

    /// Begins a batch of this channel; `None`: do not measure the latency.
    pub(super) fn begin(&mut self, channel: Option<&Channel>) {
        self.batch().channel = channel.cloned();
    }

    /// Counts a frame of one event.
    pub(super) fn count(&mut self, frame: &Bytes, is_compressed: bool, entry: &Arc<Entry>) {
        let batch = self.batch();
        batch.events += 1;
        let bytes = if is_compressed { &mut batch.deflated_bytes } else { &mut batch.bytes };
        *bytes += frame.len() as u64;
        if batch.oldest.is_none() && batch.channel.is_some() {
            batch.oldest = Some(entry.clone());
        }
    }

    /// Counts a frame of several events, without a latency.
    pub(super) fn count_batch(&mut self, frame: &Bytes, events: usize) {
        let batch = self.batch();
        batch.events += events as u64;
        batch.bytes += frame.len() as u64;
    }

    /// Adds the batch to the metrics, and empties it.
    pub(super) fn flush(&mut self, dialect: &'static str) {
        let Some(batch) = &mut self.batch else { return };
        let (channel, oldest) = (batch.channel.take(), batch.oldest.take());
        let [events, bytes, deflated_bytes] =
            [&mut batch.events, &mut batch.bytes, &mut batch.deflated_bytes].map(std::mem::take);
        if events == 0 {
            return;
        }
        if let Some(org) = &self.org {
            org.delivered(events);
        }
        count_by_dialect(dialect, events, bytes, deflated_bytes);
        if let (Some(channel), Some(published_at)) = (channel, oldest.and_then(|entry| entry.published_at())) {
            let now = timestamp::since_epoch();
            // Producers' clocks may be ahead of ours.
            let latency = now.saturating_sub(published_at);
            record(channel.namespace(), latency.as_secs_f64());
        }
    }
}

fn count_by_dialect(dialect: &'static str, events: u64, bytes: u64, deflated_bytes: u64) {
    if let Some(counters) = BY_DIALECT.get(dialect) {
        return counters.count(events, bytes, deflated_bytes);
    }
    let of_encoding = |encoding| counter(Metric::DeliveryBytes, &[("dialect", dialect), ("encoding", encoding)]);
    let counters = Counters {
        events: counter(Metric::Deliveries, &[("dialect", dialect)]),
        bytes: of_encoding("plain"),
        deflated_bytes: of_encoding("deflate"),
    };
    counters.count(events, bytes, deflated_bytes);
    BY_DIALECT.insert(dialect, counters);
}

fn record(namespace: &str, seconds: f64) {
    if let Some(latency) = LATENCY.get(namespace) {
        return latency.record(seconds);
    }
    let latency = histogram(Metric::DeliveryLatency, &[("namespace", namespace)]);
    latency.record(seconds);
    LATENCY.insert(namespace.to_owned(), latency);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::UsageCounters;

    #[test]
    fn missed_and_delivered_events_are_counted_for_the_org() {
        let usage = UsageCounters::new(crewcast_events::Namespaces::default())
            .enter(Some("acme".into()), "/ws".to_owned().into());
        let mut delivery = DeliveryMetrics::default();
        delivery.set_org(usage.of().clone());
        let event = crewcast_events::Event::parse(Bytes::from_static(br#"{"type":"x"}"#)).unwrap();
        for item in [Item::Gap { missed: Some(3) }, Item::Gap { missed: None }, Item::Event(event)] {
            delivery.count_missed(&Entry::new(item, None));
        }
        delivery.count_batch(&Bytes::from_static(b"[]"), 2);
        delivery.flush("forge");
        delivery.flush("forge");
        let report = usage.of().report();
        assert_eq!((report.dropped.missed, report.events.delivered), (4, 2));
    }
}
