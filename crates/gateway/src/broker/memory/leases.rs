//! A channel's leases in memory: with the rules of `leases.lua` in crewcast-store.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crewcast_events::catalog::silence::Silence;
use crewcast_store::{LeaseStep, MAX_LEASES, Renewal};
use tokio::time::Instant;

use crate::broker::{ExpiredLease, MAX_EXPIRED};

/// How long the leases of a channel are remembered when none of them changes.
const AGE: Duration = Duration::from_secs(24 * 3600);

#[derive(Default)]
pub(super) struct Leases {
    by_name: HashMap<Arc<str>, Lease>,
    touched: Option<Instant>,
}

struct Lease {
    renewed: Instant,
    ttl: Duration,
    /// What was told last, since the producer was heard of last.
    told: Option<Silence>,
    about: String,
    /// When something is to be told; `None` for one that is lost.
    due: Option<Instant>,
}

impl Lease {
    fn is_silent(&self, now: Instant) -> bool {
        now >= self.renewed + self.ttl
    }

    /// What is to be told of it.
    fn pending(&self, now: Instant) -> Option<Silence> {
        self.due.filter(|due| *due <= now)?;
        match (self.told, self.is_silent(now)) {
            (None, true) => Some(Silence::Stalled),
            (Some(_), true) => Some(Silence::Lost),
            (Some(_), false) => Some(Silence::Recovered),
            (None, false) => None,
        }
    }
}

impl Leases {
    /// Takes one step; false for what is not to be told (any more).
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
            LeaseStep::Release { name } => {
                self.by_name.remove(name);
                true
            }
            LeaseStep::Expire { name, expiry, lost_after } => self.tell(name, *expiry, *lost_after, now),
        }
    }

    fn tell(&mut self, name: &str, expiry: Silence, lost_after: Duration, now: Instant) -> bool {
        let Some(lease) = self.by_name.get_mut(name).filter(|lease| lease.pending(now) == Some(expiry)) else {
            return false;
        };
        let before = lease.told;
        (lease.told, lease.due) = match expiry {
            Silence::Stalled => (Some(expiry), Some(now + lost_after)),
            Silence::Lost => (Some(expiry), None),
            Silence::Recovered => (None, Some(lease.renewed + lease.ttl)),
        };
        // One that was lost, was renewed and is silent again before anybody told: it is lost still.
        before != Some(Silence::Lost) || expiry == Silence::Recovered
    }

    /// Lost leases give way where there are too many.
    fn has_room(&mut self) -> bool {
        if self.by_name.len() >= MAX_LEASES {
            self.by_name.retain(|_, lease| lease.told != Some(Silence::Lost));
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

    /// How long until something is to be told.
    pub(super) fn next_expiry(&self, now: Instant) -> Option<Duration> {
        let first = self.by_name.values().filter_map(|lease| lease.due).min()?;
        Some(first.saturating_duration_since(now))
    }

    pub(super) fn expired_leases(&self, now: Instant) -> Vec<ExpiredLease> {
        let silent = self.by_name.iter().filter_map(|(name, lease)| {
            let since = now.duration_since(lease.renewed);
            Some(ExpiredLease {
                name: name.to_string(),
                expiry: lease.pending(now)?,
                since,
                about: lease.about.clone(),
            })
        });
        silent.take(MAX_EXPIRED).collect()
    }

    /// For how long a lease of this name will have been renewed so recently; `None` if it was not.
    pub(super) fn renewed_within(&self, name: &str, within: Duration, now: Instant) -> Option<Duration> {
        let left = within.checked_sub(now.duration_since(self.by_name.get(name)?.renewed))?;
        (!left.is_zero()).then_some(left)
    }

    /// Forgets what has outlived its age.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.touched.is_some_and(|touched| now.duration_since(touched) >= AGE) {
            *self = Self::default();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
