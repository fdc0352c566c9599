//! The servers to measure. They are started on free ports, and stopped when dropped.

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
pub use process::{Process, free_port, own_binary, wait_until_listening};
pub use raw::RawServer;
pub use redis::{Redis, join, net_output};
pub use socketio::SocketIoServer;

use crate::protocol::Protocol;

/// The setup of a server.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The Redis of the run.
    pub redis: SocketAddr,
    /// The core that the server is bound to (`taskset -c`). `None` for all cores.
    pub core: Option<usize>,
    /// Number of replicas, or of worker processes of a peer.
    pub replicas: usize,
    /// Number of channels of the run.
    pub channels: usize,
    /// Number of sockets of the run.
    pub sockets: usize,
    /// Whether to enable permessage-deflate.
    pub deflate: bool,
    /// The folder in which `crates/bench/peers/setup.sh` installs peers, and their configuration is written.
    pub peers: PathBuf,
}

/// The addresses of a running server.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// Addresses for sockets, one per replica. Sockets are spread over them.
    pub sockets: Vec<SocketAddr>,
    /// Address for producers that do not publish through Redis.
    pub publish: Option<SocketAddr>,
}

/// A running server. Its processes end when this is dropped.
pub struct Running {
    /// The processes that were started. The measurement finds their children.
    pub processes: Vec<Process>,
    /// The addresses of the server.
    pub endpoints: Endpoints,
    /// The protocol of clients and producers.
    pub protocol: Arc<dyn Protocol>,
    /// The version that the server reports, or that was installed.
    pub version: String,
}

/// A kind of server that can be measured.
pub trait Server {
    /// The name on the command line and in reports.
    fn name(&self) -> &'static str;

    /// Starts the server and waits until it listens.
    ///
    /// # Errors
    /// If the server is not installed or does not start. The command then skips it with this message.
    fn start(&self, setup: &Setup) -> Result<Running>;
}

/// All kinds of servers, in the order of reports. `crewcast` and `bench` are the paths of these binaries.
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
