//! Lease expiry: a lease that its producer no longer renews is reported on its channel.
//!
//! Replicas do not know of each other, so each one that has readers of a channel checks it. The append is conditional
//! on the expiry being true and not yet reported, so it happens once. A lease only ever comes with a logged event: a
//! channel is checked after its events, and then when its first lease runs out. Renewing a lease costs a gateway
//! nothing.

use std::{sync::Arc, time::Duration};

use crewcast_events::{
    Body, Channel,
    catalog::{Object, lease_expiry::LeaseEvent},
};
use crewcast_store::{Append, Entry, LeaseStep, Once};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{LinkState, Relay};
use crate::{
    broker::{BrokerError, ExpiredLease},
    telemetry::metrics::{Metric, counter},
};

/// How often the schedule runs.
const TICK: Duration = Duration::from_millis(500);
/// Wait between an event and the lease check, and the longest wait: each check that finds no lease doubles it.
const AFTER_EVENT: Duration = Duration::from_secs(2);
const AT_MOST: Duration = Duration::from_secs(30);
/// How long producers have to renew after the broker is back, before an expiry is reported.
const GRACE: Duration = Duration::from_secs(10);
/// How long a channel whose expiry could not be published waits for its next attempt.
const RETRY: Duration = Duration::from_secs(5);
/// Channels in one batch.
const BATCH: usize = 500;
/// Channels to which expiries are published at the same time.
const AT_ONCE: usize = 16;

/// When a channel's leases are checked next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeaseCheck {
    /// Whether its namespace has lease expiry.
    is_on: bool,
    at: Option<Instant>,
    /// Checks without a lease since one was found.
    empty_checks: u32,
}

impl LeaseCheck {
    pub(super) fn new(is_on: bool) -> Self {
        let mut lease_check = Self { is_on, at: None, empty_checks: 0 };
        lease_check.within(AFTER_EVENT);
        lease_check
    }

    /// A logged event was received: it may have brought a lease.
    pub(super) fn heard(&mut self) {
        if self.at.is_none() {
            self.within((AFTER_EVENT * 2u32.pow(self.empty_checks.min(4))).min(AT_MOST));
        }
    }

    /// The link was down: producers could not renew either.
    pub(super) fn link_was_down(&mut self) {
        self.within(GRACE);
    }

    /// Schedules the next check. Replicas spread their checks at random, so that usually only one has an expiry to
    /// report.
    fn within(&mut self, wait: Duration) {
        if self.is_on {
            self.at = Some(Instant::now() + wait + TICK.mul_f64(fastrand::f64()));
        }
    }

    fn take_due(&mut self, now: Instant) -> bool {
        self.at.take_if(|at| *at <= now).is_some()
    }

    /// Takes the result of a check.
    fn found(&mut self, due: Option<Duration>) {
        match due {
            Some(due) => {
                self.empty_checks = 0;
                self.within(due.min(AT_MOST));
            }
            None => self.empty_checks += 1,
        }
    }
}

/// Checks each channel's leases when they are due. Never returns.
pub(super) async fn publish_on_schedule(relay: Arc<Relay>) {
    if relay.namespaces.0.values().all(|rules| rules.lost_after.is_zero()) {
        return;
    }
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut was_up, mut grace_until) = (false, Instant::now());
    loop {
        tick.tick().await;
        let now = Instant::now();
        let is_up = *relay.link.borrow() == LinkState::Up;
        if was_up && !is_up {
            grace_until = now + GRACE;
        }
        was_up |= is_up;
        if !is_up || now < grace_until {
            continue;
        }
        let mut due = Vec::new();
        for mut sequencer in relay.sequencers.iter_mut() {
            if sequencer.lease_check.take_due(now) {
                due.push(sequencer.channel().clone());
            }
        }
        for batch in due.chunks(BATCH) {
            relay.check_leases(batch).await;
        }
    }
}

impl Relay {
    async fn check_leases(&self, channels: &[Channel]) {
        let remaining = match self.broker.log.next_lease_expiry(channels).await {
            Ok(remaining) => remaining,
            Err(error) => {
                tracing::debug!(%error, "could not read the leases; trying again");
                channels.iter().for_each(|channel| self.check_again(channel, RETRY));
                return;
            }
        };
        let mut expired = Vec::new();
        for (channel, due) in channels.iter().zip(remaining) {
            match due {
                Some(Duration::ZERO) => expired.push(channel.clone()),
                due => {
                    if let Some(mut sequencer) = self.sequencers.get_mut(channel) {
                        sequencer.lease_check.found(due);
                    }
                }
            }
        }
        let publish = |channel: Channel| async move {
            let reported = self.publish_expiry(&channel).await;
            if let Err(error) = &reported {
                tracing::warn!(%channel, %error, "could not publish a lease expiry; trying again");
            }
            self.check_again(&channel, if reported.is_ok() { Duration::ZERO } else { RETRY });
        };
        stream::iter(expired).for_each_concurrent(AT_ONCE, publish).await;
    }

    fn check_again(&self, channel: &Channel, wait: Duration) {
        if let Some(mut sequencer) = self.sequencers.get_mut(channel) {
            sequencer.lease_check.within(wait);
        }
    }

    /// Publishes the lease changes of a channel that no other replica has reported yet.
    async fn publish_expiry(&self, channel: &Channel) -> Result<(), BrokerError> {
        let Some(rules) = self.namespaces.of(channel) else { return Ok(()) };
        let expired = self.broker.log.expired_leases(channel).await?;
        let entries: Vec<Entry> = expired.iter().filter_map(|expired| entry(expired, rules.lost_after)).collect();
        if entries.is_empty() {
            return Ok(());
        }
        let append = Append { channel: channel.clone(), entries, once: Once::No };
        let reported =
            self.broker.transport.append(&append).await.map_err(|error| BrokerError::Unavailable(error.to_string()))?;
        for (entry, _) in append.entries.iter().zip(reported).filter(|(_, id)| id.is_some()) {
            if let Some(LeaseStep::Expire { name, expiry, .. }) = &entry.lease {
                counter(Metric::LeaseExpirations, &[("state", expiry.as_str())]).increment(1);
                counter(Metric::SilencesTold, &[("silence", expiry.as_str())]).increment(1);
                tracing::info!(%channel, lease = &**name, silence = expiry.as_str(), "published a lease expiry");
            }
        }
        Ok(())
    }
}

fn entry(expired: &ExpiredLease, lost_after: Duration) -> Option<Entry> {
    let ExpiredLease { name, expiry, since, about } = expired;
    let about: Object = serde_json::from_str(about).unwrap_or_default();
    let event = LeaseEvent::new(*expiry, name, since.as_secs_f64(), about);
    let body = Body::parse(serde_json::to_vec(&event).ok()?).ok()?;
    let step = LeaseStep::Expire { name: name.as_str().into(), expiry: *expiry, lost_after };
    Some(Entry { lease: Some(step), ..Entry::new(body) })
}
