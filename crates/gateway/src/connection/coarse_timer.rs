//! One coarse clock for the deadlines of all connections: an idle socket needs no timer of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::yield_now,
    time::{Duration, Instant, sleep_until},
};

use crate::hub::{Flag, Notifier};

/// The resolution of the clock: [`Flag::Timer`] is raised up to this much too early. A connection with a nearer
/// deadline uses a timer of its own.
pub(super) const RESOLUTION: Duration = Duration::from_secs(1);

/// The timers of all connections.
pub(crate) struct CoarseTimer {
    began: Instant,
    /// The notifiers to wake, by the number of ticks since `began`.
    waiting: Mutex<BTreeMap<u64, Vec<Weak<Notifier>>>>,
    /// A timer was set that is due before all others.
    earlier: Notify,
}

impl CoarseTimer {
    /// A clock without timers. It starts to fire with [`CoarseTimer::run`].
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), waiting: Mutex::default(), earlier: Notify::new() })
    }

    /// Raises [`Flag::Timer`] at `at`, or up to [`RESOLUTION`] earlier.
    pub(super) fn set(&self, at: Instant, notifier: &Arc<Notifier>) {
        let ticks = at.saturating_duration_since(self.began).as_secs() / RESOLUTION.as_secs();
        let mut waiting = self.waiting.lock();
        let is_first = waiting.first_key_value().is_none_or(|(first, _)| ticks < *first);
        waiting.entry(ticks).or_default().push(Arc::downgrade(notifier));
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// Fires timers. Never returns.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let first = self.waiting.lock().first_key_value().map(|(ticks, _)| *ticks);
            let due =
                first.map(|ticks| self.began + RESOLUTION.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX)));
            match due {
                None => self.earlier.notified().await,
                Some(due) => tokio::select! {
                    () = self.earlier.notified() => {}
                    () = sleep_until(due) => self.fire_first().await,
                },
            }
        }
    }

    /// Fires the timers of the first tick, a thousand at a time, so that other tasks can run: clients that connected at
    /// the same moment are pinged at the same moment.
    async fn fire_first(&self) {
        let first = self.waiting.lock().pop_first();
        for notifiers in first.iter().flat_map(|(_, notifiers)| notifiers.chunks(1000)) {
            notifiers.iter().filter_map(Weak::upgrade).for_each(|notifier| notifier.raise(Flag::Timer));
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_fires_once_within_the_resolution_before_its_deadline() {
        let timer = CoarseTimer::new();
        let clock = tokio::spawn(timer.clone().run());
        let began = Instant::now();
        let notifiers = [5500, 2300, 2900].map(|ms| {
            let notifier = Arc::new(Notifier::default());
            timer.set(began + Duration::from_millis(ms), &notifier);
            (Duration::from_millis(ms), notifier)
        });
        for (at, notifier) in &notifiers {
            tokio::time::sleep_until(began + at.saturating_sub(RESOLUTION) - Duration::from_millis(1)).await;
            assert!(notifier.take(Flag::Timer) || !notifier.is_raised());
            tokio::time::sleep_until(began + *at + Duration::from_millis(1)).await;
        }
        assert!(notifiers.iter().all(|(_, notifier)| !notifier.is_raised() || notifier.take(Flag::Timer)));
        assert!(timer.waiting.lock().is_empty());
        clock.abort();
    }
}
