use serde::{Deserialize, Serialize};

/// What a deployment is asked to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// Sockets of a channel; none: all read one.
    pub per_channel: Option<f64>,
    /// Events of a channel in a second.
    pub rate: f64,
    /// Bytes of an event.
    pub bytes: f64,
}

impl Scenario {
    /// Those that the document tells of.
    pub fn usual() -> Vec<Self> {
        let scenario = |name: &str, per_channel, rate, bytes| Self { name: name.into(), per_channel, rate, bytes };
        vec![
            scenario("watching", Some(20.0), 1.0, 300.0),
            scenario("busy", Some(100.0), 5.0, 300.0),
            scenario("broadcast", None, 1.0, 300.0),
        ]
    }

    /// Sockets of a channel, where there are so many altogether.
    pub fn readers(&self, sockets: f64) -> f64 {
        self.per_channel.unwrap_or(sockets).min(sockets)
    }

    /// Channels, where there are so many sockets.
    pub fn channels(&self, sockets: f64) -> f64 {
        (sockets / self.readers(sockets)).max(1.0)
    }
}

/// Where the sockets of a channel are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On any replica: what a balancer does that knows nothing.
    Scattered,
    /// On one: the balancer hashes the channel's name.
    ByChannel,
}

impl Placement {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Scattered, Self::ByChannel];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scattered => "scattered",
            Self::ByChannel => "by channel",
        }
    }
}

/// What machines are like, and how far they are used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Assumptions {
    /// Share of a core, and of a network, that is used at most
    #[arg(long, default_value_t = 0.6)]
    pub load: f64,
    /// Cores of a replica
    #[arg(long, default_value_t = 4.0)]
    pub cores: f64,
    /// GiB of memory of a replica, the kernel's part for sockets within
    #[arg(long, default_value_t = 8.0)]
    pub memory: f64,
    /// Sockets of a replica at most, whatever else it could hold: they all come back at once when it ends
    #[arg(long, default_value_t = 250_000.0)]
    pub per_replica: f64,
    /// Gbit/s of a replica, and of a Redis
    #[arg(long, default_value_t = 10.0)]
    pub network: f64,
    /// Cores that are paid for with each Redis; it computes on one
    #[arg(long, default_value_t = 2.0)]
    pub redis_cores: f64,
    /// Seconds of `ready.window`: a replica sends itself five probes in it through each Redis
    #[arg(long, default_value_t = 15.0)]
    pub ready_window: f64,
    /// Price of a core for an hour, an example
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
