use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
};

use anyhow::{Context, Result};

use super::{Endpoints, Process, Running, Server, Setup, free_port};
use crate::protocol::Raw;

/// The raw write loop, in a process of its own.
pub struct RawServer {
    /// The path of this program.
    pub program: PathBuf,
}

impl Server for RawServer {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn start(&self, setup: &Setup) -> Result<Running> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut command = Process::command(&self.program, setup.core);
        command.args(["raw-server", "--listen", &address.to_string(), "--redis", &setup.redis.to_string()]);
        command.stdout(Stdio::piped());
        let mut process = Process::start(command)?;
        let output = process.child().stdout.take().context("the raw write loop has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        process.still_runs()?;
        Ok(Running {
            processes: vec![process],
            endpoints: Endpoints { sockets: vec![address], publish: None },
            protocol: Arc::new(Raw),
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }
}
