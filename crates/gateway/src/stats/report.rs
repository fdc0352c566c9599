//! The usage that replicas report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hub::RingUsage;

/// The usage of a replica, or the sum of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UsageReport {
    /// Open sockets and event streams, by endpoint.
    pub connections: BTreeMap<String, u64>,
    /// Events received and delivered.
    pub events: Events,
    /// The current content of the rings.
    pub ring: RingTotals,
    /// How many events the slowest reader is behind its channel's ring.
    pub cursor_lag: u64,
    /// Events that were not delivered.
    pub dropped: LossCounts,
    /// Seconds since the replica started; of several, since the first one started.
    pub uptime_seconds: u64,
}

/// Events since the replica started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Events {
    /// Events received from the broker.
    #[serde(rename = "in")]
    pub received: u64,
    /// Events written to connections.
    #[serde(rename = "out")]
    pub delivered: u64,
}

/// The current content of the rings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub(crate) struct RingTotals {
    pub channels: u64,
    pub events: u64,
    pub bytes: u64,
}

/// Events that were not delivered, since the replica started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossCounts {
    /// Live events that connections were told they missed.
    pub missed: u64,
    /// Messages from the broker that are not events.
    pub rejected: u64,
}

impl UsageReport {
    /// Adds the usage of another replica.
    pub(super) fn add(&mut self, other: &UsageReport) {
        for (endpoint, connections) in &other.connections {
            *self.connections.entry(endpoint.clone()).or_default() += connections;
        }
        self.events.received += other.events.received;
        self.events.delivered += other.events.delivered;
        self.ring.channels += other.ring.channels;
        self.ring.events += other.ring.events;
        self.ring.bytes += other.ring.bytes;
        self.cursor_lag = self.cursor_lag.max(other.cursor_lag);
        self.dropped.missed += other.dropped.missed;
        self.dropped.rejected += other.dropped.rejected;
        self.uptime_seconds = self.uptime_seconds.max(other.uptime_seconds);
    }

    /// Adds the ring of a channel.
    pub(super) fn add_ring(&mut self, ring: &RingUsage) {
        self.ring.channels += 1;
        self.ring.events += ring.events as u64;
        self.ring.bytes += ring.bytes as u64;
        self.cursor_lag = self.cursor_lag.max(ring.lag);
    }
}
