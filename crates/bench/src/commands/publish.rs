use std::{
    slice::from_ref,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    load::{Generator, Load, Outcome, Pace, Watched},
    measure::process::own_cpu,
    options::Options,
    runner::{Runner, Stage},
    servers::Server,
};

const ROUNDS: usize = 3;
/// Events per second of all modes but the last.
const RATE: usize = 5000;
const TICK: Duration = Duration::from_millis(10);
/// Events that wait in the publisher's queue in the last mode.
const QUEUED: usize = 20_000;
/// Enough channels that no two events of a tick share one.
const CHANNELS: usize = 1000;

/// How the events of a tick are published.
#[derive(Clone, Copy)]
enum PublishMode {
    Plain,
    Singly,
    Batched,
    Most,
}

const MODES: [(&str, PublishMode); 4] = [
    ("plain PUBLISH, pipelined", PublishMode::Plain),
    ("logged, one event per append", PublishMode::Singly),
    ("logged, 50 events per append", PublishMode::Batched),
    ("logged, as fast as possible", PublishMode::Most),
];

/// Measures what a live and a logged event cost Redis while no socket listens.
pub(super) fn execute(options: &Options) -> Result<bool> {
    let mut runner = Runner::new("publish", options, false)?;
    let server: Box<dyn Server> = runner.servers(&["crewcast"])?.remove(0);
    for round in 1..=runner.rounds(ROUNDS) {
        for (case, mode) in MODES {
            let load = runner.shortened(Load {
                channels: CHANNELS,
                sockets_per_channel: 0,
                pace: Pace::Idle,
                logged: !matches!(mode, PublishMode::Plain),
                ..Load::default()
            });
            let stage = runner.stage(&*server, from_ref(&load), 1)?;
            let outcome = measure(&stage, &load, mode)?;
            println!(
                "{case:<28} {:>8.0} events/s, {:.2} us of Redis' CPU time each, publisher {:.0}%",
                outcome.published as f64 / outcome.seconds,
                1e6 * outcome.redis_cpu.total() / outcome.published as f64,
                100.0 * outcome.generator_share()
            );
            let record = stage.record(&runner, case, round, &load, outcome);
            runner.keep_silently(record)?;
        }
    }
    Ok(true)
}

fn measure(stage: &Stage, load: &Load, mode: PublishMode) -> Result<Outcome> {
    let mut generator = Generator::new(load.clone(), stage.target(), stage.protocol())?;
    let watched = stage.watched();
    publish_for(&mut generator, mode, load.warm_up)?;
    let (began, redis, own, sent) = (Instant::now(), watched.redis.cpu(), own_cpu(), generator.sent());
    publish_for(&mut generator, mode, load.window)?;
    Ok(outcome(&generator, &watched, began, (redis, own, sent)))
}

fn outcome(
    generator: &Generator,
    watched: &Watched,
    began: Instant,
    (redis, own, sent): (crate::measure::process::Cpu, crate::measure::process::Cpu, u64),
) -> Outcome {
    Outcome {
        seconds: began.elapsed().as_secs_f64(),
        published: generator.sent() - sent,
        redis_cpu: watched.redis.cpu() - redis,
        generator_cpu: own_cpu() - own,
        ..Outcome::default()
    }
}

fn publish_for(generator: &mut Generator, mode: PublishMode, time: Duration) -> Result<()> {
    let per_tick = RATE / (Duration::from_secs(1).as_millis() / TICK.as_millis()) as usize;
    let (began, mut ticks) = (Instant::now(), 0);
    while began.elapsed() < time {
        let first = ticks * per_tick;
        match mode {
            PublishMode::Plain | PublishMode::Singly => {
                generator.publish_on((first..first + per_tick).map(|n| n % CHANNELS))?
            }
            PublishMode::Batched => generator.publish_on(std::iter::repeat_n(ticks % CHANNELS, per_tick))?,
            PublishMode::Most => {
                while generator.queued() < QUEUED {
                    generator.publish_on((0..per_tick).map(|n| n % 16))?;
                }
            }
        }
        ticks += 1;
        let next = match mode {
            PublishMode::Most => Instant::now() + Duration::from_millis(1),
            PublishMode::Plain | PublishMode::Singly | PublishMode::Batched => began + TICK * ticks as u32,
        };
        while Instant::now() < next {
            generator.turn(next.saturating_duration_since(Instant::now()))?;
        }
    }
    Ok(())
}
