use std::{
    slice::from_ref,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::Options;
use crate::{
    load::{Generator, Load, Outcome, Pace, Watched},
    measure::process::own_cpu,
    runner::{Runner, Stage},
    servers::Server,
};

const ROUNDS: usize = 3;
/// Events per second of the first three.
const RATE: usize = 5000;
const TICK: Duration = Duration::from_millis(10);
/// What waits in the publisher's queue while as much as possible is published.
const QUEUED: usize = 20_000;
/// Over so many channels no two events of a tick share one.
const CHANNELS: usize = 1000;

/// How the events of a tick are published.
#[derive(Clone, Copy)]
enum Way {
    Plain,
    Singly,
    Batched,
    Most,
}

const WAYS: [(&str, Way); 4] = [
    ("plain PUBLISH, pipelined", Way::Plain),
    ("logged, one event to a step", Way::Singly),
    ("logged, 50 events to a step", Way::Batched),
    ("logged, as many as possible", Way::Most),
];

/// What an event costs Redis, live and logged; nobody listens.
pub(super) fn execute(options: &Options) -> Result<bool> {
    let mut runner = Runner::new("publish", options, false)?;
    let server: Box<dyn Server> = runner.servers(&["crewcast"])?.remove(0);
    for round in 1..=runner.rounds(ROUNDS) {
        for (case, way) in WAYS {
            let load = runner.shortened(Load {
                channels: CHANNELS,
                sockets_per_channel: 0,
                pace: Pace::Idle,
                logged: !matches!(way, Way::Plain),
                ..Load::default()
            });
            let stage = runner.stage(&*server, from_ref(&load), 1)?;
            let outcome = measure(&stage, &load, way)?;
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

fn measure(stage: &Stage, load: &Load, way: Way) -> Result<Outcome> {
    let mut generator = Generator::new(load.clone(), stage.target(), stage.protocol())?;
    let watched = stage.watched();
    publish_for(&mut generator, way, load.warm_up)?;
    let (began, redis, own, sent) = (Instant::now(), watched.redis.cpu(), own_cpu(), generator.sent());
    publish_for(&mut generator, way, load.window)?;
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

fn publish_for(generator: &mut Generator, way: Way, time: Duration) -> Result<()> {
    let per_tick = RATE / (Duration::from_secs(1).as_millis() / TICK.as_millis()) as usize;
    let (began, mut ticks) = (Instant::now(), 0);
    while began.elapsed() < time {
        let first = ticks * per_tick;
        match way {
            Way::Plain | Way::Singly => generator.publish_on((first..first + per_tick).map(|n| n % CHANNELS))?,
            Way::Batched => generator.publish_on(std::iter::repeat_n(ticks % CHANNELS, per_tick))?,
            Way::Most => {
                while generator.queued() < QUEUED {
                    generator.publish_on((0..per_tick).map(|n| n % 16))?;
                }
            }
        }
        ticks += 1;
        let next = match way {
            Way::Most => Instant::now() + Duration::from_millis(1),
            Way::Plain | Way::Singly | Way::Batched => began + TICK * ticks as u32,
        };
        while Instant::now() < next {
            generator.turn(next.saturating_duration_since(Instant::now()))?;
        }
    }
    Ok(())
}
