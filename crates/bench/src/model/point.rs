use serde::{Deserialize, Serialize};

/// Seconds between two pings of a socket.
pub const PING_INTERVAL: f64 = 30.0;

/// Probes per second of a replica through a Redis while points are measured: five in a `ready.window` of 1 s.
const PROBES: f64 = 5.0;

/// One measured run, with the figures of each process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The place in the grid.
    pub number: usize,
    /// Whether the point is held out of the fit, to test predictions.
    pub held_out: bool,
    /// Number of replicas of the gateway.
    pub replicas: usize,
    /// Number of Redis servers: one, or the masters of a Cluster.
    pub nodes: usize,
    /// Number of channels.
    pub channels: usize,
    /// Sockets per channel.
    pub per_channel: usize,
    /// Replicas that have a reader of a channel; generators spread sockets evenly.
    pub copies: usize,
    /// Bytes per event.
    pub bytes: usize,
    /// Length of the measuring window.
    pub seconds: f64,
    /// Events published in the window.
    pub published: u64,
    /// Events received in the window, over all sockets.
    pub deliveries: u64,
    /// Bytes that sockets read, with frames.
    pub wire_bytes: u64,
    /// CPU seconds of each replica.
    pub gateway_cpu: Vec<f64>,
    /// CPU seconds of each Redis.
    pub redis_cpu: Vec<f64>,
    /// CPU seconds of all generators.
    pub generator_cpu: f64,
    /// Bytes that all Redis sent.
    pub redis_output: u64,
    /// Resident bytes of each replica at the end.
    pub gateway_resident: Vec<u64>,
    /// Resident bytes of each Redis at the end.
    pub redis_resident: Vec<u64>,
    /// Growth of the kernel's own memory in bytes, for both ends of all sockets.
    pub kernel_grown: u64,
    /// Median latency in milliseconds.
    pub p50: f64,
    /// The 99th percentile of latency in milliseconds.
    pub p99: f64,
}

/// What happens in some time: the quantities that costs depend on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quantities {
    /// Seconds, summed over all replicas.
    pub replica_seconds: f64,
    /// Seconds, summed over all Redis.
    pub node_seconds: f64,
    /// Probes that replicas send themselves through each Redis.
    pub probes: f64,
    /// Events published.
    pub published: f64,
    /// Bytes per event.
    pub bytes: f64,
    /// Events that all replicas receive: published events times copies.
    pub copies: f64,
    /// Events written to sockets.
    pub deliveries: f64,
    /// Pings of sockets.
    pub pings: f64,
    /// Number of replicas.
    pub replicas: f64,
    /// Number of sockets.
    pub sockets: f64,
    /// Channels that replicas hold, summed over all replicas.
    pub held_channels: f64,
}

/// Rounds to six decimals, so that a value survives being written and read.
pub fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

impl Point {
    /// The point, rounded as it is stored.
    pub fn rounded(mut self) -> Self {
        let lists = self.gateway_cpu.iter_mut().chain(&mut self.redis_cpu);
        let single = [&mut self.seconds, &mut self.generator_cpu, &mut self.p50, &mut self.p99];
        lists.chain(single).for_each(|value| *value = rounded(*value));
        self
    }

    /// Number of sockets.
    pub fn sockets(&self) -> usize {
        self.channels * self.per_channel
    }

    /// What happened in the window.
    pub fn quantities(&self) -> Quantities {
        let (replicas, copies) = (self.replicas as f64, self.copies as f64);
        let sockets = self.sockets() as f64;
        Quantities {
            replica_seconds: replicas * self.seconds,
            node_seconds: self.nodes as f64 * self.seconds,
            probes: replicas * self.nodes as f64 * self.seconds * PROBES,
            published: self.published as f64,
            bytes: self.bytes as f64,
            copies: self.published as f64 * copies,
            deliveries: self.deliveries as f64,
            // A shorter window ends before the first ping: see `scale::measure`.
            pings: if self.seconds >= PING_INTERVAL { sockets * self.seconds / PING_INTERVAL } else { 0.0 },
            replicas,
            sockets,
            held_channels: self.channels as f64 * copies,
        }
    }
}
