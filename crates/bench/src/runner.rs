//! Starts servers, puts load on them, and keeps the records.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    load::{self, Load, Outcome, Target, Watched},
    measure::{machine::Machine, process::Group},
    options::Options,
    protocol::Via,
    record::{self, Record},
    servers::{self, Redis, Running, Server, Setup},
};

/// The core of the server, and the core that generator and Redis share, in pinned runs.
const SERVER_CORE: usize = 0;
const OTHER_CORE: usize = 1;

/// Runs the cases of one command.
pub struct Runner {
    command: &'static str,
    options: Options,
    machine: Machine,
    pinned: bool,
    clean: bool,
}

/// A running server with a Redis of its own.
pub struct Stage {
    /// The running server.
    pub running: Running,
    /// The Redis of the run.
    pub redis: Redis,
    name: &'static str,
    replicas: usize,
}

impl Runner {
    /// A runner for the command of this name. If `pinned`, the server has a core of its own, and this process shares
    /// another with Redis. A machine with one core ignores `pinned`.
    ///
    /// # Errors
    /// If this process cannot be bound to its core.
    pub fn new(command: &'static str, options: &Options, pinned: bool) -> Result<Self> {
        let machine = Machine::this();
        let pinned = pinned && machine.cores > 1;
        if pinned {
            let mut cores = CpuSet::new();
            cores.set(OTHER_CORE);
            sched_setaffinity(None, &cores).context("cannot bind the generator to a core")?;
        }
        let file = options.out.join(format!("{command}.jsonl"));
        if file.exists() {
            std::fs::remove_file(&file)?;
        }
        Ok(Self { command, options: options.clone(), machine, pinned, clean: true })
    }

    /// The servers given on the command line, or else `default`. An empty `default` means all.
    ///
    /// # Errors
    /// If a name is unknown.
    pub fn servers(&self, default: &[&str]) -> Result<Vec<Box<dyn Server>>> {
        let mut all = servers::all(&self.options.crewcast()?, &servers::own_binary()?);
        let names: Vec<&str> = match &self.options.servers[..] {
            [] if default.is_empty() => all.iter().map(|server| server.name()).collect(),
            [] => default.to_vec(),
            asked => asked.iter().map(String::as_str).collect(),
        };
        let mut chosen = Vec::new();
        for name in names {
            let Some(place) = all.iter().position(|server| server.name() == name) else {
                bail!("there is no server {name}: --servers takes raw, crewcast, fastapi, socketio, nchan and nats");
            };
            chosen.push(all.swap_remove(place));
        }
        Ok(chosen)
    }

    /// Starts a server and a Redis for it, set up for the largest of these loads.
    ///
    /// # Errors
    /// If either does not start.
    pub fn stage(&self, server: &dyn Server, loads: &[Load], replicas: usize) -> Result<Stage> {
        let redis = Redis::start(self.pinned.then_some(OTHER_CORE))?;
        let setup = Setup {
            redis: redis.address(),
            core: self.pinned.then_some(SERVER_CORE),
            replicas,
            channels: loads.iter().map(|load| load.channels).max().unwrap_or(1),
            sockets: loads.iter().map(Load::sockets).max().unwrap_or(1),
            deflate: loads.iter().any(|load| load.deflate),
            peers: self.options.peers.clone(),
        };
        let running = server.start(&setup)?;
        Ok(Stage { running, redis, name: server.name(), replicas })
    }

    /// Puts a load on a stage, and keeps the record.
    ///
    /// # Errors
    /// As [`load::run`].
    pub fn measure(&mut self, stage: &Stage, case: &str, round: usize, load: &Load) -> Result<Record> {
        let outcome = load::run(load, stage.target(), stage.running.protocol.clone(), &stage.watched())?;
        self.keep(stage.record(self, case, round, load, outcome))
    }

    /// Writes a record, and prints a line about it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn keep(&mut self, record: Record) -> Result<Record> {
        print_line(&record);
        self.keep_silently(record)
    }

    /// Writes a record.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn keep_silently(&mut self, record: Record) -> Result<Record> {
        record::append(&self.options.out, &record)?;
        self.clean &= record.outcome.is_clean();
        Ok(record)
    }

    /// Whether no event was lost, duplicated or out of order so far.
    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// How many rounds to run.
    pub fn rounds(&self, default: usize) -> usize {
        self.options.rounds.unwrap_or(if self.options.quick { 1 } else { default })
    }

    /// The load, or a short form of it with `--quick`.
    pub fn shortened(&self, load: Load) -> Load {
        self.options.shortened(load)
    }
}

impl Stage {
    /// The addresses that the load goes to.
    pub fn target(&self) -> Target {
        let endpoints = &self.running.endpoints;
        let publish = match self.running.protocol.publish_over() {
            Via::Redis | Via::Cluster(_) => Some(self.redis.address()),
            Via::Tcp { .. } => endpoints.publish,
        };
        Target { sockets: endpoints.sockets.clone(), publish }
    }

    /// The processes to measure.
    pub fn watched(&self) -> Watched {
        Watched {
            server: Group::of(self.running.processes.iter().map(|process| process.id())),
            redis: Group::of([self.redis.id()]),
        }
    }

    /// A record of a run on this stage.
    pub fn record(&self, runner: &Runner, case: &str, round: usize, load: &Load, outcome: Outcome) -> Record {
        Record {
            command: runner.command.into(),
            server: self.name.into(),
            server_version: self.running.version.clone(),
            redis_version: self.redis.version().into(),
            case: case.into(),
            round,
            replicas: self.replicas,
            pinned: runner.pinned,
            load: load.clone(),
            machine: runner.machine.clone(),
            outcome,
            storm: None,
        }
    }

    /// The protocol of the server.
    pub fn protocol(&self) -> Arc<dyn crate::protocol::Protocol> {
        self.running.protocol.clone()
    }
}

/// Prints one line about a record.
pub fn print_line(record: &Record) {
    let outcome = &record.outcome;
    let thousands = |value: f64| format!("{:.0}k", value / 1000.0);
    let mut line = format!(
        "{:<10} {:<28} {:>7}/s {:>7}/server-cpu-s  p50 {:>8.2} p99 {:>8.2} max {:>8.2} ms  server {:>3.0}% \
         (sys {:>3.0}%) redis {:>3.0}% generator {:>3.0}%",
        record.server,
        record.case,
        thousands(outcome.deliveries_per_second),
        thousands(outcome.deliveries_per_server_cpu_second),
        outcome.latency.p50,
        outcome.latency.p99,
        outcome.latency.max,
        100.0 * outcome.server_share(),
        100.0 * outcome.server_cpu.system / outcome.seconds,
        100.0 * outcome.redis_cpu.total() / outcome.seconds,
        100.0 * outcome.generator_share(),
    );
    if outcome.deliveries > 0 && outcome.generator_share() > 0.9 {
        line += "  GENERATOR OVER 90%";
    }
    if !outcome.is_clean() {
        line += &format!(
            "  LOST {} DUPLICATED {} OUT OF ORDER {} UNDELIVERED {}",
            outcome.lost, outcome.doubled, outcome.disordered, outcome.undelivered
        );
    }
    if outcome.closed > 0 {
        line += &format!("  {} closed: {}", outcome.closed, outcome.close_reason.as_deref().unwrap_or_default());
    }
    println!("{line}");
}
