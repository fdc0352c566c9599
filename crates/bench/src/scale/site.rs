use std::{net::SocketAddr, path::PathBuf, time::Instant};

use anyhow::{Result, bail, ensure};

use super::{
    Case,
    probe::{Probe, kernel_memory},
};
use crate::{
    load::{self, Body, Outcome, Target, Watched},
    measure::process::Group,
    model::{Point, point::TURN},
    parts::{Job, Parts},
    servers::{CrewcastServer, Redis, Running, SECRET, Server, Setup, join},
};

/// Cores that all may use together before the machine, not the gateway, shapes the figures.
const CORES: f64 = 1.5;
/// Events that go out later than this, ms, were not published at the rate.
const LATE: f64 = 50.0;

/// Replicas, and the Redis between them.
struct Site {
    // Ends first, so that it does not miss the others.
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

/// A point, and of what.
#[derive(Debug)]
pub struct Measured {
    /// The point.
    pub point: Point,
    /// The gateway's version.
    pub crewcast: String,
    /// Redis' version.
    pub redis: String,
}

/// Measures a point of this gateway.
///
/// # Errors
/// When something does not start, and when the machine was too busy for the figures to mean something.
pub fn measure(crewcast: PathBuf, case: &Case) -> Result<Measured> {
    let site = Site::start(crewcast, case)?;
    let sockets = site.running.endpoints.sockets.clone();
    let kernel = kernel_memory();
    let began = Instant::now();
    let job =
        Job { protocol: "crewcast".into(), secret: SECRET.into(), sockets: sockets.clone(), load: case.load.clone() };
    let parts = Parts::start(&job, case.processes - 1)?;
    parts.wait_until_open()?;
    let mut probe = Probe::new(parts, site.gateways(), site.nodes());
    let watched = Watched {
        server: Group::of(site.running.processes.iter().map(|process| process.id())),
        redis: Group::of(site.redis.iter().map(Redis::id)),
    };
    let target = Target { sockets, publish: Some(site.redis[0].address()) };
    let outcome = load::run_with(&case.load, target, site.running.protocol.clone(), &watched, &mut probe)?;
    ensure!(
        case.load.window.as_secs_f64() >= TURN || began.elapsed().as_secs_f64() < TURN,
        "it took so long that pings were measured as well"
    );
    check(&outcome)?;
    Ok(Measured {
        point: point(case, &outcome, probe, kernel)?,
        crewcast: site.running.version.clone(),
        redis: site.redis[0].version().to_owned(),
    })
}

fn check(outcome: &Outcome) -> Result<()> {
    let cores = (outcome.server_cpu + outcome.redis_cpu + outcome.generator_cpu).total() / outcome.seconds;
    ensure!(cores <= CORES, "{:.0} % of a core were in use: too much", 100.0 * cores);
    ensure!(outcome.schedule_late.p99 <= LATE, "events went out {:.0} ms late", outcome.schedule_late.p99);
    ensure!(outcome.is_clean() && outcome.closed == 0, "events were lost, or sockets closed");
    Ok(())
}

fn point(case: &Case, outcome: &Outcome, probe: Probe, kernel: u64) -> Result<Point> {
    let Body::Padded(bytes) = case.load.body else { bail!("events of one size are needed") };
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
