//! The figures that are told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hub::RingUsage;

/// Figures of a replica, or summed over several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageReport {
    /// Sockets and event streams that are open, by endpoint.
    pub connections: BTreeMap<String, u64>,
    /// Events that came and went.
    pub events: Events,
    /// What the rings hold now.
    pub ring: RingTotals,
    /// Events by which the slowest reader is behind its channel's ring.
    pub cursor_lag: u64,
    /// What did not get through.
    pub dropped: LossCounts,
    /// Seconds since the replica began; of several, since the first.
    pub uptime_seconds: u64,
}

/// Events since the replica began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Events {
    /// Arrived from the broker.
    #[serde(rename = "in")]
    pub received: u64,
    /// Written to connections.
    #[serde(rename = "out")]
    pub delivered: u64,
}

/// What the rings hold now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RingTotals {
    pub channels: u64,
    pub events: u64,
    pub bytes: u64,
}

/// What did not get through, since the replica began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossCounts {
    /// Live events that connections were told they have missed.
    pub missed: u64,
    /// Messages from the broker that are no events.
    pub rejected: u64,
}

impl UsageReport {
    /// Adds those of another replica.
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

    /// Adds a channel's ring.
    pub(super) fn add_ring(&mut self, channel_state: &RingUsage) {
        self.ring.channels += 1;
        self.ring.events += channel_state.events as u64;
        self.ring.bytes += channel_state.bytes as u64;
        self.cursor_lag = self.cursor_lag.max(channel_state.lag);
    }
}
