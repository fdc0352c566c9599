use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Body, InFlight};

/// The pace at which events are published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Closed loop: this many events in flight per channel.
    PerChannel(usize),
    /// Closed loop: this many events in flight over all channels.
    Total(usize),
    /// Open loop: this many events per second over all channels, on a fixed schedule.
    Open(f64),
    /// No events: sockets are idle.
    Idle,
}

impl Pace {
    /// The window of a closed loop.
    pub fn window(self) -> Option<InFlight> {
        match self {
            Self::PerChannel(events) => Some(InFlight::PerChannel(events)),
            Self::Total(events) => Some(InFlight::Total(events)),
            Self::Open(_) | Self::Idle => None,
        }
    }
}

/// Default number of handshakes in progress: below 128, the accept backlog of many servers.
const OPENING: usize = 100;

/// A load, and how long it lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Number of channels.
    pub channels: usize,
    /// Sockets per channel.
    pub sockets_per_channel: usize,
    /// When events are published.
    pub pace: Pace,
    /// The content of events.
    pub body: Body,
    /// Event types that sockets subscribe to, separated by commas. `None` for all.
    pub types: Option<String>,
    /// Whether sockets offer permessage-deflate.
    pub deflate: bool,
    /// Whether `crewcast-publisher` publishes the events into the channels' logs.
    pub logged: bool,
    /// Share of sockets that read slowly. They count neither for latency nor for a closed loop.
    pub slow: f64,
    /// Share of sockets that are closed and reopened each second.
    pub churn: f64,
    /// How long the load runs before the measuring window.
    pub warm_up: Duration,
    /// Length of the measuring window.
    pub window: Duration,
    /// How many handshakes are in progress at a time.
    pub opening: usize,
    /// The x of the source addresses 127.0.x.y. Generators that run at the same time need different values.
    pub source: u8,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            channels: 1,
            sockets_per_channel: 1000,
            pace: Pace::PerChannel(64),
            body: Body::Padded(200),
            types: None,
            deflate: false,
            logged: false,
            slow: 0.0,
            churn: 0.0,
            warm_up: Duration::from_secs(1),
            window: Duration::from_secs(3),
            opening: OPENING,
            source: 1,
        }
    }
}

impl Load {
    /// Sockets of all channels.
    pub fn sockets(&self) -> usize {
        self.channels * self.sockets_per_channel
    }

    /// Whether a socket reads slowly. Slow sockets are spread evenly.
    pub fn is_slow(&self, socket: usize) -> bool {
        let before = |index: usize| (index as f64 * self.slow) as usize;
        before(socket + 1) > before(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_sockets_are_a_share_of_all() {
        let load = Load { slow: 0.01, ..Load::default() };
        assert_eq!((0..1000).filter(|socket| load.is_slow(*socket)).count(), 10);
        assert!(!(0..1000).any(|socket| Load::default().is_slow(socket)));
    }
}
