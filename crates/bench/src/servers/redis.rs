use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Stdio,
};

use anyhow::{Context, Result};

use super::{Process, free_port, wait_until_listening};

/// A Redis of the run's own that keeps nothing.
pub struct Redis {
    process: Process,
    address: SocketAddr,
    version: String,
}

impl Redis {
    /// Starts one, bound to `core` if there is one.
    ///
    /// # Errors
    /// When `redis-server` is not installed.
    pub fn start(core: Option<usize>) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut command = Process::command("redis-server", core);
        command.args([
            "--port",
            &address.port().to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.stdout(Stdio::null());
        let mut process = Process::start(command).context("redis-server is needed")?;
        wait_until_listening(&mut process, address)?;
        let version = version(address)?;
        Ok(Self { process, address, version })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Forgets all that it holds, between runs.
    ///
    /// # Errors
    /// When it has gone away.
    pub fn flush(&self) -> Result<()> {
        ask(self.address, "FLUSHALL", |line| line.starts_with("+OK").then_some(()))
    }
}

fn version(address: SocketAddr) -> Result<String> {
    ask(address, "INFO server", |line| line.strip_prefix("redis_version:").map(|version| version.trim().to_owned()))
}

/// Sends a command, and takes the first line of the answer that is the one.
fn ask<T>(address: SocketAddr, command: &str, line: impl Fn(&str) -> Option<T>) -> Result<T> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut lines = BufReader::new(stream).lines();
    lines.find_map(|text| line(&text.ok()?)).with_context(|| format!("Redis does not answer {command}"))
}
