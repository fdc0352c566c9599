//! Renews leases as long as a guard holds them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crewcast_events::Channel;
use crewcast_store::{DEFAULT_LEASE, Renewal, Transport};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::counters::Counters;

/// Longest pause before a failed renewal is retried.
const RETRY: Duration = Duration::from_secs(1);

/// The leases that this publisher's emitters hold.
#[derive(Debug)]
pub(crate) struct LeaseRenewals {
    /// Whether tool calls and runs hold leases.
    pub(crate) of_all: bool,
    /// The ttl of each lease.
    pub(crate) ttl: Duration,
    /// By channel and name, how many guards hold each lease.
    held: Mutex<HashMap<Channel, BTreeMap<Arc<str>, usize>>>,
    any: Notify,
}

impl LeaseRenewals {
    /// With a `ttl` tool calls and runs hold leases too.
    pub(crate) fn new(ttl: Option<Duration>) -> Self {
        Self { of_all: ttl.is_some(), ttl: ttl.unwrap_or(DEFAULT_LEASE), held: Mutex::default(), any: Notify::new() }
    }

    /// Renews this lease until the guard is dropped.
    pub(crate) fn hold(self: &Arc<Self>, channel: &Channel, name: &Arc<str>) -> LeaseGuard {
        *self.held.lock().entry(channel.clone()).or_default().entry(name.clone()).or_default() += 1;
        self.any.notify_one();
        LeaseGuard { leases: self.clone(), channel: channel.clone(), name: name.clone() }
    }

    fn give_up(&self, channel: &Channel, name: &str) {
        let mut held = self.held.lock();
        let Some(names) = held.get_mut(channel) else { return };
        if let Some(count) = names.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                names.remove(name);
            }
        }
        if names.is_empty() {
            held.remove(channel);
        }
    }

    fn renewals(&self) -> Vec<Renewal> {
        let held = self.held.lock();
        let renewal = |(channel, names): (&Channel, &BTreeMap<Arc<str>, usize>)| Renewal {
            channel: channel.clone(),
            ttl: self.ttl,
            names: names.keys().cloned().collect(),
        };
        held.iter().map(renewal).collect()
    }

    /// Renews every third of the ttl. Never returns.
    pub(crate) async fn renew(&self, transport: &dyn Transport, counters: &Counters) {
        let every = self.ttl / 3;
        let mut pause = every;
        loop {
            while self.held.lock().is_empty() {
                self.any.notified().await;
                pause = every;
            }
            tokio::time::sleep(pause).await;
            let renewals = self.renewals();
            if renewals.is_empty() {
                continue;
            }
            pause = match transport.renew(&renewals).await {
                Ok(()) => every,
                Err(error) => {
                    counters.retried(&format!("leases were not renewed: {error}"));
                    RETRY.min(every)
                }
            };
        }
    }
}

/// Holds one lease. It is renewed until all its guards are dropped.
#[derive(Debug)]
pub(crate) struct LeaseGuard {
    leases: Arc<LeaseRenewals>,
    channel: Channel,
    pub(crate) name: Arc<str>,
}

impl LeaseGuard {
    pub(crate) fn ttl(&self) -> Duration {
        self.leases.ttl
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.leases.give_up(&self.channel, &self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_renewed_until_every_guard_is_dropped() {
        let leases = Arc::new(LeaseRenewals::new(None));
        let (channel, name) = ("run:r1".parse().unwrap(), Arc::from("run:r1"));
        let one = leases.hold(&channel, &name);
        let two = leases.hold(&channel, &name);
        drop(one);
        assert_eq!(leases.renewals().len(), 1);
        drop(two);
        assert!(leases.renewals().is_empty());
    }
}
