//! Crews that work for ever, so that there is something to watch: runs with agents, tasks and tool calls that
//! make progress, fail, are tried again, and end one way or another. Published like anybody's events.

use std::time::Duration;

use crewcast_publisher::Publisher;
use fastrand::Rng;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{
    run::SimulatedRun,
    script::{CREWS, Crew, Fates},
};

/// How the simulation goes.
#[derive(Clone, Debug)]
pub struct SimulationOptions {
    /// The same seed gives the same course, but for the names of runs: logs outlive the simulation, and a new
    /// run must not go on in an old one's.
    pub seed: u64,
    /// 1: natural pace; 2: twice as fast.
    pub speed: f64,
    /// Ends it: what is open is ended, crews go offline, and [`run`] returns.
    pub stop: CancellationToken,
}

/// Lets the crews work until `options.stop` is cancelled. The publisher is not closed.
pub async fn run(publisher: Publisher, options: SimulationOptions) {
    let mut rng = Rng::with_seed(options.seed);
    let session = session_name();
    let crews = CREWS.iter().map(|crew| {
        let pace = Pace { speed: options.speed, halt: options.stop.clone() };
        work(&publisher, crew, &session, pace, rng.fork())
    });
    join_all(crews.collect::<Vec<_>>()).await;
}

/// One crew: run after run, with rests between them.
async fn work(publisher: &Publisher, crew: &'static Crew, session: &str, pace: Pace, mut rng: Rng) {
    let mission = publisher.mission(crew.id);
    let mut fates = Fates::new();
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
        let fate = fates.deal(&mut rng);
        SimulatedRun::new(publisher, crew, id, &pace, rng.fork()).play(fate).await;
        mission.available();
    }
    mission.offline();
}

/// Seconds since 1970 in base 36: short, unlike that of any earlier start, and in order.
fn session_name() -> String {
    let mut rest = crewcast_events::timestamp::unix_now();
    let mut digits = Vec::new();
    while rest > 0 {
        digits.push(char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize]));
        rest /= 36;
    }
    digits.iter().rev().collect()
}

/// Waits as people and machines do, until there is nothing to wait for any more.
#[derive(Clone)]
pub(super) struct Pace {
    pub(super) speed: f64,
    pub(super) halt: CancellationToken,
}

/// The run or the whole simulation was stopped.
#[derive(Debug)]
pub(super) struct Halted;

impl Pace {
    /// Between `shortest` and `longest` seconds at natural speed.
    pub(super) async fn wait(&self, rng: &mut Rng, (shortest, longest): (f64, f64)) -> Result<(), Halted> {
        let seconds = (shortest + rng.f64() * (longest - shortest)) / self.speed;
        let pause = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        tokio::select! {
            biased;
            () = self.halt.cancelled() => Err(Halted),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// The same pace for something that can be stopped by itself.
    pub(super) fn child(&self) -> Self {
        Self { speed: self.speed, halt: self.halt.child_token() }
    }
}
