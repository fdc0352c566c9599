use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{Endpoints, Process, Running, Server, Setup, free_port};
use crate::protocol::Crewcast;

/// The key that signs the tokens of runs.
pub const SECRET: &str = "a secret for measuring, 32 bytes long or more";
const PATIENCE: Duration = Duration::from_secs(20);

/// One or more replicas of `crewcast serve`.
pub struct CrewcastServer {
    /// The path of the binary.
    pub program: PathBuf,
    /// Masters of a Cluster. If empty, replicas use the Redis of the run.
    pub cluster: Vec<SocketAddr>,
}

impl Server for CrewcastServer {
    fn name(&self) -> &'static str {
        "crewcast"
    }

    fn start(&self, setup: &Setup) -> Result<Running> {
        let mut processes = Vec::new();
        let mut sockets = Vec::new();
        for _ in 0..setup.replicas.max(1) {
            let (process, address) = self.replica(setup)?;
            processes.push(process);
            sockets.push(address);
        }
        let protocol = Arc::new(Crewcast::new(setup.channels, SECRET)?.on_cluster(self.cluster.clone()));
        Ok(Running {
            processes,
            endpoints: Endpoints { sockets, publish: None },
            protocol,
            version: version(&self.program)?,
        })
    }
}

impl CrewcastServer {
    fn replica(&self, setup: &Setup) -> Result<(Process, SocketAddr)> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut command = Process::command(&self.program, setup.core);
        command
            .arg("serve")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CREWCAST_LISTEN", address.to_string())
            .env("CREWCAST_ADMIN__LISTEN", admin.to_string())
            .env("CREWCAST_BROKER__URL", self.broker(setup))
            .env("CREWCAST_AUTH__HS256_SECRET", SECRET)
            .env("CREWCAST_LIMITS__PER_USER", "0")
            .env("CREWCAST_READY__WINDOW", "1s")
            .env("CREWCAST_LOG__LEVEL", "warn");
        let mut process = Process::start(command)?;
        let began = Instant::now();
        while !is_ready(admin) {
            process.still_runs()?;
            ensure!(began.elapsed() < PATIENCE, "crewcast was not ready within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok((process, address))
    }

    fn broker(&self, setup: &Setup) -> String {
        if self.cluster.is_empty() {
            return format!("redis://{}", setup.redis);
        }
        let masters: Vec<String> = self.cluster.iter().map(SocketAddr::to_string).collect();
        format!("redis+cluster://{}", masters.join(","))
    }
}

fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output().context("cannot run `crewcast --version`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().last().unwrap_or_default().to_owned())
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
