//! Events that are emitted at a fixed interval.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::publisher::Publisher;

/// Intervals shorter than this count as this long.
const SHORTEST: Duration = Duration::from_millis(1);

/// Emits an event at once and then at a fixed interval, until it is dropped or the publisher closes.
///
/// The publisher stays open as long as this exists. A panic in the caller's function ends the events.
#[derive(Debug)]
#[must_use = "dropping it ends the events"]
pub struct Periodic {
    task: JoinHandle<()>,
}

impl Periodic {
    pub(super) fn start(publisher: &Publisher, period: Duration, mut emit: impl FnMut() + Send + 'static) -> Self {
        let queue = publisher.inner().queue.clone();
        let task = publisher.inner().runtime.spawn(async move {
            let mut ticks = interval(period.max(SHORTEST));
            // After a pause of the process there is nothing to catch up on: only the newest values count.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    () = queue.closed() => return,
                    _ = ticks.tick() => emit(),
                }
            }
        });
        Self { task }
    }
}

impl Drop for Periodic {
    fn drop(&mut self) {
        self.task.abort();
    }
}
