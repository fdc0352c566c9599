//! A Redis Cluster: three masters, each with a replica.

use std::time::{Duration, Instant};

use crate::{Program, RedisServer, STARTING};

const MASTERS: usize = 3;
const SLOTS: usize = 16384;

/// Six servers. The first three begin as masters.
#[derive(Debug)]
pub struct Cluster {
    /// All six servers.
    pub servers: Vec<RedisServer>,
}

impl Cluster {
    /// Starts a Cluster with the installed Redis and waits until it serves.
    pub fn start() -> Self {
        Self::start_program(Program::Redis, &[]).expect("redis-server")
    }

    /// Like [`Cluster::start`], with this program and further options. `None` if the program is not installed.
    pub fn start_program(program: Program, options: &[&str]) -> Option<Self> {
        let mut all = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "1500"];
        all.extend_from_slice(options);
        let start = |_| RedisServer::start_program(program, &all);
        let cluster = Self { servers: (0..2 * MASTERS).map(start).collect::<Option<_>>()? };
        cluster.join();
        Some(cluster)
    }

    fn join(&self) {
        for (n, server) in self.servers.iter().enumerate() {
            let epoch = (n + 1).to_string();
            server.run::<()>(&[b"CLUSTER", b"SET-CONFIG-EPOCH", epoch.as_bytes()]);
            if n < MASTERS {
                let slots = n * SLOTS / MASTERS..(n + 1) * SLOTS / MASTERS;
                let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
                let mut words: Vec<&[u8]> = vec![b"CLUSTER", b"ADDSLOTS"];
                words.extend(slots.iter().map(String::as_bytes));
                server.run::<()>(&words);
            }
            let first = self.servers[0].port.to_string();
            server.run::<()>(&[b"CLUSTER", b"MEET", b"127.0.0.1", first.as_bytes()]);
        }
        let count = self.servers.len();
        self.until("everybody knows everybody", || {
            self.servers.iter().all(|server| server.run::<String>(&[b"CLUSTER", b"NODES"]).lines().count() == count)
        });
        for n in 0..MASTERS {
            let master: String = self.servers[n].run(&[b"CLUSTER", b"MYID"]);
            let replicate: &[&[u8]] = &[b"CLUSTER", b"REPLICATE", master.as_bytes()];
            self.until("a replica follows", || self.servers[MASTERS + n].try_run::<()>(replicate).is_ok());
        }
        self.until("all serve and replicate", || {
            self.servers.iter().all(|server| server.run::<String>(&[b"CLUSTER", b"INFO"]).contains("cluster_state:ok"))
                && self.servers[MASTERS..]
                    .iter()
                    .all(|server| server.run::<String>(&[b"INFO", b"replication"]).contains("master_link_status:up"))
                && self.servers.iter().all(|server| {
                    // Gossip takes a moment to spread which server replicates which.
                    let nodes: String = server.run(&[b"CLUSTER", b"NODES"]);
                    nodes.matches("slave").count() == MASTERS && !nodes.contains("handshake")
                })
        });
    }

    /// The URL for a gateway. It names two of the servers.
    pub fn url(&self) -> String {
        format!("redis+cluster://{},{}", self.servers[0].address(), self.servers[4].address())
    }

    /// The index of the master that holds a slot, according to most of the live servers.
    pub fn holder(&self, slot: u16) -> Option<usize> {
        let mut votes = vec![0; self.servers.len()];
        for server in &self.servers {
            let Ok(ranges) = server.try_run::<Vec<Vec<redis::Value>>>(&[b"CLUSTER", b"SLOTS"]) else { continue };
            let port = ranges.iter().find_map(|range| holder_of_range(range, slot));
            if let Some(index) = self.servers.iter().position(|server| Some(server.port) == port) {
                votes[index] += 1;
            }
        }
        let most = votes.iter().enumerate().max_by_key(|(_, votes)| **votes)?;
        (*most.1 > 0).then_some(most.0)
    }

    /// Waits until most servers agree that a server other than `from` holds the slot.
    pub fn failed_over(&self, slot: u16, from: usize) -> usize {
        self.until("another holder", || self.holder(slot).is_some_and(|holder| holder != from));
        self.holder(slot).expect("a holder")
    }

    /// Starts a failover of the master that holds this slot to its replica, as before an upgrade.
    pub fn fail_over(&self, slot: u16) {
        let master = &self.servers[self.holder(slot).expect("a holder")];
        let id: String = master.run(&[b"CLUSTER", b"MYID"]);
        self.until("a failover begins", || {
            let follows = |server: &&RedisServer| {
                let nodes: String = server.try_run(&[b"CLUSTER", b"NODES"]).unwrap_or_default();
                nodes.lines().any(|line| line.contains("myself,slave") && line.contains(&id))
            };
            let replica = self.servers.iter().find(follows);
            replica.is_some_and(|replica| replica.try_run::<()>(&[b"CLUSTER", b"FAILOVER"]).is_ok())
        });
    }

    /// Moves a slot with its keys to another master, as resharding does.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let from = self.holder(slot).expect("a holder");
        let id = |index: usize| self.servers[index].run::<String>(&[b"CLUSTER", b"MYID"]);
        let (source, target, number) = (id(from), id(to), slot.to_string());
        let set = |index: usize, state: &str, id: &str| {
            let words = [b"CLUSTER", b"SETSLOT".as_slice(), number.as_bytes(), state.as_bytes(), id.as_bytes()];
            self.servers[index].run::<()>(&words);
        };
        set(to, "IMPORTING", &source);
        set(from, "MIGRATING", &target);
        let port = self.servers[to].port.to_string();
        loop {
            let keys: Vec<Vec<u8>> = self.servers[from].run(&[b"CLUSTER", b"GETKEYSINSLOT", number.as_bytes(), b"100"]);
            if keys.is_empty() {
                break;
            }
            let mut words: Vec<&[u8]> = vec![b"MIGRATE", b"127.0.0.1", port.as_bytes(), b"", b"0", b"5000", b"KEYS"];
            words.extend(keys.iter().map(Vec::as_slice));
            self.servers[from].run::<()>(&words);
        }
        set(to, "NODE", &target);
        set(from, "NODE", &target);
        for index in 0..self.servers.len() {
            if index != to && index != from {
                // A replica learns it from its master.
                let words = [b"CLUSTER", b"SETSLOT".as_slice(), number.as_bytes(), b"NODE", target.as_bytes()];
                let _: redis::RedisResult<()> = self.servers[index].try_run(&words);
            }
        }
    }

    fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < 2 * STARTING, "did not happen in time: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The port of the master in a row of `CLUSTER SLOTS`, if the row covers the slot.
fn holder_of_range(range: &[redis::Value], slot: u16) -> Option<u16> {
    let [redis::Value::Int(first), redis::Value::Int(last), redis::Value::Array(master), ..] = range else {
        return None;
    };
    let Some(redis::Value::Int(port)) = master.get(1) else { return None };
    (*first..=*last).contains(&i64::from(slot)).then(|| u16::try_from(*port).ok()).flatten()
}
