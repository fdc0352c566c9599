//! The laws: what each quantity costs.

use super::{Point, Quantities};

/// A cost as a sum of terms.
#[derive(Clone, Copy)]
pub struct Law {
    /// The name of the cost.
    pub name: &'static str,
    /// The unit of the cost.
    pub unit: &'static str,
    /// The unit of each term: one of what.
    pub terms: &'static [&'static str],
    /// The amount of each term.
    pub features: fn(&Quantities) -> Vec<f64>,
    /// The measured cost of a point.
    pub measured: fn(&Point) -> f64,
}

/// All laws.
pub const LAWS: [&Law; 6] = [&GATEWAY_CPU, &REDIS_CPU, &REDIS_OUTPUT, &WIRE, &RESIDENT, &KERNEL];

/// CPU time of all replicas.
pub const GATEWAY_CPU: Law = Law {
    name: "gateway CPU",
    unit: "µs",
    terms: &[
        "second of a replica",
        "event taken in by a replica",
        "delivery",
        "delivered byte",
        "ping of a socket",
        "probe of a replica through a Redis",
    ],
    features: |all| {
        vec![all.replica_seconds, all.copies, all.deliveries, all.deliveries * all.bytes, all.pings, all.probes]
    },
    measured: |point| 1e6 * point.gateway_cpu.iter().sum::<f64>(),
};

/// CPU time of all Redis.
pub const REDIS_CPU: Law = Law {
    name: "Redis CPU",
    unit: "µs",
    terms: &[
        "second of a Redis",
        "event published",
        "copy sent to a replica",
        "byte of a copy",
        "probe of a replica through a Redis",
    ],
    features: |all| vec![all.node_seconds, all.published, all.copies, all.copies * all.bytes, all.probes],
    measured: |point| 1e6 * point.redis_cpu.iter().sum::<f64>(),
};

/// Bytes that all Redis send.
pub const REDIS_OUTPUT: Law = Law {
    name: "Redis output",
    unit: "bytes",
    terms: &["copy sent to a replica", "byte of a copy", "probe of a replica through a Redis"],
    features: |all| vec![all.copies, all.copies * all.bytes, all.probes],
    measured: |point| point.redis_output as f64,
};

/// Bytes that sockets read.
pub const WIRE: Law = Law {
    name: "bytes to sockets",
    unit: "bytes",
    terms: &["delivery", "delivered byte", "ping of a socket"],
    features: |all| vec![all.deliveries, all.deliveries * all.bytes, all.pings],
    measured: |point| point.wire_bytes as f64,
};

/// Memory of all replicas.
pub const RESIDENT: Law = Law {
    name: "gateway memory",
    unit: "bytes",
    terms: &["replica", "socket", "channel held by a replica"],
    features: |all| vec![all.replicas, all.sockets, all.held_channels],
    measured: |point| point.gateway_resident.iter().sum::<u64>() as f64,
};

/// Kernel memory for the gateway's end of each socket.
pub const KERNEL: Law = Law {
    name: "kernel memory",
    unit: "bytes",
    terms: &["socket"],
    features: |all| vec![all.sockets],
    measured: |point| point.kernel_grown as f64 / 2.0,
};
