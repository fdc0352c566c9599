//! The servers that the tests of all crates start. Each listens on a free port of its own, keeps its files in a
//! temporary directory, and ends with its owner.
//!
//! A test whose server does not do as it is told cannot go on: everything here panics instead of answering errors.

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
