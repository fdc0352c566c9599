use serde::{Deserialize, Serialize};

/// The load on a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// The name of the scenario.
    pub name: String,
    /// Sockets per channel. `None` if all sockets read one channel.
    pub per_channel: Option<f64>,
    /// Events per second per channel.
    pub rate: f64,
    /// Bytes per event.
    pub bytes: f64,
}

impl Scenario {
    /// The scenarios of the document.
    pub fn usual() -> Vec<Self> {
        let scenario = |name: &str, per_channel, rate, bytes| Self { name: name.into(), per_channel, rate, bytes };
        vec![
            scenario("watching", Some(20.0), 1.0, 300.0),
            scenario("busy", Some(100.0), 5.0, 300.0),
            scenario("broadcast", None, 1.0, 300.0),
        ]
    }

    /// Sockets per channel, out of `sockets` altogether.
    pub fn readers(&self, sockets: f64) -> f64 {
        self.per_channel.unwrap_or(sockets).min(sockets)
    }

    /// Number of channels for `sockets` altogether.
    pub fn channels(&self, sockets: f64) -> f64 {
        (sockets / self.readers(sockets)).max(1.0)
    }
}

/// How the sockets of a channel are placed on replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On any replica, as with a load balancer that does not know channels.
    Scattered,
    /// On one replica: the load balancer hashes the channel's name.
    ByChannel,
}

impl Placement {
    /// All placements.
    pub const ALL: [Self; 2] = [Self::Scattered, Self::ByChannel];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scattered => "scattered",
            Self::ByChannel => "by channel",
        }
    }
}

/// Assumptions about machines, and how far they are used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Assumptions {
    /// Share of cores and networks that is used at most
    #[arg(long, default_value_t = 0.6)]
    pub load: f64,
    /// Cores per replica
    #[arg(long, default_value_t = 4.0)]
    pub cores: f64,
    /// GiB of memory per replica, with the kernel's memory for sockets
    #[arg(long, default_value_t = 8.0)]
    pub memory: f64,
    /// Most sockets per replica, because all of them reconnect at once when the replica stops
    #[arg(long, default_value_t = 250_000.0)]
    pub per_replica: f64,
    /// Gbit/s of the network of a replica or a Redis
    #[arg(long, default_value_t = 10.0)]
    pub network: f64,
    /// Cores paid for with each Redis, which computes on one
    #[arg(long, default_value_t = 2.0)]
    pub redis_cores: f64,
    /// Seconds of `ready.window`, in which a replica sends itself five probes through each Redis
    #[arg(long, default_value_t = 15.0)]
    pub ready_window: f64,
    /// Price of one core for one hour
    #[arg(long, default_value_t = 0.04)]
    pub price: f64,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self {
            load: 0.6,
            cores: 4.0,
            memory: 8.0,
            per_replica: 250_000.0,
            network: 10.0,
            redis_cores: 2.0,
            ready_window: 15.0,
            price: 0.04,
        }
    }
}
