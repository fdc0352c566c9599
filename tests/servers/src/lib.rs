//! The servers that the tests of all crates start. Each listens on its own free port, keeps its files in a
//! temporary directory, and stops when it is dropped.
//!
//! A test cannot continue after its server has failed, so everything here panics instead of returning errors.

mod cluster;
mod port;
mod program;
mod proxy;
mod redis;
mod sentinel;
mod tls;

pub use self::{
    cluster::Cluster, port::free_port, program::Program, proxy::Proxy, redis::RedisServer, sentinel::SentinelGroup,
    tls::Certificates,
};

use std::time::Duration;

/// How long a server may take to start on a busy machine.
pub const STARTING: Duration = Duration::from_secs(20);
