//! Whether this replica delivers: a probe goes out to the broker and must come back through this replica's own
//! subscription.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    broker::PubSub,
    drain::Drain,
    telemetry::metrics::{Metric, gauge, histogram},
};

/// Probes in one window, so that one lost message does not turn the replica.
const PROBES_PER_WINDOW: u32 = 5;
/// Successes in a row that make an unready replica ready: a link that flaps does not.
const SUCCESSES: u32 = 2;

/// What the probes say. Shared between [`Readiness::run`] and `/readyz`.
#[derive(Debug)]
pub struct Readiness {
    window: Duration,
    drain: Drain,
    state: Mutex<ReadinessState>,
}

#[derive(Debug)]
struct ReadinessState {
    started: Instant,
    last_success: Option<Instant>,
    /// Successes in a row, counted up to [`SUCCESSES`]. Failures inside the window do not take ready away.
    streak: u32,
}

/// Why a replica is not ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotReady {
    /// It is going away.
    Draining,
    /// It has not yet had two successes in a row since it started, or since it last stopped delivering.
    Starting,
    /// No probe came back within the window.
    NotDelivering {
        /// Since the last one that did.
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
    /// Not ready yet. `window` is `ready.window`.
    pub fn new(window: Duration, drain: Drain) -> Self {
        Self {
            window,
            drain,
            state: Mutex::new(ReadinessState { started: Instant::now(), last_success: None, streak: 0 }),
        }
    }

    /// Whether this replica delivers and stays.
    ///
    /// # Errors
    /// [`NotReady`] says why not.
    pub fn check(&self) -> Result<(), NotReady> {
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

    /// Since the last success, or since the start.
    pub fn probe_age(&self) -> Duration {
        let state = self.state.lock();
        state.last_success.unwrap_or(state.started).elapsed()
    }

    /// Writes `crewcast_broker_probe_age_seconds` as it is now. The prober does it with every probe; `/metrics`
    /// once more, so that a prober that hangs shows.
    pub fn export(&self) {
        gauge(Metric::BrokerProbeAge, &[]).set(self.probe_age().as_secs_f64());
    }

    /// Probes every fifth of the window until it is dropped: run it beside the server.
    pub async fn run(self: Arc<Self>, pubsub: Arc<dyn PubSub>) {
        let period = self.window / PROBES_PER_WINDOW;
        let roundtrip = histogram(Metric::BrokerRoundtrip, &[]);
        let mut ticks = interval(period.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Err(NotReady::Starting);
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
            tell(&mut told, now);
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

/// Logs what has changed, once. A drain is logged by who begins it.
fn tell(told: &mut Result<(), NotReady>, now: Result<(), NotReady>) {
    match now {
        Ok(()) if told.is_err() => tracing::info!("ready"),
        Err(why @ NotReady::NotDelivering { .. }) if !matches!(told, Err(NotReady::NotDelivering { .. })) => {
            tracing::warn!(%why, "not ready");
        }
        _ => {}
    }
    *told = now;
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
        drain: Drain,
        probes: Arc<FakeProbes>,
        prober: JoinHandle<()>,
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            self.prober.abort();
        }
    }

    /// A prober whose probes meet these; the last one stays. It stands a moment behind the first probe's end.
    async fn bench(probes: &[Probe]) -> Bench {
        let drain = Drain::new(&crate::config::Drain::default());
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
    async fn the_two_successes_are_in_a_row() {
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
    async fn a_window_without_success_turns_it_and_two_turn_it_back() {
        for fault in [Probe::Fails, Probe::Hangs] {
            let bench = bench(&[Probe::Returns, Probe::Returns, fault]).await;
            sleep(PERIOD).await;
            sleep(WINDOW - Duration::from_millis(20)).await;
            assert!(bench.is_ready(), "{fault:?}");
            sleep(Duration::from_millis(20)).await;
            let why = bench.readiness.check();
            assert!(matches!(why, Err(NotReady::NotDelivering { age }) if age > WINDOW), "{why:?}");
            bench.now(Probe::Returns);
            // A probe that hangs is given up after a period; the next one may then be a period away.
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
    async fn never_delivering_is_told_after_the_window() {
        let bench = bench(&[Probe::Hangs]).await;
        assert_eq!(bench.readiness.check(), Err(NotReady::Starting));
        sleep(WINDOW).await;
        let told = bench.readiness.check().unwrap_err().to_string();
        assert!(told.starts_with("not delivering"), "{told}");
        assert!(bench.readiness.probe_age() > WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_is_not_ready_at_once_and_for_ever() {
        let bench = bench(&[Probe::Returns]).await;
        sleep(PERIOD).await;
        assert!(bench.is_ready());
        bench.drain.begin();
        assert_eq!(bench.readiness.check(), Err(NotReady::Draining));
        sleep(WINDOW).await;
        assert_eq!(bench.readiness.check(), Err(NotReady::Draining));
    }
}
