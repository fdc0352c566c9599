use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Body, Window};

/// When events are published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Closed loop, so many events of each channel on their way.
    PerChannel(usize),
    /// Closed loop, so many events over all channels on their way.
    Total(usize),
    /// Open loop: so many events per second over all channels, on a schedule that waits for nothing.
    Open(f64),
    /// None: sockets that are idle.
    Idle,
}

impl Pace {
    /// The window of a closed loop.
    pub fn window(self) -> Option<Window> {
        match self {
            Self::PerChannel(events) => Some(Window::PerChannel(events)),
            Self::Total(events) => Some(Window::Total(events)),
            Self::Open(_) | Self::Idle => None,
        }
    }
}

/// Handshakes under way by default: below 128, what many servers let wait for being accepted.
const OPENING: usize = 100;

/// What load is put on a server, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Channels.
    pub channels: usize,
    /// Sockets of each channel.
    pub sockets_per_channel: usize,
    /// When events are published.
    pub pace: Pace,
    /// What they hold.
    pub body: Body,
    /// Event types that sockets ask for, with commas between.
    pub types: Option<String>,
    /// Whether sockets offer permessage-deflate.
    pub deflate: bool,
    /// Whether events are published with `crewcast-publisher` into the channels' logs.
    pub logged: bool,
    /// Share of sockets that read only now and then. They count neither for the latency nor for a closed loop.
    pub slow: f64,
    /// Share of sockets that are closed and opened again each second.
    pub churn: f64,
    /// How long the load runs before it is measured.
    pub warm_up: Duration,
    /// How long it is measured.
    pub window: Duration,
    /// How many handshakes are under way at a time.
    pub opening: usize,
    /// Third part of the sockets' source addresses, 127.0.x.y: different in generators that run at the same time.
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

    /// Whether the socket is one of those that read slowly: spread evenly over all.
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
