//! Silence is a signal: a lease that nobody renews any more is told to its channel.
//!
//! Every replica that has readers of a channel looks, since none knows of the others; an append that happens only if
//! it is true and was not told makes it once. A lease comes with a logged event and with nothing else, so that a
//! channel is looked at behind its events, and then when its first lease runs out: renewing costs a gateway nothing.

use std::{sync::Arc, time::Duration};

use crewcast_events::{
    Body, Channel,
    catalog::{Object, silence::SilenceEvent},
};
use crewcast_store::{Append, Entry, LeaseStep, Once};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{LinkState, Relay};
use crate::{
    broker::{BrokerError, ExpiredLease},
    telemetry::metrics::{Metric, counter},
};

/// How often the schedule is looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long after an event a channel is looked at, and how long at most: each look that finds no lease doubles it.
const AFTER_EVENT: Duration = Duration::from_secs(2);
const AT_MOST: Duration = Duration::from_secs(30);
/// How long producers have to renew when the broker is back, before anything is told of them.
const GRACE: Duration = Duration::from_secs(10);
/// How long a channel of which something could not be told waits for its next try.
const RETRY: Duration = Duration::from_secs(5);
/// Channels in one go.
const BATCH: usize = 500;
/// Channels that are told something at the same time.
const AT_ONCE: usize = 16;

/// When a channel's leases are next looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeaseCheck {
    /// Whether its namespace has them looked at.
    is_on: bool,
    at: Option<Instant>,
    /// How many looks have found no lease since one was found.
    empty_checks: u32,
}

impl LeaseCheck {
    pub(super) fn new(is_on: bool) -> Self {
        let mut lease_check = Self { is_on, at: None, empty_checks: 0 };
        lease_check.within(AFTER_EVENT);
        lease_check
    }

    /// A logged event was heard: there may be a lease now.
    pub(super) fn heard(&mut self) {
        if self.at.is_none() {
            self.within((AFTER_EVENT * 2u32.pow(self.empty_checks.min(4))).min(AT_MOST));
        }
    }

    /// The link was down: producers could not renew either.
    pub(super) fn link_was_down(&mut self) {
        self.within(GRACE);
    }

    /// Sets the next look. The replicas' looks are spread, so that mostly one of them has something to tell.
    fn within(&mut self, wait: Duration) {
        if self.is_on {
            self.at = Some(Instant::now() + wait + TICK.mul_f64(fastrand::f64()));
        }
    }

    fn take_due(&mut self, now: Instant) -> bool {
        self.at.take_if(|at| *at <= now).is_some()
    }

    /// Takes the answer to a look.
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

/// Looks at each line's leases when it is due, for ever.
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
        let remaining = match self.broker.next_lease_expiry(channels).await {
            Ok(remaining) => remaining,
            Err(error) => {
                tracing::debug!(%error, "leases could not be read");
                channels.iter().for_each(|channel| self.check_again(channel, RETRY));
                return;
            }
        };
        let mut silent = Vec::new();
        for (channel, due) in channels.iter().zip(remaining) {
            match due {
                Some(Duration::ZERO) => silent.push(channel.clone()),
                due => {
                    if let Some(mut sequencer) = self.sequencers.get_mut(channel) {
                        sequencer.lease_check.found(due);
                    }
                }
            }
        }
        let telling = |channel: Channel| async move {
            let told = self.publish_expiry(&channel).await;
            if let Err(error) = &told {
                tracing::warn!(%channel, %error, "a silence could not be told");
            }
            self.check_again(&channel, if told.is_ok() { Duration::ZERO } else { RETRY });
        };
        stream::iter(silent).for_each_concurrent(AT_ONCE, telling).await;
    }

    fn check_again(&self, channel: &Channel, wait: Duration) {
        if let Some(mut sequencer) = self.sequencers.get_mut(channel) {
            sequencer.lease_check.within(wait);
        }
    }

    /// Tells a channel what is to be told of its leases and was not told by another replica.
    async fn publish_expiry(&self, channel: &Channel) -> Result<(), BrokerError> {
        let Some(rules) = self.namespaces.of(channel) else { return Ok(()) };
        let silent = self.broker.expired_leases(channel).await?;
        let entries: Vec<Entry> = silent.iter().filter_map(|silent| entry(silent, rules.lost_after)).collect();
        if entries.is_empty() {
            return Ok(());
        }
        let append = Append { channel: channel.clone(), entries, once: Once::No };
        let told = self.broker.append(&append).await.map_err(|error| BrokerError::Unavailable(error.to_string()))?;
        for (entry, _) in append.entries.iter().zip(told).filter(|(_, id)| id.is_some()) {
            if let Some(LeaseStep::Expire { name, expiry, .. }) = &entry.lease {
                counter(Metric::SilencesTold, &[("silence", expiry.as_str())]).increment(1);
                tracing::info!(%channel, lease = &**name, silence = expiry.as_str(), "told the channel");
            }
        }
        Ok(())
    }
}

fn entry(silent: &ExpiredLease, lost_after: Duration) -> Option<Entry> {
    let ExpiredLease { name, expiry, since, about } = silent;
    let about: Object = serde_json::from_str(about).unwrap_or_default();
    let event = SilenceEvent::new(*expiry, name, since.as_secs_f64(), about);
    let body = Body::parse(serde_json::to_vec(&event).ok()?).ok()?;
    let step = LeaseStep::Expire { name: name.as_str().into(), expiry: *expiry, lost_after };
    Some(Entry { lease: Some(step), ..Entry::new(body) })
}
