//! Readiness: whether this replica delivers events. A probe is published to the broker and must return through this
//! replica's own subscription.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    broker::PubSub,
    drain::DrainController,
    telemetry::metrics::{Metric, gauge, histogram},
};

/// Probes per window, so that one lost message does not make the replica unready.
const PROBES_PER_WINDOW: u32 = 5;
/// Consecutive successes that make an unready replica ready, so that a flapping link does not.
const SUCCESSES: u32 = 2;

/// The results of the probes. Shared between [`Readiness::run`] and `/readyz`.
#[derive(Debug)]
pub(crate) struct Readiness {
    window: Duration,
    drain: DrainController,
    state: Mutex<ReadinessState>,
}

#[derive(Debug)]
struct ReadinessState {
    started: Instant,
    last_success: Option<Instant>,
    /// Consecutive successes, counted up to [`SUCCESSES`]. Failures within the window do not end readiness.
    streak: u32,
}

/// Why a replica is not ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotReady {
    /// The replica is draining.
    Draining,
    /// There have not been two consecutive successes since the start, or since the replica last stopped delivering.
    Starting,
    /// No probe came back within the window.
    NotDelivering {
        /// Time since the last probe that came back.
        age: Duration,
    },
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotReady::Draining => f.write_str("draining: this replica is going away"),
            NotReady::Starting => f.write_str("starting: no two probes in a row have come back from the broker yet"),
            NotReady::NotDelivering { age } => write!(
                f,
                "not delivering: the last probe came back through this replica's subscription {:.1} s ago",
                age.as_secs_f64()
            ),
        }
    }
}

impl Readiness {
    /// Not ready at first. `window` is `ready.window`.
    pub(crate) fn new(window: Duration, drain: DrainController) -> Self {
        Self {
            window,
            drain,
            state: Mutex::new(ReadinessState { started: Instant::now(), last_success: None, streak: 0 }),
        }
    }

    /// Whether this replica delivers events and is not draining.
    ///
    /// # Errors
    /// [`NotReady`], with the reason.
    pub(crate) fn check(&self) -> Result<(), NotReady> {
        if self.drain.is_draining() {
            return Err(NotReady::Draining);
        }
        let state = self.state.lock();
        match state.last_success {
            Some(_) if state.delivers(self.window) => Ok(()),
            Some(last) if state.streak < SUCCESSES && last.elapsed() <= self.window => Err(NotReady::Starting),
            Some(last) => Err(NotReady::NotDelivering { age: last.elapsed() }),
            None if state.started.elapsed() <= self.window => Err(NotReady::Starting),
            None => Err(NotReady::NotDelivering { age: state.started.elapsed() }),
        }
    }

    /// Time since the last success, or since the start.
    pub(crate) fn probe_age(&self) -> Duration {
        let state = self.state.lock();
        state.last_success.unwrap_or(state.started).elapsed()
    }

    /// Sets `crewcast_broker_probe_age_seconds` to the current age. The prober calls it with every probe; `/metrics`
    /// calls it too, so that a hanging prober is visible.
    pub(crate) fn export(&self) {
        gauge(Metric::BrokerProbeAge, &[]).set(self.probe_age().as_secs_f64());
    }

    /// Probes every fifth of the window. Runs until it is dropped: spawn it as a task of its own.
    pub(crate) async fn run(self: Arc<Self>, pubsub: Arc<dyn PubSub>) {
        let period = self.window / PROBES_PER_WINDOW;
        let roundtrip = histogram(Metric::BrokerRoundtrip, &[]);
        let mut ticks = interval(period.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reported = Err(NotReady::Starting);
        loop {
            ticks.tick().await;
            match timeout(period, pubsub.probe()).await {
                Ok(Ok(took)) => {
                    roundtrip.record(took.as_secs_f64());
                    self.succeeded();
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a probe failed");
                    self.failed();
                }
                Err(_) => self.failed(),
            }
            self.export();
            let now = self.check();
            log_change(&mut reported, now);
        }
    }

    fn succeeded(&self) {
        let mut state = self.state.lock();
        if state.lapsed(self.window) {
            state.streak = 0;
        }
        state.streak = (state.streak + 1).min(SUCCESSES);
        state.last_success = Some(Instant::now());
    }

    fn failed(&self) {
        let mut state = self.state.lock();
        if !state.delivers(self.window) {
            state.streak = 0;
        }
    }
}

impl ReadinessState {
    fn lapsed(&self, window: Duration) -> bool {
        self.last_success.is_none_or(|last| last.elapsed() > window)
    }

    fn delivers(&self, window: Duration) -> bool {
        self.streak >= SUCCESSES && !self.lapsed(window)
    }
}

/// Logs a change, once. The caller that begins a drain logs it.
fn log_change(reported: &mut Result<(), NotReady>, now: Result<(), NotReady>) {
    match now {
        Ok(()) if reported.is_err() => tracing::info!("ready"),
        Err(why @ NotReady::NotDelivering { .. }) if !matches!(reported, Err(NotReady::NotDelivering { .. })) => {
            tracing::warn!(%why, "not ready");
        }
        _ => {}
    }
    *reported = now;
}

#[cfg(test)]
mod tests {
    use tokio::{task::JoinHandle, time::sleep};

    use super::*;
    use crate::testing::{FakeProbes, Probe};

    const WINDOW: Duration = Duration::from_secs(15);
    const PERIOD: Duration = Duration::from_secs(3);

    struct Bench {
        readiness: Arc<Readiness>,
        drain: DrainController,
        probes: Arc<FakeProbes>,
        prober: JoinHandle<()>,
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            self.prober.abort();
        }
    }

    /// A prober that gets these results; the last one repeats. Returns shortly after the first probe has ended.
    async fn bench(probes: &[Probe]) -> Bench {
        let drain = DrainController::new(&crate::config::Drain::default());
        let readiness = Arc::new(Readiness::new(WINDOW, drain.clone()));
        let probes = FakeProbes::new(probes);
        let prober = tokio::spawn(readiness.clone().run(probes.clone()));
        sleep(Duration::from_millis(10)).await;
        Bench { readiness, drain, probes, prober }
    }

    impl Bench {
        fn is_ready(&self) -> bool {
            self.readiness.check().is_ok()
        }

        fn now(&self, probe: Probe) {
            self.probes.set(probe);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ready_after_two_successes() {
        let bench = bench(&[Probe::Returns]).await;
        assert_eq!(bench.readiness.check(), Err(NotReady::Starting));
        sleep(PERIOD).await;
        assert!(bench.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn the_two_successes_must_be_consecutive() {
        let bench = bench(&[Probe::Returns, Probe::Fails, Probe::Returns, Probe::Returns]).await;
        for ready in [false, false, false, true] {
            assert_eq!(bench.is_ready(), ready);
            sleep(PERIOD).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_blip_shorter_than_the_window_changes_nothing() {
        for fault in [Probe::Fails, Probe::Hangs] {
            let bench = bench(&[Probe::Returns, Probe::Returns, fault, fault, fault, Probe::Returns]).await;
            sleep(PERIOD).await;
            for _ in 0..20 {
                assert!(bench.is_ready(), "{fault:?}");
                sleep(PERIOD / 2).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_without_success_ends_readiness_and_two_successes_restore_it() {
        for fault in [Probe::Fails, Probe::Hangs] {
            let bench = bench(&[Probe::Returns, Probe::Returns, fault]).await;
            sleep(PERIOD).await;
            sleep(WINDOW - Duration::from_millis(20)).await;
            assert!(bench.is_ready(), "{fault:?}");
            sleep(Duration::from_millis(20)).await;
            let why = bench.readiness.check();
            assert!(matches!(why, Err(NotReady::NotDelivering { age }) if age > WINDOW), "{why:?}");
            bench.now(Probe::Returns);
            // A hanging probe is given up after a period. The next one may then be a period away.
            let mut successes_seen = 0;
            while !bench.is_ready() {
                sleep(PERIOD).await;
                successes_seen += 1;
                assert!(successes_seen <= 4, "{fault:?}");
            }
            assert!(successes_seen >= 2, "one success was enough after {fault:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_never_delivers_is_reported_after_the_window() {
        let bench = bench(&[Probe::Hangs]).await;
        assert_eq!(bench.readiness.check(), Err(NotReady::Starting));
        sleep(WINDOW).await;
        let detail = bench.readiness.check().unwrap_err().to_string();
        assert!(detail.starts_with("not delivering"), "{detail}");
        assert!(bench.readiness.probe_age() > WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn a_draining_replica_is_unready_immediately_and_forever() {
        let bench = bench(&[Probe::Returns]).await;
        sleep(PERIOD).await;
        assert!(bench.is_ready());
        bench.drain.begin();
        assert_eq!(bench.readiness.check(), Err(NotReady::Draining));
        sleep(WINDOW).await;
        assert_eq!(bench.readiness.check(), Err(NotReady::Draining));
    }
}
