//! Every metric of the gateway. `docs/metrics.md` documents each metric, and a test compares that page with this enum.
//!
//! Creating a handle looks up its series. Code on an event's path therefore creates its handles once and keeps them.
//! Without an installed recorder a handle does nothing.

use metrics::{Counter, Gauge, Histogram, Label};

/// One metric. Its exported name is the variant's with the prefix `crewcast_`, see [`Metric::name`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Metric {
    Connections,
    ConnectionsOpened,
    ConnectionsClosed,
    HandshakesRefused,
    Subscriptions,
    EventsReceived,
    EventsRejected,
    Deliveries,
    DeliveryBytes,
    Compressions,
    DeliveryLatency,
    CursorLag,
    GapsRepaired,
    Resets,
    EventsMissed,
    LeaseExpirations,
    /// The former name of [`Metric::LeaseExpirations`], exported for one more release.
    SilencesTold,
    EventsSkipped,
    IdsAdopted,
    BrokerUp,
    BrokerReconnects,
    BrokerProbeAge,
    BrokerRoundtrip,
    HistoryReads,
    Draining,
    BuildInfo,
}

/// What a metric measures.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// A value that only grows.
    Counter,
    /// A current value.
    Gauge,
    /// A distribution, with the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The name in `# TYPE` and in the documentation.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// The fixed properties of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The exported name.
    pub name: &'static str,
    /// The kind of measurement.
    pub kind: Kind,
    /// Label keys, in the order that handles use. Their values are bounded sets: never a crew, a run or a user.
    pub labels: &'static [&'static str],
    /// One line for `# HELP`.
    pub help: &'static str,
}

/// 100 µs to 10 s: a delivery on one host is at the lower end, a backfill after an outage at the upper end.
const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Events between a cursor and the end of the ring. A ring holds 1024 by default; older events are read from the log.
const EVENTS: &[f64] = &[0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0];

/// The metrics of the publisher crate. It counts in the process that it runs in: `crewcast dev`, HTTP publishing,
/// producers.
pub const PUBLISHER: &[Description] = &[
    counter_of("crewcast_publisher_published_total", &[], "Events that the log or Pub/Sub accepted."),
    counter_of("crewcast_publisher_retried_total", &[], "Repeated attempts to publish."),
    counter_of("crewcast_publisher_resent_total", &[], "Confirmed events that were lost in a failover and sent again."),
    counter_of("crewcast_publisher_dropped_total", &["reason"], "Events that the publisher gave up on."),
    gauge_of("crewcast_publisher_queue_events", &[], "Events that wait in the publisher's queue."),
    gauge_of("crewcast_publisher_spooled_events", &[], "Events that wait in the publisher's spool on disk."),
];

impl Metric {
    /// All of them, in the order of the documentation.
    pub const ALL: &[Metric] = &[
        Metric::Connections,
        Metric::ConnectionsOpened,
        Metric::ConnectionsClosed,
        Metric::HandshakesRefused,
        Metric::Subscriptions,
        Metric::EventsReceived,
        Metric::EventsRejected,
        Metric::Deliveries,
        Metric::DeliveryBytes,
        Metric::Compressions,
        Metric::DeliveryLatency,
        Metric::CursorLag,
        Metric::GapsRepaired,
        Metric::Resets,
        Metric::EventsMissed,
        Metric::LeaseExpirations,
        Metric::SilencesTold,
        Metric::EventsSkipped,
        Metric::IdsAdopted,
        Metric::BrokerUp,
        Metric::BrokerReconnects,
        Metric::BrokerProbeAge,
        Metric::BrokerRoundtrip,
        Metric::HistoryReads,
        Metric::Draining,
        Metric::BuildInfo,
    ];

    /// Name, kind, labels and help.
    pub const fn description(self) -> Description {
        match self {
            Metric::Connections => gauge_of("crewcast_connections", &["dialect"], "Open sockets and event streams."),
            Metric::ConnectionsOpened => counter_of(
                "crewcast_connections_opened_total",
                &["dialect"],
                "Sockets and event streams that were accepted.",
            ),
            Metric::ConnectionsClosed => counter_of(
                "crewcast_connections_closed_total",
                &["dialect", "code"],
                "Sockets and event streams that ended, by close code.",
            ),
            Metric::HandshakesRefused => counter_of(
                "crewcast_handshakes_refused_total",
                &["reason"],
                "Handshakes and event streams that were refused.",
            ),
            Metric::Subscriptions => gauge_of(
                "crewcast_subscriptions",
                &["namespace"],
                "Cursors on channels: one per connection and channel.",
            ),
            Metric::EventsReceived => counter_of(
                "crewcast_events_received_total",
                &["namespace"],
                "Messages that arrived from the broker and are events.",
            ),
            Metric::EventsRejected => counter_of(
                "crewcast_events_rejected_total",
                &["reason"],
                "Messages from the broker that are not events and were dropped.",
            ),
            Metric::Deliveries => {
                counter_of("crewcast_deliveries_total", &["dialect"], "Events written to a connection.")
            }
            Metric::DeliveryBytes => counter_of(
                "crewcast_delivery_bytes_total",
                &["dialect", "encoding"],
                "Bytes of events written to connections, framing included.",
            ),
            Metric::Compressions => counter_of(
                "crewcast_compressions_total",
                &[],
                "Events that were compressed: each once per dialect, for all sockets that share the result.",
            ),
            Metric::DeliveryLatency => seconds_of(
                "crewcast_delivery_latency_seconds",
                &["namespace"],
                "Time from publishing an event to writing it to a socket.",
            ),
            Metric::CursorLag => Description {
                name: "crewcast_cursor_lag_events",
                kind: Kind::Histogram(EVENTS),
                labels: &[],
                help: "Events between a connection's cursor and the end of its channel, at each write.",
            },
            Metric::GapsRepaired => counter_of(
                "crewcast_gaps_repaired_total",
                &[],
                "Gaps in the broker's delivery that were filled from the log.",
            ),
            Metric::Resets => counter_of(
                "crewcast_resets_total",
                &["reason"],
                "Readers that could not be resumed without a gap, and were told so.",
            ),
            Metric::EventsMissed => {
                counter_of("crewcast_events_missed_total", &["namespace"], "Events that readers were told they missed.")
            }
            Metric::LeaseExpirations => counter_of(
                "crewcast_lease_expirations_total",
                &["state"],
                "Lease events that this replica published: a producer stopped renewing a lease, or renews it again.",
            ),
            Metric::SilencesTold => counter_of(
                "crewcast_silences_told_total",
                &["silence"],
                "Deprecated: use crewcast_lease_expirations_total.",
            ),
            Metric::IdsAdopted => counter_of(
                "crewcast_ids_adopted_total",
                &["kind"],
                "Ids that this replica registered because an event brought them up.",
            ),
            Metric::EventsSkipped => counter_of(
                "crewcast_events_skipped_total",
                &["namespace"],
                "Progress events left out for a lagging reader, because newer progress of the same thing follows.",
            ),
            Metric::BrokerUp => gauge_of("crewcast_broker_up", &[], "1 while the link to the broker delivers, else 0."),
            Metric::BrokerReconnects => {
                counter_of("crewcast_broker_reconnects_total", &[], "Reconnects to the broker after a lost link.")
            }
            Metric::BrokerProbeAge => gauge_of(
                "crewcast_broker_probe_age_seconds",
                &[],
                "Time since a probe last came back through this replica's own subscription.",
            ),
            Metric::BrokerRoundtrip => seconds_of(
                "crewcast_broker_roundtrip_seconds",
                &[],
                "Time from publishing a probe to its return through the subscription.",
            ),
            Metric::HistoryReads => counter_of(
                "crewcast_history_reads_total",
                &["source"],
                "Answered reads of a channel's past, by source.",
            ),
            Metric::Draining => gauge_of("crewcast_draining", &[], "1 while this replica is draining."),
            Metric::BuildInfo => gauge_of("crewcast_build_info", &["version"], "Always 1; the label names the build."),
        }
    }

    /// The exported name.
    pub const fn name(self) -> &'static str {
        self.description().name
    }

    /// Counter, gauge or histogram.
    pub const fn kind(self) -> Kind {
        self.description().kind
    }

    /// One line that says what is measured.
    pub const fn help(self) -> &'static str {
        self.description().help
    }

    /// The keys of its labels.
    pub const fn labels(self) -> &'static [&'static str] {
        self.description().labels
    }
}

/// The counter of one series. `labels` are the keys of [`Metric::labels`], in that order, with their values.
pub fn counter(metric: Metric, labels: &[(&'static str, &str)]) -> Counter {
    debug_assert_eq!(metric.kind(), Kind::Counter, "{metric:?} is not a counter");
    metrics::counter!(metric.name(), with_values(metric, labels))
}

/// The gauge of one series, see [`counter`].
pub fn gauge(metric: Metric, labels: &[(&'static str, &str)]) -> Gauge {
    debug_assert_eq!(metric.kind(), Kind::Gauge, "{metric:?} is not a gauge");
    metrics::gauge!(metric.name(), with_values(metric, labels))
}

/// The histogram of one series, see [`counter`].
pub fn histogram(metric: Metric, labels: &[(&'static str, &str)]) -> Histogram {
    debug_assert!(matches!(metric.kind(), Kind::Histogram(_)), "{metric:?} is not a histogram");
    metrics::histogram!(metric.name(), with_values(metric, labels))
}

fn with_values(metric: Metric, labels: &[(&'static str, &str)]) -> Vec<Label> {
    debug_assert!(
        labels.iter().map(|(key, _)| *key).eq(metric.labels().iter().copied()),
        "{metric:?} has the labels {:?}, not {labels:?}",
        metric.labels()
    );
    labels.iter().map(|(key, value)| Label::new(*key, (*value).to_owned())).collect()
}

const fn counter_of(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Description {
    Description { name, kind: Kind::Counter, labels, help }
}

const fn gauge_of(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Description {
    Description { name, kind: Kind::Gauge, labels, help }
}

const fn seconds_of(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Description {
    Description { name, kind: Kind::Histogram(SECONDS), labels, help }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const DOCUMENT: &str = include_str!("../../../../docs/metrics.md");

    /// The rows of the document's tables: name, type, labels.
    fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
        let rows: Vec<_> = DOCUMENT.lines().filter(|line| line.starts_with("| `crewcast_")).collect();
        let table: BTreeMap<_, _> = rows.iter().map(|row| row_of(row)).collect();
        assert_eq!(table.len(), rows.len(), "a metric is twice in the document");
        table
    }

    fn row_of(row: &str) -> (String, (String, BTreeSet<String>)) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 5, "name, type, labels, meaning, alert: {row}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "an empty cell: {row}");
        let labels = cells[2].split(';').filter_map(|label| label.split('`').nth(1)).map(str::to_owned).collect();
        (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels))
    }

    #[test]
    fn the_document_lists_exactly_the_exported_metrics() {
        let exported: BTreeMap<_, _> = Metric::ALL
            .iter()
            .map(|metric| metric.description())
            .chain(PUBLISHER.iter().copied())
            .map(|metric| {
                let labels = metric.labels.iter().map(|label| (*label).to_owned()).collect::<BTreeSet<_>>();
                (metric.name.to_owned(), (metric.kind.name().to_owned(), labels))
            })
            .collect();
        assert_eq!(documented(), exported);
    }

    #[test]
    fn every_variant_is_listed_once_under_its_own_name() {
        // The last variant's number counts the variants, so this fails if ALL lacks one.
        assert_eq!(Metric::ALL.len(), Metric::BuildInfo as usize + 1);
        let names: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        for metric in Metric::ALL {
            assert_eq!(metric.kind() == Kind::Counter, metric.name().ends_with("_total"), "{metric:?}");
        }
    }

    #[test]
    fn handles_without_a_recorder_do_nothing() {
        counter(Metric::GapsRepaired, &[]).increment(1);
        gauge(Metric::Connections, &[("dialect", "crew")]).set(1.0);
        histogram(Metric::CursorLag, &[]).record(1.0);
    }

    #[test]
    #[should_panic(expected = "has the labels")]
    fn an_unknown_label_panics() {
        let _ = counter(Metric::Deliveries, &[("crew", "abc")]);
    }
}
