//! Leases: promises of a producer to go on, so that a missing renewal is a signal.
//!
//! A lease has a name in its channel. The event that begins a tool call, run or session makes the lease. Later events
//! of the same thing renew it, and so does the publisher in the background. The last event removes it. Gateways publish
//! the expiry of a lease to its channel.

use std::{sync::Arc, time::Duration};

use crewcast_events::{Channel, catalog::lease_expiry::LeaseStatus};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Shortest ttl of a lease.
pub const MIN_LEASE_TTL: Duration = Duration::from_secs(1);
/// Longest ttl of a lease.
pub const MAX_LEASE_TTL: Duration = Duration::from_secs(3600);
/// The ttl of session leases unless configured.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);
/// Longest name of a lease, in bytes.
pub const MAX_LEASE_NAME: usize = 200;
/// Most bytes of the `about` object of a lease.
pub const MAX_ABOUT: usize = 2048;
/// Most leases of one channel. New leases replace lost ones. When none is lost, no lease is made, and the event is
/// published without it.
pub const MAX_LEASES: usize = 1000;

/// A change to a lease, made in the same atomic step as an event is appended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LeaseStep {
    /// Makes or renews the lease. The event itself takes back a published expiry.
    Hold {
        /// 1 to [`MAX_LEASE_NAME`] printable characters of ASCII, no space.
        name: Arc<str>,
        /// How long the lease holds without renewal: [`MIN_LEASE_TTL`] to [`MAX_LEASE_TTL`].
        ttl: Duration,
        /// A JSON object with fields for the events about its expiry. At most [`MAX_ABOUT`] bytes.
        about: Option<Arc<RawValue>>,
    },
    /// Renews the lease with its own ttl and `about`, or makes it.
    Renew {
        /// The lease's name.
        name: Arc<str>,
        /// The ttl of a new lease.
        ttl: Duration,
    },
    /// Removes the lease.
    Release {
        /// The lease's name.
        name: Arc<str>,
    },
    /// For gateways: the event says that the lease has stalled, is lost or has recovered. It is appended only if that
    /// is true and was not published before.
    #[serde(rename = "Tell")]
    Expire {
        /// The lease's name.
        name: Arc<str>,
        /// What the event says.
        #[serde(rename = "silence")]
        expiry: LeaseStatus,
        /// Time from `stalled` to `lost`.
        lost_after: Duration,
    },
}

impl LeaseStep {
    /// The lease's name.
    pub fn name(&self) -> &str {
        match self {
            LeaseStep::Hold { name, .. }
            | LeaseStep::Renew { name, .. }
            | LeaseStep::Release { name }
            | LeaseStep::Expire { name, .. } => name,
        }
    }

    /// Checks the bounds of names, ttl and `about`.
    ///
    /// # Errors
    /// The reason, for the producer.
    pub fn check(&self) -> Result<(), String> {
        let name = self.name();
        if name.is_empty() || name.len() > MAX_LEASE_NAME || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("a lease's name has 1 to {MAX_LEASE_NAME} printable characters and no space"));
        }
        let LeaseStep::Hold { ttl, about, .. } = self else { return Ok(()) };
        if !(MIN_LEASE_TTL..=MAX_LEASE_TTL).contains(ttl) {
            return Err(format!("a lease stands {MIN_LEASE_TTL:?} to {MAX_LEASE_TTL:?}, not {ttl:?}"));
        }
        let about = about.as_ref().map_or("{}", |about| about.get());
        if about.len() > MAX_ABOUT || !about.starts_with('{') {
            return Err(format!("what is said about a lease is an object of at most {MAX_ABOUT} bytes"));
        }
        Ok(())
    }

    /// The form that the script reads: operation, milliseconds, name, `about`.
    pub fn wire(&self) -> String {
        match self {
            LeaseStep::Hold { name, ttl, about } => {
                format!("hold {} {name} {}", ttl.as_millis(), about.as_ref().map_or("", |about| about.get()))
            }
            LeaseStep::Renew { name, ttl } => format!("renew {} {name}", ttl.as_millis()),
            LeaseStep::Release { name } => format!("release 0 {name}"),
            LeaseStep::Expire { name, expiry, lost_after } => {
                format!("{} {} {name}", expiry.as_str(), lost_after.as_millis())
            }
        }
    }

    /// Approximate size in memory, in bytes.
    pub fn size(&self) -> usize {
        match self {
            LeaseStep::Hold { name, about, .. } => name.len() + about.as_ref().map_or(0, |about| about.get().len()),
            other => other.name().len(),
        }
    }
}

/// A renewal of leases in one channel.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The channel of the leases.
    pub channel: Channel,
    /// The ttl, from now on.
    pub ttl: Duration,
    /// The names of the leases.
    pub names: Vec<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(name: &str, ttl: Duration, about: Option<&str>) -> LeaseStep {
        let about = about.map(|text| RawValue::from_string(text.to_owned()).unwrap().into());
        LeaseStep::Hold { name: name.into(), ttl, about }
    }

    /// A spool may hold steps that a former version wrote.
    #[test]
    fn stored_names_do_not_change() {
        let step = LeaseStep::Expire { name: "n".into(), expiry: LeaseStatus::Lost, lost_after: MIN_LEASE_TTL };
        let stored = serde_json::json!({
            "Tell": { "name": "n", "silence": "lost", "lost_after": { "secs": 1, "nanos": 0 } }
        });
        assert_eq!(serde_json::to_value(step).unwrap(), stored);
    }

    #[test]
    fn bounds_bind() {
        let second = Duration::from_secs(1);
        assert_eq!(hold(&"n".repeat(MAX_LEASE_NAME), second, None).check(), Ok(()));
        assert!(hold(&"n".repeat(MAX_LEASE_NAME + 1), second, None).check().is_err());
        for name in ["", "a b", "a\n", "é"] {
            assert!(hold(name, second, None).check().is_err(), "{name:?}");
        }
        assert_eq!(hold("n", MAX_LEASE_TTL, None).check(), Ok(()));
        assert!(hold("n", MAX_LEASE_TTL + second, None).check().is_err());
        assert!(hold("n", second / 2, None).check().is_err());
        let about = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
        assert_eq!(hold("n", second, Some(&about(MAX_ABOUT))).check(), Ok(()));
        assert!(hold("n", second, Some(&about(MAX_ABOUT + 1))).check().is_err());
        assert!(hold("n", second, Some("[1]")).check().is_err());
    }
}
