//! Leases: what a producer promises to renew, so that its silence is a signal.
//!
//! A lease has a name in its channel. The event that begins something makes it, every later event of the same thing
//! renews it, and so does the publisher in the background; the event that ends the thing removes it. Gateways tell the
//! channel of one that has run out.

use std::{sync::Arc, time::Duration};

use crewcast_events::{Channel, catalog::silence::Silence};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Shortest time that a lease stands without being renewed.
pub const MIN_LEASE_TTL: Duration = Duration::from_secs(1);
/// Longest time that a lease stands without being renewed.
pub const MAX_LEASE_TTL: Duration = Duration::from_secs(3600);
/// How long the leases of sessions stand where nothing else was said.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);
/// Longest name of a lease, in bytes.
pub const MAX_LEASE_NAME: usize = 200;
/// Most bytes of what is said about a lease.
pub const MAX_ABOUT: usize = 2048;
/// Most leases of one channel. Lost ones give way to new ones; beyond, a new one is not made, and its event is
/// published all the same.
pub const MAX_LEASES: usize = 1000;

/// What becomes of a lease in the same atomic step as an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LeaseStep {
    /// It is made or renewed. Whatever was told of it is taken back by the event itself.
    Hold {
        /// 1 to [`MAX_LEASE_NAME`] printable characters of ASCII, no space.
        name: Arc<str>,
        /// How long it stands, [`MIN_LEASE_TTL`] to [`MAX_LEASE_TTL`].
        ttl: Duration,
        /// A JSON object: the fields that an event which tells of it has besides its own. At most [`MAX_ABOUT`] bytes.
        about: Option<Arc<RawValue>>,
    },
    /// It is removed.
    Release {
        /// As above.
        name: Arc<str>,
    },
    /// For gateways. The event tells of the lease; it is appended only if that is true and has not been told.
    Tell {
        /// As above.
        name: Arc<str>,
        /// What is told.
        silence: Silence,
        /// How long after `stalled` the lease is lost.
        lost_after: Duration,
    },
}

impl LeaseStep {
    /// The lease that it concerns.
    pub fn name(&self) -> &str {
        match self {
            LeaseStep::Hold { name, .. } | LeaseStep::Release { name } | LeaseStep::Tell { name, .. } => name,
        }
    }

    /// Whether a broker may take it.
    ///
    /// # Errors
    /// What is wrong with it.
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

    /// As the script reads it: operation, milliseconds, name, and what is said about it.
    pub fn wire(&self) -> String {
        match self {
            LeaseStep::Hold { name, ttl, about } => {
                format!("hold {} {name} {}", ttl.as_millis(), about.as_ref().map_or("", |about| about.get()))
            }
            LeaseStep::Release { name } => format!("release 0 {name}"),
            LeaseStep::Tell { name, silence, lost_after } => {
                format!("{} {} {name}", silence.as_str(), lost_after.as_millis())
            }
        }
    }

    /// Bytes that it takes in memory, about.
    pub fn size(&self) -> usize {
        match self {
            LeaseStep::Hold { name, about, .. } => name.len() + about.as_ref().map_or(0, |about| about.get().len()),
            other => other.name().len(),
        }
    }
}

/// Leases of one channel that go on.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// Whose leases.
    pub channel: Channel,
    /// How long they stand from now on.
    pub ttl: Duration,
    /// Which of them.
    pub names: Vec<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(name: &str, ttl: Duration, about: Option<&str>) -> LeaseStep {
        let about = about.map(|text| RawValue::from_string(text.to_owned()).unwrap().into());
        LeaseStep::Hold { name: name.into(), ttl, about }
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
