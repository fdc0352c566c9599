use std::{net::SocketAddr, path::PathBuf, time::Instant};

use anyhow::{Result, bail, ensure};

use super::{
    Case,
    probe::{Probe, kernel_memory},
};
use crate::{
    load::{self, Body, Outcome, Target, Watched},
    measure::process::{Cpu, Group},
    model::{Point, point::PING_INTERVAL},
    servers::{CrewcastServer, Redis, Running, SECRET, Server, Setup, join},
    worker_process::{Job, Workers},
};

/// The most cores that all processes may use together. Beyond that the machine limits the figures, not the gateway.
const CORES: f64 = 1.5;
/// The 99th percentile of publishing delay in milliseconds, beyond which the rate was not sustained.
const LATE: f64 = 50.0;

/// Replicas and their Redis.
struct Site {
    // Dropped first, so that the gateways do not report a missing Redis.
    running: Running,
    redis: Vec<Redis>,
}

impl Site {
    fn start(crewcast: PathBuf, case: &Case) -> Result<Self> {
        let redis: Vec<Redis> = match case.nodes {
            1 => vec![Redis::start(None)?],
            count => join((0..count).map(|_| Redis::start_clustered()).collect::<Result<_>>()?)?,
        };
        let cluster = if case.nodes > 1 { redis.iter().map(Redis::address).collect() } else { Vec::new() };
        let setup = Setup {
            redis: redis[0].address(),
            core: None,
            replicas: case.replicas,
            channels: case.load.channels,
            sockets: case.load.sockets(),
            deflate: false,
            peers: PathBuf::new(),
        };
        let running = CrewcastServer { program: crewcast, cluster }.start(&setup)?;
        Ok(Self { redis, running })
    }

    fn gateways(&self) -> Vec<Group> {
        self.running.processes.iter().map(|process| Group::of([process.id()])).collect()
    }

    fn nodes(&self) -> Vec<(Group, SocketAddr)> {
        self.redis.iter().map(|redis| (Group::of([redis.id()]), redis.address())).collect()
    }
}

/// A measured point with the versions.
#[derive(Debug)]
pub struct Measured {
    /// The point.
    pub point: Point,
    /// The version of the gateway.
    pub crewcast: String,
    /// The version of Redis.
    pub redis: String,
}

/// Measures a point with this gateway.
///
/// # Errors
/// If a process does not start, or the machine was too busy for meaningful figures.
pub fn measure(crewcast: PathBuf, case: &Case) -> Result<Measured> {
    let site = Site::start(crewcast, case)?;
    let sockets = site.running.endpoints.sockets.clone();
    let kernel = kernel_memory();
    let began = Instant::now();
    let job =
        Job { protocol: "crewcast".into(), secret: SECRET.into(), sockets: sockets.clone(), load: case.load.clone() };
    let workers = Workers::start(&job, case.processes - 1)?;
    workers.wait_until_open()?;
    let mut probe = Probe::new(workers, site.gateways(), site.nodes());
    let watched = Watched {
        server: Group::of(site.running.processes.iter().map(|process| process.id())),
        redis: Group::of(site.redis.iter().map(Redis::id)),
    };
    let target = Target { sockets, publish: Some(site.redis[0].address()) };
    let outcome = load::run_with(&case.load, target, site.running.protocol.clone(), &watched, &mut probe)?;
    ensure!(
        case.load.window.as_secs_f64() >= PING_INTERVAL || began.elapsed().as_secs_f64() < PING_INTERVAL,
        "the run took so long that pings were measured as well"
    );
    check(&outcome)?;
    Ok(Measured {
        point: point(case, &outcome, probe, kernel)?,
        crewcast: site.running.version.clone(),
        redis: site.redis[0].version().to_owned(),
    })
}

fn check(outcome: &Outcome) -> Result<()> {
    let cpu: Cpu = [outcome.server_cpu, outcome.redis_cpu, outcome.generator_cpu].into_iter().sum();
    let cores = cpu.total() / outcome.seconds;
    ensure!(
        cores <= CORES,
        "the processes used {:.0} % of a core, which is too much for meaningful figures",
        100.0 * cores
    );
    ensure!(outcome.schedule_late.p99 <= LATE, "events were published {:.0} ms late", outcome.schedule_late.p99);
    ensure!(outcome.is_clean() && outcome.closed == 0, "events were lost, or sockets closed");
    Ok(())
}

fn point(case: &Case, outcome: &Outcome, probe: Probe, kernel: u64) -> Result<Point> {
    let Body::Padded(bytes) = case.load.body else { bail!("a point needs events of one size") };
    let used = probe.used;
    Ok(Point {
        number: case.number,
        held_out: case.held_out,
        replicas: case.replicas,
        nodes: case.nodes,
        channels: case.load.channels,
        per_channel: case.load.sockets_per_channel * case.processes,
        copies: case.copies(),
        bytes,
        seconds: outcome.seconds,
        published: outcome.published,
        deliveries: outcome.deliveries,
        wire_bytes: outcome.wire_bytes,
        gateway_cpu: used.gateways,
        redis_cpu: used.redis,
        generator_cpu: outcome.generator_cpu.total(),
        redis_output: used.output.iter().sum(),
        gateway_resident: used.gateways_resident,
        redis_resident: used.redis_resident,
        kernel_grown: used.kernel.saturating_sub(kernel),
        p50: outcome.latency.p50,
        p99: outcome.latency.p99,
    })
}
