use std::{
    slice::from_ref,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    load::{Generator, Load, Outcome, Pace},
    measure::process::own_cpu,
    options::Options,
    runner::{Runner, Stage},
    servers::SECRET,
    worker_process::{Job, Workers},
};

/// Channels that the sockets are spread over.
const CHANNELS: usize = 100;
/// Sockets of one process, below its limit of file descriptors.
const PER_PROCESS: usize = 15_000;
/// How long memory may settle after the last handshake.
const SETTLE: Duration = Duration::from_secs(3);

/// How many sockets to open, and how.
#[derive(Debug, clap::Args)]
pub(super) struct IdleArgs {
    #[command(flatten)]
    options: Options,
    /// Sockets, over 100 channels
    #[arg(long, default_value_t = 15_000)]
    sockets: usize,
    /// Handshakes in progress at a time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100])]
    opening: Vec<usize>,
    /// Number of replicas of the server
    #[arg(long, default_value_t = 1)]
    replicas: usize,
}

/// Measures resident memory per socket that is open, subscribed and receives nothing.
pub(super) fn execute(args: &IdleArgs) -> Result<bool> {
    let mut runner = Runner::new("idle", &args.options, false)?;
    let sockets = if args.options.quick { args.sockets.min(1000) } else { args.sockets };
    let processes = sockets.div_ceil(PER_PROCESS);
    let load = |opening| Load {
        channels: CHANNELS,
        sockets_per_channel: sockets / CHANNELS / processes,
        pace: Pace::Idle,
        opening,
        ..Load::default()
    };
    for (server, &opening) in
        runner.servers(&[])?.iter().flat_map(|server| args.opening.iter().map(move |o| (server, o)))
    {
        let load = load(opening);
        let measured = runner.stage(&**server, from_ref(&load), args.replicas).and_then(|stage| {
            let outcome = measure(&stage, &load, processes)?;
            let case = format!("{} sockets, {opening} handshakes at a time", load.sockets() * processes);
            Ok((stage.record(&runner, &case, 1, &load, outcome.clone()), outcome))
        });
        match measured {
            Ok((record, outcome)) => {
                println!(
                    "{:<10} {:>6.0} bytes of resident memory per socket at {}, {:.0} handshakes per second of CPU time",
                    server.name(),
                    outcome.rss_per_socket,
                    record.case,
                    outcome.handshakes_per_server_cpu_second
                );
                runner.keep_silently(record)?;
            }
            Err(error) => println!("{:<10} skipped: {error:#}", server.name()),
        }
    }
    Ok(runner.is_clean())
}

fn measure(stage: &Stage, load: &Load, processes: usize) -> Result<Outcome> {
    // Open one socket first: what is allocated once does not belong to the other sockets.
    let mut generator = Generator::new(load.clone(), stage.target(), stage.protocol())?;
    generator.open(0..1)?;
    let watched = stage.watched();
    let (rss_before, cpu_before, own_before) = (watched.server.resident(), watched.server.cpu(), own_cpu());
    let began = Instant::now();
    let job = Job {
        protocol: stage.protocol().name().to_owned(),
        secret: SECRET.to_owned(),
        sockets: stage.target().sockets,
        load: load.clone(),
    };
    let workers = Workers::start(&job, processes - 1)?;
    generator.open(1..load.sockets())?;
    workers.wait_until_open().context("another process could not open its sockets")?;
    let seconds = began.elapsed().as_secs_f64();
    let server_cpu = watched.server.cpu() - cpu_before;
    let pause = Instant::now() + SETTLE;
    while Instant::now() < pause {
        generator.turn(Duration::from_millis(50))?;
    }
    ensure!(generator.closed() == 0, "the server closed sockets");
    let rss_open = watched.server.resident();
    let opened = (load.sockets() * processes - 1) as f64;
    Ok(Outcome {
        seconds,
        server_cpu,
        generator_cpu: own_cpu() - own_before,
        rss_before,
        rss_open,
        rss_loaded: rss_open,
        rss_per_socket: rss_open.saturating_sub(rss_before) as f64 / opened,
        handshakes_per_server_cpu_second: opened / server_cpu.total().max(f64::MIN_POSITIVE),
        ..Outcome::default()
    })
}
