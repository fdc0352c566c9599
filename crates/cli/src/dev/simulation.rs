//! Simulated crews that never stop. Their runs have agents, tasks and tool calls that progress, fail and are retried.
//!
//! The events are published like those of any producer.

use std::time::Duration;

use crewcast_publisher::Publisher;
use fastrand::Rng;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{
    org,
    run::SimulatedRun,
    script::{CREWS, Crew, EndingDeck},
};

/// Options of the simulation.
#[derive(Clone, Debug)]
pub(crate) struct SimulationOptions {
    /// The same seed gives the same simulation, except for the ids of runs.
    ///
    /// Logs outlive the simulation, and a new run must not continue the log of an old one.
    pub seed: u64,
    /// The org of everything that is simulated.
    pub org: String,
    /// The speed: 1 is natural, 2 is twice as fast.
    pub speed: f64,
    /// Stops the simulation: open runs end, crews go offline, and [`run`] returns.
    pub stop: CancellationToken,
}

/// Runs the crews until `options.stop` is cancelled. Does not close the publisher.
pub(crate) async fn run(publisher: Publisher, options: SimulationOptions) {
    let mut rng = Rng::with_seed(options.seed);
    let session = session_name();
    let crews = CREWS.iter().map(|crew| {
        let pace = Pace { speed: options.speed, halt: options.stop.clone() };
        work(&publisher, crew, &session, pace, rng.fork())
    });
    let crews: Vec<_> = crews.collect();
    let pace = || Pace { speed: options.speed, halt: options.stop.clone() };
    let (stream_rng, hub_rng, session_rng, forge_rng) = (rng.fork(), rng.fork(), rng.fork(), rng.fork());
    // The parts end with `Stopped`, which is what the caller asked for.
    let _ = tokio::join!(
        join_all(crews),
        org::stream(&publisher, &session, pace(), stream_rng),
        org::hub(&publisher, &options.org, pace(), hub_rng),
        org::session(&publisher, (&options.org, &session), pace(), session_rng),
        org::forge(&publisher, &options.org, pace(), forge_rng),
    );
}

/// Works as one crew: run after run, with pauses between them.
async fn work(publisher: &Publisher, crew: &'static Crew, session: &str, pace: Pace, mut rng: Rng) {
    let mission = publisher.mission(crew.id);
    let mut endings = EndingDeck::new();
    mission.available();
    for number in 1u64.. {
        if pace.wait(&mut rng, crew.rest).await.is_err() {
            break;
        }
        if crew.leaves && number % 4 == 0 {
            mission.offline();
            if pace.wait(&mut rng, (6.0, 14.0)).await.is_err() {
                break;
            }
            mission.available();
            if pace.wait(&mut rng, (1.0, 2.0)).await.is_err() {
                break;
            }
        }
        mission.busy();
        let id = format!("{}-{session}-{number}", crew.id);
        let ending = endings.draw(&mut rng);
        SimulatedRun::new(publisher, crew, id, &pace, rng.fork()).play(ending).await;
        mission.available();
    }
    mission.offline();
}

/// A short name that is unique for each start: the seconds since 1970 in base 36.
fn session_name() -> String {
    let mut rest = crewcast_events::timestamp::unix_now();
    let mut digits = Vec::new();
    while rest > 0 {
        digits.push(char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize]));
        rest /= 36;
    }
    digits.iter().rev().collect()
}

/// The pauses of the simulation. They end when it is stopped.
#[derive(Clone)]
pub(super) struct Pace {
    pub(super) speed: f64,
    pub(super) halt: CancellationToken,
}

/// The run or the whole simulation has been stopped.
#[derive(Debug)]
pub(super) struct Stopped;

impl Pace {
    /// Waits between `shortest` and `longest` seconds at natural speed.
    pub(super) async fn wait(&self, rng: &mut Rng, (shortest, longest): (f64, f64)) -> Result<(), Stopped> {
        let seconds = (shortest + rng.f64() * (longest - shortest)) / self.speed;
        let pause = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        tokio::select! {
            biased;
            () = self.halt.cancelled() => Err(Stopped),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// The same pace for a part that can be stopped on its own.
    pub(super) fn child(&self) -> Self {
        Self { speed: self.speed, halt: self.halt.child_token() }
    }
}
