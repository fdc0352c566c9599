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

/// A Redis of the run's own that keeps nothing.
pub struct Redis {
    process: Process,
    address: SocketAddr,
    version: String,
    cluster: Option<Member>,
}

/// What a member of a Cluster has besides.
struct Member {
    bus: u16,
    nodes: PathBuf,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.nodes);
    }
}

impl Redis {
    /// Starts one, bound to `core` if there is one.
    ///
    /// # Errors
    /// When `redis-server` is not installed.
    pub fn start(core: Option<usize>) -> Result<Self> {
        Self::start_with(core, &[])
    }

    /// Starts one that may be joined to others with [`join`].
    ///
    /// # Errors
    /// When `redis-server` is not installed.
    pub fn start_clustered() -> Result<Self> {
        let (bus, folder) = (free_port()?, env::temp_dir());
        let nodes = format!("crewcast-bench-{bus}.conf");
        let bus_port = bus.to_string();
        let folder_name = folder.to_string_lossy().into_owned();
        let options = ["--cluster-enabled", "yes", "--cluster-port", &bus_port, "--cluster-config-file", &nodes];
        let redis = Self::start_with(None, &[&options[..], &["--dir", &folder_name]].concat())?;
        Ok(Self { cluster: Some(Member { bus, nodes: folder.join(nodes) }), ..redis })
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
        let mut process = Process::start(command).context("redis-server is needed")?;
        wait_until_listening(&mut process, address)?;
        let version = version(address)?;
        Ok(Self { process, address, version, cluster: None })
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

/// How many slots there are (Redis Cluster specification).
const SLOTS: usize = 16384;
/// How long a Cluster may take until it serves.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which of so many masters holds a slot: each has the same share, in their order.
pub fn holder(slot: u16, masters: usize) -> usize {
    (0..masters).position(|master| usize::from(slot) < (master + 1) * SLOTS / masters).unwrap_or(0)
}

/// Makes a Cluster of masters, none with a replica, and waits until it serves.
///
/// # Errors
/// When they do not find together.
pub fn join(masters: Vec<Redis>) -> Result<Vec<Redis>> {
    let ok = |line: &str| line.starts_with("+OK").then_some(());
    let count = masters.len();
    for (n, redis) in masters.iter().enumerate() {
        ask(redis.address, &format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1), ok)?;
        let (first, last) = (n * SLOTS / count, (n + 1) * SLOTS / count - 1);
        ask(redis.address, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"), ok)?;
        let bus = masters[0].cluster.as_ref().context("no member of a Cluster")?.bus;
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
            ensure!(began.elapsed() < PATIENCE, "the Cluster does not become whole");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(masters)
}

/// Bytes that a Redis has sent since it began.
///
/// # Errors
/// When it has gone away.
pub fn net_output(address: SocketAddr) -> Result<u64> {
    ask(address, "INFO stats", |line| line.strip_prefix("total_net_output_bytes:")?.trim().parse().ok())
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
