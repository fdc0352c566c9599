//! A channel's leases in memory, equivalent to `leases.lua` in `crewcast-store`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crewcast_events::catalog::lease_expiry::LeaseStatus;
use crewcast_store::{LeaseStep, MAX_LEASES, Renewal};
use tokio::time::Instant;

use crate::broker::{ExpiredLease, MAX_EXPIRED};

/// How long a channel's leases are remembered if none of them changes.
const AGE: Duration = Duration::from_secs(24 * 3600);

#[derive(Default)]
pub(super) struct Leases {
    by_name: HashMap<Arc<str>, Lease>,
    touched: Option<Instant>,
}

struct Lease {
    renewed: Instant,
    ttl: Duration,
    /// The last status reported since the producer was last heard of.
    told: Option<LeaseStatus>,
    about: String,
    /// When the next status is to be reported; `None` for a lost lease.
    due: Option<Instant>,
}

impl Lease {
    fn is_expired(&self, now: Instant) -> bool {
        now >= self.renewed + self.ttl
    }

    /// The status to report now, if any.
    fn pending(&self, now: Instant) -> Option<LeaseStatus> {
        self.due.filter(|due| *due <= now)?;
        match (self.told, self.is_expired(now)) {
            (None, true) => Some(LeaseStatus::Stalled),
            (Some(_), true) => Some(LeaseStatus::Lost),
            (Some(_), false) => Some(LeaseStatus::Recovered),
            (None, false) => None,
        }
    }
}

impl Leases {
    /// Applies one step; false if its status is not, or no longer, to be reported.
    pub(super) fn apply(&mut self, step: &LeaseStep, now: Instant) -> bool {
        self.touched = Some(now);
        match step {
            LeaseStep::Hold { name, ttl, about } => {
                if self.by_name.contains_key(name) || self.has_room() {
                    let about = about.as_ref().map_or(String::new(), |about| about.get().to_owned());
                    let lease = Lease { renewed: now, ttl: *ttl, told: None, about, due: Some(now + *ttl) };
                    self.by_name.insert(name.clone(), lease);
                }
                true
            }
            LeaseStep::Renew { name, ttl } => {
                if let Some(lease) = self.by_name.get_mut(name) {
                    (lease.renewed, lease.told, lease.due) = (now, None, Some(now + lease.ttl));
                } else if self.has_room() {
                    let lease =
                        Lease { renewed: now, ttl: *ttl, told: None, about: String::new(), due: Some(now + *ttl) };
                    self.by_name.insert(name.clone(), lease);
                }
                true
            }
            LeaseStep::Release { name } => {
                self.by_name.remove(name);
                true
            }
            LeaseStep::Expire { name, expiry, lost_after } => self.tell(name, *expiry, *lost_after, now),
        }
    }

    fn tell(&mut self, name: &str, expiry: LeaseStatus, lost_after: Duration, now: Instant) -> bool {
        let Some(lease) = self.by_name.get_mut(name).filter(|lease| lease.pending(now) == Some(expiry)) else {
            return false;
        };
        let before = lease.told;
        (lease.told, lease.due) = match expiry {
            LeaseStatus::Stalled => (Some(expiry), Some(now + lost_after)),
            LeaseStatus::Lost => (Some(expiry), None),
            LeaseStatus::Recovered => (None, Some(lease.renewed + lease.ttl)),
        };
        // A lost lease that was renewed and expired again before any report is still lost.
        before != Some(LeaseStatus::Lost) || expiry == LeaseStatus::Recovered
    }

    /// Whether there is room for a lease. If there are too many, lost leases are dropped first.
    fn has_room(&mut self) -> bool {
        if self.by_name.len() >= MAX_LEASES {
            self.by_name.retain(|_, lease| lease.told != Some(LeaseStatus::Lost));
        }
        self.by_name.len() < MAX_LEASES
    }

    pub(super) fn renew(&mut self, renewal: &Renewal, now: Instant) {
        self.touched = Some(now);
        for name in &renewal.names {
            if let Some(lease) = self.by_name.get_mut(name) {
                (lease.renewed, lease.ttl) = (now, renewal.ttl);
                lease.due = Some(if lease.told.is_some() { now } else { now + renewal.ttl });
            }
        }
    }

    /// Time until the next status is to be reported.
    pub(super) fn next_expiry(&self, now: Instant) -> Option<Duration> {
        let first = self.by_name.values().filter_map(|lease| lease.due).min()?;
        Some(first.saturating_duration_since(now))
    }

    pub(super) fn expired_leases(&self, now: Instant) -> Vec<ExpiredLease> {
        let expired = self.by_name.iter().filter_map(|(name, lease)| {
            let since = now.duration_since(lease.renewed);
            Some(ExpiredLease {
                name: name.to_string(),
                expiry: lease.pending(now)?,
                since,
                about: lease.about.clone(),
            })
        });
        expired.take(MAX_EXPIRED).collect()
    }

    /// How long the renewal of this lease stays within `within`; `None` if it does not.
    pub(super) fn renewed_within(&self, name: &str, within: Duration, now: Instant) -> Option<Duration> {
        let left = within.checked_sub(now.duration_since(self.by_name.get(name)?.renewed))?;
        (!left.is_zero()).then_some(left)
    }

    /// Removes leases that have expired.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.touched.is_some_and(|touched| now.duration_since(touched) >= AGE) {
            *self = Self::default();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
