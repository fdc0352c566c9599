use serde::{Deserialize, Serialize};

/// A socket is pinged so often, in seconds, whatever else happens.
pub const TURN: f64 = 30.0;

/// Probes of a replica's link to a Redis in a second, while points are measured: `ready.window` is 1 s then, and holds five.
const PROBES: f64 = 5.0;

/// One run, with each process' share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its place in the grid.
    pub number: usize,
    /// Whether it takes no part in the fit, and is predicted instead.
    pub held_out: bool,
    /// Replicas of the gateway.
    pub replicas: usize,
    /// Servers of Redis: one, or the masters of a Cluster.
    pub nodes: usize,
    /// Channels.
    pub channels: usize,
    /// Sockets of each channel.
    pub per_channel: usize,
    /// Replicas that have a reader of a channel: what generators spread evenly.
    pub copies: usize,
    /// Bytes of an event.
    pub bytes: usize,
    /// Seconds measured.
    pub seconds: f64,
    /// Events published in them.
    pub published: u64,
    /// Events received in them, over all sockets.
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
    /// By how much the kernel's own memory has grown, for both ends of all sockets.
    pub kernel_grown: u64,
    /// Half of the deliveries took longer, ms.
    pub p50: f64,
    /// One in a hundred took longer, ms.
    pub p99: f64,
}

/// What happens in some time: what costs are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quantities {
    /// Seconds, over all replicas.
    pub replica_seconds: f64,
    /// Seconds, over all Redis.
    pub node_seconds: f64,
    /// Probes that replicas send to themselves through each Redis.
    pub probes: f64,
    /// Events published.
    pub published: f64,
    /// Bytes of an event.
    pub bytes: f64,
    /// Events taken in, over all replicas: events times copies.
    pub copies: f64,
    /// Events written to sockets.
    pub deliveries: f64,
    /// Pings of sockets.
    pub turns: f64,
    /// Replicas.
    pub replicas: f64,
    /// Sockets.
    pub sockets: f64,
    /// Channels that replicas hold, over all of them.
    pub rooms: f64,
}

/// To the sixth decimal, a microsecond or a byte's share of one: so that what is written is read again to the last digit.
pub fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

impl Point {
    /// The same, as exact as it is kept.
    pub fn rounded(mut self) -> Self {
        let lists = self.gateway_cpu.iter_mut().chain(&mut self.redis_cpu);
        let single = [&mut self.seconds, &mut self.generator_cpu, &mut self.p50, &mut self.p99];
        lists.chain(single).for_each(|value| *value = rounded(*value));
        self
    }

    /// Sockets.
    pub fn sockets(&self) -> usize {
        self.channels * self.per_channel
    }

    /// What happened.
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
            // A shorter window ends before the first ping: see `commands::scale`.
            turns: if self.seconds >= TURN { sockets * self.seconds / TURN } else { 0.0 },
            replicas,
            sockets,
            rooms: self.channels as f64 * copies,
        }
    }
}
