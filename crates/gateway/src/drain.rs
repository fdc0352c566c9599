//! Draining: new sockets are refused, each open one leaves at its own moment, and the process ends when the last one
//! has left or the grace period is over.
//!
//! ```text
//! serving --begin--> draining --last connection left--> Empty       exit 0
//!                       |-------- drain.grace over ---> GraceOver   exit 0
//!                       `-------- force --------------> Forced      exit 1
//! ```

use std::{
    future::Future,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::{
    config,
    telemetry::metrics::{Metric, gauge},
};

/// A client that is told to reconnect waits for less than this. The moments spread the connections over the drain;
/// this spreads those of the same moment.
const COME_BACK_WITHIN: Duration = Duration::from_secs(1);

/// How a drain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DrainOutcome {
    /// Every connection has left.
    Empty,
    /// `drain.grace` is over. Open connections are dropped, and their clients resume at another replica.
    GraceOver,
    /// A second signal forced the end.
    Forced,
}

impl DrainOutcome {
    /// The process's exit code: 0 for a drain that ran to its end, 1 for one that was forced.
    pub fn exit_code(self) -> u8 {
        match self {
            DrainOutcome::Empty | DrainOutcome::GraceOver => 0,
            DrainOutcome::Forced => 1,
        }
    }
}

/// The drain of one replica. All clones share it.
#[derive(Clone, Debug)]
pub(crate) struct DrainController {
    shared: Arc<DrainState>,
}

#[derive(Debug)]
struct DrainState {
    config: config::Drain,
    connections: TaskTracker,
    began: OnceLock<Instant>,
    begun: CancellationToken,
    forced: CancellationToken,
}

impl DrainController {
    /// The drain of a replica that is serving.
    pub(crate) fn new(config: &config::Drain) -> Self {
        Self {
            shared: Arc::new(DrainState {
                config: config.clone(),
                connections: TaskTracker::new(),
                began: OnceLock::new(),
                begun: CancellationToken::new(),
                forced: CancellationToken::new(),
            }),
        }
    }

    /// Counts a connection in, until the guard is dropped. `None` while draining: refuse the connection.
    pub(crate) fn enter(&self) -> Option<DrainGuard> {
        self.enter_with(fastrand::u64(..))
    }

    /// [`DrainController::enter`] with a given seed for the connection's moment.
    pub(crate) fn enter_with(&self, seed: u64) -> Option<DrainGuard> {
        // Counted before the check: a connection that `begin` does not see sees that the drain has begun.
        let counted = self.shared.connections.token();
        let connection = DrainGuard { drain: self.clone(), seed, _counted: counted };
        (!self.is_draining()).then_some(connection)
    }

    /// Starts to drain. Further calls change nothing.
    pub(crate) fn begin(&self) {
        self.shared.began.get_or_init(Instant::now);
        self.shared.begun.cancel();
        self.shared.connections.close();
        gauge(Metric::Draining, &[]).set(1.0);
    }

    /// Ends the drain immediately.
    pub(crate) fn force(&self) {
        self.begin();
        self.shared.forced.cancel();
    }

    /// Whether the drain has begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.begun.is_cancelled()
    }

    /// Returns when the drain begins.
    pub(crate) async fn begun(&self) {
        self.shared.begun.cancelled().await;
    }

    /// The number of connections that are counted in.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.len()
    }

    /// Returns when the drain has ended: every connection has left, the grace period is over, or it was forced. Waits
    /// for the drain to begin.
    pub(crate) async fn ended(&self) -> DrainOutcome {
        self.begun().await;
        let over = self.began() + self.shared.config.grace;
        tokio::select! {
            biased;
            () = self.shared.forced.cancelled() => DrainOutcome::Forced,
            () = self.shared.connections.wait() => DrainOutcome::Empty,
            () = sleep_until(over) => DrainOutcome::GraceOver,
        }
    }

    /// Drains at the first signal, and ends immediately at the second.
    pub(crate) async fn run(&self, mut signals: impl Signals) -> DrainOutcome {
        let signal = signals.next().await;
        tracing::info!(signal, connections = self.connections(), "draining");
        self.begin();
        tokio::select! {
            outcome = self.ended() => {
                tracing::info!(?outcome, connections = self.connections(), "drained");
                outcome
            }
            signal = signals.next() => {
                tracing::warn!(signal, connections = self.connections(), "second signal: exiting immediately");
                self.force();
                DrainOutcome::Forced
            }
        }
    }

    fn began(&self) -> Instant {
        *self.shared.began.get_or_init(Instant::now)
    }
}

/// One connection of a [`DrainController`], counted until dropped.
#[derive(Debug)]
pub(crate) struct DrainGuard {
    drain: DrainController,
    seed: u64,
    _counted: TaskTrackerToken,
}

impl DrainGuard {
    /// How long after the begin of the drain this connection leaves: less than `drain.spread`, always the same.
    pub(crate) fn moment(&self) -> Duration {
        share(self.drain.shared.config.spread, self.seed)
    }

    /// Returns when this connection is to be sent `reconnect` and closed with 1012. Waits for the drain to begin.
    #[cfg(test)]
    pub(crate) async fn leave(&self) {
        self.drain.begun().await;
        sleep_until(self.drain.began() + self.moment()).await;
    }

    /// The `in_ms` of the `reconnect` message: how long the client waits before it reconnects.
    pub(crate) fn reconnect_hint_ms(&self) -> u64 {
        let hint = share(COME_BACK_WITHIN, self.seed.rotate_left(32));
        u64::try_from(hint.as_millis()).unwrap_or(u64::MAX)
    }
}

/// `whole × seed / 2^64`.
fn share(whole: Duration, seed: u64) -> Duration {
    let nanos = whole.as_nanos().saturating_mul(u128::from(seed)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Requests to shut down.
pub trait Signals: Send {
    /// The name of the next signal. No signal is lost between two calls.
    fn next(&mut self) -> impl Future<Output = &'static str> + Send;
}

/// SIGTERM and SIGINT of this process.
#[derive(Debug)]
pub struct ShutdownSignal {
    terminate: Signal,
    interrupt: Signal,
}

/// Listens for SIGTERM and SIGINT. From now on they no longer end the process by themselves.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn shutdown_signal() -> io::Result<ShutdownSignal> {
    Ok(ShutdownSignal { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
}

impl Signals for ShutdownSignal {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn drain() -> DrainController {
        DrainController::new(&config::Drain::default())
    }

    /// Signals that a test sends.
    struct Sent(mpsc::Receiver<&'static str>);

    impl Signals for Sent {
        async fn next(&mut self) -> &'static str {
            match self.0.recv().await {
                Some(signal) => signal,
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_draining_replica_accepts_no_connection() {
        let drain = drain();
        let inside = drain.enter().expect("serving");
        assert!(!drain.is_draining());
        drain.begin();
        assert!(drain.is_draining());
        assert!(drain.enter().is_none());
        assert_eq!(drain.connections(), 1, "a refused connection is not counted");
        drop(inside);
        assert_eq!(drain.ended().await, DrainOutcome::Empty);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_leave_at_their_own_moments_and_the_drain_ends_with_the_last() {
        let drain = drain();
        let start = Instant::now();
        let mut leaving = tokio::task::JoinSet::new();
        for index in 0..100_u64 {
            let connection = drain.enter_with(index * (u64::MAX / 100)).expect("serving");
            leaving.spawn(async move {
                connection.leave().await;
                assert!(start.elapsed() >= connection.moment());
                (connection.moment(), connection.reconnect_hint_ms())
            });
        }
        drain.begin();
        assert_eq!(drain.ended().await, DrainOutcome::Empty);
        let spread = config::Drain::default().spread;
        assert!(start.elapsed() > spread * 9 / 10 && start.elapsed() < spread, "{:?}", start.elapsed());
        let left = leaving.join_all().await;
        let in_the_first_half = left.iter().filter(|(moment, _)| *moment < spread / 2).count();
        assert!((45..=55).contains(&in_the_first_half), "{in_the_first_half} of 100");
        assert!(left.iter().all(|(_, hint)| *hint < 1000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connections_moment_is_its_own_and_inside_the_spread() {
        let drain = drain();
        let moment = |seed| drain.enter_with(seed).expect("serving").moment();
        assert_eq!(moment(0), Duration::ZERO);
        assert_eq!(moment(1 << 63), Duration::from_millis(7500));
        assert!(moment(u64::MAX) < Duration::from_secs(15));
        assert_eq!(moment(42), moment(42));
        let at_once = DrainController::new(&config::Drain { spread: Duration::ZERO, ..config::Drain::default() });
        assert_eq!(at_once.enter_with(u64::MAX).expect("serving").moment(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_do_not_leave_are_dropped_when_the_grace_is_over() {
        let drain = drain();
        let _stays = drain.enter();
        let start = Instant::now();
        drain.begin();
        tokio::time::advance(Duration::from_secs(5)).await;
        drain.begin();
        assert_eq!(drain.ended().await, DrainOutcome::GraceOver);
        assert_eq!(start.elapsed(), Duration::from_secs(25), "a repeated begin does not lengthen the grace");
        assert_eq!(DrainOutcome::GraceOver.exit_code(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_the_drain_immediately() {
        let drain = drain();
        let _stays = drain.enter();
        let (signals, received) = mpsc::channel(64);
        let start = Instant::now();
        let running = tokio::spawn({
            let drain = drain.clone();
            async move { drain.run(Sent(received)).await }
        });
        signals.send("SIGTERM").await.expect("listens");
        drain.begun().await;
        assert!(!running.is_finished());
        signals.send("SIGTERM").await.expect("listens");
        assert_eq!(running.await.expect("runs"), DrainOutcome::Forced);
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!((DrainOutcome::Forced.exit_code(), DrainOutcome::Empty.exit_code()), (1, 0));
        assert_eq!(drain.ended().await, DrainOutcome::Forced);
    }

    #[tokio::test]
    async fn the_process_receives_its_own_signals() {
        let mut signals = shutdown_signal().expect("handlers");
        for (flag, name) in [("-TERM", "SIGTERM"), ("-INT", "SIGINT")] {
            let pid = std::process::id().to_string();
            let sent = std::process::Command::new("kill").args([flag, &pid]).status().expect("kill runs");
            assert!(sent.success());
            assert_eq!(signals.next().await, name);
        }
    }
}
