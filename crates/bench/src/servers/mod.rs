//! The servers that are measured: started on free ports, stopped when dropped.

mod crewcast;
mod fastapi;
mod nats;
mod nchan;
mod peers;
mod process;
mod raw;
mod redis;
mod socketio;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;

pub use crewcast::{CrewcastServer, SECRET};
pub use fastapi::FastApiServer;
pub use nats::NatsServer;
pub use nchan::NchanServer;
pub use process::{Process, free_port, wait_until_listening};
pub use raw::RawServer;
pub use redis::{Redis, holder, join, net_output};
pub use socketio::SocketIoServer;

use crate::protocol::Protocol;

/// What a server needs to know when it is started.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The run's Redis.
    pub redis: SocketAddr,
    /// Core to which it is bound (`taskset -c`); `None`: all.
    pub core: Option<usize>,
    /// Replicas, or worker processes where a peer has these.
    pub replicas: usize,
    /// Channels of the run.
    pub channels: usize,
    /// Sockets of the run.
    pub sockets: usize,
    /// Whether permessage-deflate is to be on.
    pub deflate: bool,
    /// Where peers are installed by `crates/bench/peers/setup.sh`, and where their configuration may be written.
    pub peers: PathBuf,
}

/// Where a server that runs is reached.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// For sockets; several where it has replicas on several ports: the sockets are spread over them.
    pub sockets: Vec<SocketAddr>,
    /// For producers that do not publish through Redis.
    pub publish: Option<SocketAddr>,
}

/// A server that runs. All its processes end when it is dropped.
pub struct Running {
    /// Its processes; those that they start in turn are found by the measurement.
    pub processes: Vec<Process>,
    /// Where it is reached.
    pub endpoints: Endpoints,
    /// How clients and producers speak to it.
    pub protocol: Arc<dyn Protocol>,
    /// Its version, as it tells or as it was installed.
    pub version: String,
}

/// A kind of server that can be measured.
pub trait Server {
    /// Its name on the command line and in reports.
    fn name(&self) -> &'static str;

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it is not installed or does not start: it is skipped with this message.
    fn start(&self, setup: &Setup) -> Result<Running>;
}

/// Every kind of server there is, in the order of reports. `crewcast` and `bench` are the binaries of both.
pub fn all(crewcast: &Path, bench: &Path) -> Vec<Box<dyn Server>> {
    vec![
        Box::new(RawServer { program: bench.to_owned() }),
        Box::new(CrewcastServer { program: crewcast.to_owned(), cluster: Vec::new() }),
        Box::new(FastApiServer),
        Box::new(SocketIoServer),
        Box::new(NchanServer),
        Box::new(NatsServer),
    ]
}
