//! A master, its replicas, and the Sentinels that watch them.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{RedisServer, STARTING, free_port};

/// The Sentinels' name for the master.
pub(crate) const MASTER: &str = "main";
/// The time in milliseconds after which the Sentinels consider a silent master dead.
const DOWN_AFTER: &str = "1000";

/// Three servers and three Sentinels.
#[derive(Debug)]
pub struct SentinelGroup {
    /// The first is the master at the start.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl SentinelGroup {
    /// Starts all servers and waits until the Sentinels know each other and the replicas.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Like [`SentinelGroup::start`], with these options for the servers.
    pub fn start_with(options: &[&str]) -> Self {
        let master = RedisServer::start_with(options);
        let port = master.port.to_string();
        let replica = || {
            let mut all = vec!["--replicaof", "127.0.0.1", port.as_str()];
            all.extend_from_slice(options);
            RedisServer::start_with(&all)
        };
        let servers = vec![replica(), replica()];
        let sentinels = (0..3).map(|_| Sentinel::start(master.port)).collect();
        let group = Self { servers: std::iter::once(master).chain(servers).collect(), sentinels };
        group.until("the Sentinels know everybody", || group.is_complete());
        group
    }

    /// The URL for a gateway.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{MASTER}", hosts.join(","))
    }

    /// The index of the server that the Sentinels consider the master.
    pub fn master(&self) -> usize {
        let port = self.sentinels.iter().find_map(Sentinel::master).expect("a Sentinel answers");
        self.servers.iter().position(|server| server.port == port).expect("one of the three servers")
    }

    /// Waits until every Sentinel names another server as the master and that server accepts writes.
    pub fn failed_over(&self, from: usize) -> usize {
        let old = self.servers[from].port;
        self.until("another master", || {
            let said: Vec<_> = self.sentinels.iter().filter_map(Sentinel::master).collect();
            said.len() == self.sentinels.len() && said.iter().all(|&port| port != old && port == said[0])
        });
        let master = self.master();
        self.until("the new master takes writes", || {
            let role: redis::RedisResult<Vec<redis::Value>> = self.servers[master].try_run(&[b"ROLE"]);
            role.is_ok_and(|role| role.first() == Some(&redis::Value::BulkString(b"master".to_vec())))
        });
        master
    }

    /// Makes the Sentinels fail over although the master is alive.
    pub fn fail_over(&self) {
        self.until("a failover begins", || {
            redis::cmd("SENTINEL").arg("FAILOVER").arg(MASTER).exec(&mut self.sentinels[0].connection()).is_ok()
        });
    }

    fn is_complete(&self) -> bool {
        self.sentinels.iter().all(|sentinel| sentinel.knows(self.servers.len() - 1, self.sentinels.len() - 1))
            && self.servers[1..]
                .iter()
                .all(|server| server.run::<String>(&[b"INFO", b"replication"]).contains("master_link_status:up"))
    }

    fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < 2 * STARTING, "did not happen in time: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Sentinel {
    fn start(master: u16) -> Self {
        let (port, directory) = (free_port(), tempfile::tempdir().expect("a temporary directory"));
        let configuration = directory.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {MASTER} {DOWN_AFTER}\nsentinel failover-timeout {MASTER} 6000\n\
             sentinel parallel-syncs {MASTER} 1\n"
        );
        fs::write(&configuration, text).expect("written");
        let process = Command::new("redis-server")
            .arg(&configuration)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is needed: run `make test`, which installs it");
        Self { process, port, _directory: directory }
    }

    fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).expect("a url");
        client.get_connection_with_timeout(Duration::from_secs(2)).expect("the Sentinel answers")
    }

    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).ok()?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2)).ok()?;
        redis::cmd("SENTINEL").arg(words).query(&mut connection).ok()
    }

    fn master(&self) -> Option<u16> {
        self.ask::<(String, u16)>(&["GET-MASTER-ADDR-BY-NAME", MASTER]).map(|(_, port)| port)
    }

    fn knows(&self, replicas: usize, sentinels: usize) -> bool {
        let count = |what: &str| self.ask::<Vec<redis::Value>>(&[what, MASTER]).map_or(0, |all| all.len());
        count("REPLICAS") == replicas && count("SENTINELS") == sentinels
    }
}
