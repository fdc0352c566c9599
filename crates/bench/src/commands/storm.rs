use std::{
    slice::from_ref,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    load::{Generator, Load, Outcome, Pace},
    options::Options,
    record::Storm,
    runner::{Runner, Stage},
};

const ROUNDS: usize = 3;
const CHANNELS: usize = 10;
/// How long the server has to notice that all sockets are gone.
const AWAY: Duration = Duration::from_millis(500);

/// The size of the storm.
#[derive(Debug, clap::Args)]
pub(super) struct StormArgs {
    #[command(flatten)]
    options: Options,
    /// Sockets, over 10 channels
    #[arg(long, default_value_t = 10_000)]
    sockets: usize,
    /// Events per channel that are logged while the sockets are away
    #[arg(long, default_value_t = 100)]
    missed: u64,
}

/// Measures a reconnect storm: all sockets are cut at once, events are logged, and all sockets resume.
pub(super) fn execute(args: &StormArgs) -> Result<bool> {
    let mut runner = Runner::new("storm", &args.options, false)?;
    let sockets = if args.options.quick { args.sockets.min(1000) } else { args.sockets };
    let load = Load {
        channels: CHANNELS,
        sockets_per_channel: sockets / CHANNELS,
        pace: Pace::Idle,
        logged: true,
        opening: 512,
        ..Load::default()
    };
    let servers = runner.servers(&["crewcast"])?;
    for round in 1..=runner.rounds(ROUNDS) {
        for server in &servers {
            let stage = runner.stage(&**server, from_ref(&load), 1)?;
            let (storm, outcome) = measure(&stage, &load, args.missed)?;
            println!(
                "{}: {} sockets open again after {:.2} s, each with {} missed events after {:.2} s; lost {}, \
                 duplicated {}",
                server.name(),
                storm.sockets,
                storm.open_seconds,
                storm.missed,
                storm.complete_seconds,
                outcome.lost + outcome.undelivered,
                outcome.doubled
            );
            let case = format!("{} sockets, {} missed events", storm.sockets, storm.missed);
            let record = stage.record(&runner, &case, round, &load, outcome);
            runner.keep_silently(crate::record::Record { storm: Some(storm), ..record })?;
        }
    }
    Ok(runner.is_clean())
}

fn measure(stage: &Stage, load: &Load, missed: u64) -> Result<(Storm, Outcome)> {
    let watched = stage.watched();
    let mut generator = Generator::new(load.clone(), stage.target(), stage.protocol())?;
    generator.remember_positions();
    generator.open(0..load.sockets())?;
    generator.wake(&mut ())?;
    ensure!(generator.closed() == 0, "the server closed sockets before the storm");
    generator.cut_all();
    for _ in 0..missed {
        generator.publish_on(0..load.channels)?;
    }
    generator.run_for(AWAY)?;
    generator.wait_until_published()?;
    generator.resume_positions()?;
    let before = generator.begin_window(&watched);
    let began = Instant::now();
    generator.open(0..load.sockets())?;
    let open_seconds = began.elapsed().as_secs_f64();
    generator.drain()?;
    let after = generator.end_window(&watched);
    // If an event never arrives, the time includes the wait for it; the record shows the loss.
    let storm =
        Storm { sockets: load.sockets(), missed, open_seconds, complete_seconds: began.elapsed().as_secs_f64() };
    Ok((storm, Outcome { rss_loaded: watched.server.resident(), ..generator.outcome(&before, &after) }))
}
