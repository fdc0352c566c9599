use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{Process, free_port, wait_until_listening};
use crate::wire::slots::slots_of;

/// A Redis for one run, without persistence.
pub struct Redis {
    process: Process,
    address: SocketAddr,
    version: String,
    cluster: Option<ClusterMember>,
}

/// What a member of a Cluster has in addition.
struct ClusterMember {
    bus: u16,
    nodes: PathBuf,
}

impl Drop for ClusterMember {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.nodes);
    }
}

impl Redis {
    /// Starts a Redis, bound to `core` if given.
    ///
    /// # Errors
    /// If `redis-server` is not installed.
    pub fn start(core: Option<usize>) -> Result<Self> {
        Self::start_with(core, &[])
    }

    /// Starts a Redis that [`join`] can make part of a Cluster.
    ///
    /// # Errors
    /// If `redis-server` is not installed.
    pub fn start_clustered() -> Result<Self> {
        let (bus, folder) = (free_port()?, env::temp_dir());
        let nodes = format!("crewcast-bench-{bus}.conf");
        let bus_port = bus.to_string();
        let folder_name = folder.to_string_lossy().into_owned();
        let options = ["--cluster-enabled", "yes", "--cluster-port", &bus_port, "--cluster-config-file", &nodes];
        let redis = Self::start_with(None, &[&options[..], &["--dir", &folder_name]].concat())?;
        Ok(Self { cluster: Some(ClusterMember { bus, nodes: folder.join(nodes) }), ..redis })
    }

    fn start_with(core: Option<usize>, options: &[&str]) -> Result<Self> {
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
        command.args(options).stdout(Stdio::null());
        let mut process = Process::start(command).context("redis-server does not start: is it installed?")?;
        wait_until_listening(&mut process, address)?;
        let version = version(address)?;
        Ok(Self { process, address, version, cluster: None })
    }

    /// The address that Redis listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The version of Redis.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Deletes all data, between runs.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub fn flush(&self) -> Result<()> {
        ask(self.address, "FLUSHALL", |line| line.starts_with("+OK").then_some(()))
    }
}

/// How long a Cluster may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// Joins masters without replicas to a Cluster, and waits until the Cluster is ready.
///
/// # Errors
/// If the Cluster is not ready within 20 s.
pub fn join(masters: Vec<Redis>) -> Result<Vec<Redis>> {
    let ok = |line: &str| line.starts_with("+OK").then_some(());
    let count = masters.len();
    for (n, redis) in masters.iter().enumerate() {
        ask(redis.address, &format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1), ok)?;
        let slots = slots_of(n, count);
        let (first, last) = (slots.start, slots.end - 1);
        ask(redis.address, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"), ok)?;
        let bus = masters[0].cluster.as_ref().context("a Redis was not started with start_clustered")?.bus;
        ask(redis.address, &format!("CLUSTER MEET 127.0.0.1 {} {bus}", masters[0].address.port()), ok)?;
    }
    let began = Instant::now();
    let is_whole = |redis: &Redis| -> Result<bool> {
        let field = |name: &str| ask(redis.address, "CLUSTER INFO", |line| line.strip_prefix(name).map(str::to_owned));
        let known = ask(redis.address, "CLUSTER SHARDS", |line| line.strip_prefix('*')?.trim().parse::<usize>().ok())?;
        Ok(field("cluster_state:")?.trim() == "ok" && known == count)
    };
    for redis in &masters {
        while !is_whole(redis)? {
            ensure!(began.elapsed() < PATIENCE, "the Cluster was not ready within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(masters)
}

/// Bytes that a Redis has sent since its start.
///
/// # Errors
/// If Redis does not answer.
pub fn net_output(address: SocketAddr) -> Result<u64> {
    ask(address, "INFO stats", |line| line.strip_prefix("total_net_output_bytes:")?.trim().parse().ok())
}

fn version(address: SocketAddr) -> Result<String> {
    ask(address, "INFO server", |line| line.strip_prefix("redis_version:").map(|version| version.trim().to_owned()))
}

/// Sends a command, and returns the first line of the answer that `line` accepts.
fn ask<T>(address: SocketAddr, command: &str, line: impl Fn(&str) -> Option<T>) -> Result<T> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut lines = BufReader::new(stream).lines();
    lines.find_map(|text| line(&text.ok()?)).with_context(|| format!("Redis did not answer {command} as expected"))
}
