//! Appends to a channel's log.

use std::{borrow::Cow, sync::Arc, time::Duration};

use crewcast_events::{Body, Channel, Namespace, RANDOM_LEN};
use serde_json::value::RawValue;

use crate::{lease::LeaseStep, state_key::check_state_key};

/// Events of one channel that enter its log together and in order.
#[derive(Clone, Debug)]
pub struct Append {
    /// The channel whose log receives them.
    pub channel: Channel,
    /// 1 to [`MAX_ENTRIES`].
    pub entries: Vec<Entry>,
    /// How a repetition of this append is recognised.
    pub once: Once,
}

impl Append {
    /// Checks what every broker refuses, whatever its log holds.
    ///
    /// # Errors
    /// [`AppendError::Refused`], with the reason.
    pub fn validate(&self, namespace: &Namespace) -> Result<(), AppendError> {
        let refused = |why: String| Err(AppendError::Refused(why));
        let count = self.entries.len();
        if namespace.log.length == 0 {
            let name = self.channel.namespace();
            return refused(format!("the namespace {name} is live only (its log has length 0): publish live"));
        }
        if count == 0 || count > MAX_ENTRIES {
            return refused(format!("an append has 1 to {MAX_ENTRIES} entries, not {count}"));
        }
        if matches!(self.once, Once::Key { .. }) && count > 1 {
            return refused("an idempotency key names one event".to_owned());
        }
        if matches!(self.once, Once::Sequence { first: 0, .. }) {
            return refused("a producer's numbers count from 1".to_owned());
        }
        self.entries.iter().try_for_each(|entry| self.validate_entry(entry))
    }

    fn validate_entry(&self, entry: &Entry) -> Result<(), AppendError> {
        if let Some(state) = &entry.state {
            check_state_key(&state.key).map_err(|error| AppendError::Refused(error.to_string()))?;
        }
        let Some(step) = &entry.lease else { return Ok(()) };
        step.check().map_err(AppendError::Refused)?;
        if matches!(step, LeaseStep::Expire { .. }) && !matches!(self.once, Once::No) {
            let why = "an event about a lease's expiry is recognised by the lease: it has no number and no key";
            return Err(AppendError::Refused(why.to_owned()));
        }
        Ok(())
    }
}

/// Most entries of one [`Append`]. Bounds how long one script runs.
pub const MAX_ENTRIES: usize = 128;

/// The namespace of the orgs' lists of active sessions.
const SESSION_LISTS: &str = "tracking";
/// The ttl of the lease of a listed session whose producer asks for none.
const SESSION_LEASE: Duration = Duration::from_secs(60);

/// Most bytes of one event unless configured: the default of the gateways' `limits.message`. Gateways drop larger
/// events.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// One event on its way into the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The producer's object.
    pub body: Body,
    /// The event's part of its tag; the other part comes from its predecessor. A retry sends the same characters, so an
    /// event that follows the same events gets the same id.
    pub random: [u8; RANDOM_LEN],
    /// A state document that is set or removed in the same atomic step.
    pub state: Option<State>,
    /// A change to a lease in the same atomic step.
    pub lease: Option<LeaseStep>,
}

impl Entry {
    /// An entry with a fresh random half, no state and no lease.
    pub fn new(body: Body) -> Self {
        Self { body, random: random_half(), state: None, lease: None }
    }

    /// The entry's lease step in this channel. The document of a session in an org's list holds a lease of its name
    /// although its producer asks for none: otherwise nothing would tell whether the session is still active.
    pub fn lease_step(&self, channel: &Channel) -> Option<Cow<'_, LeaseStep>> {
        if let Some(step) = &self.lease {
            return Some(Cow::Borrowed(step));
        }
        let state = self.state.as_ref().filter(|_| channel.namespace() == SESSION_LISTS)?;
        let name = Arc::from(&*state.key);
        let step = match &state.value {
            Some(_) => LeaseStep::Hold { name, ttl: SESSION_LEASE, about: None },
            None => LeaseStep::Release { name },
        };
        step.check().is_ok().then_some(Cow::Owned(step))
    }
}

/// Six random characters of `[0-9a-z]`.
pub fn random_half() -> [u8; RANDOM_LEN] {
    std::array::from_fn(|_| b"0123456789abcdefghijklmnopqrstuvwxyz"[fastrand::usize(..36)])
}

/// One document in the channel's state hash.
#[derive(Clone, Debug)]
pub struct State {
    /// Field of the hash: see [`check_state_key`].
    pub key: String,
    /// The document, stored as it was written. `None` removes it.
    pub value: Option<Arc<RawValue>>,
}

/// How the log recognises an append that it has accepted before.
#[derive(Clone, Debug)]
pub enum Once {
    /// It does not.
    No,
    /// The entries are the producer's events number `first`, `first + 1`, … in this channel. The log accepts them only
    /// in sequence: a retry answers the same ids, and a hole is refused, so no event overtakes a failed predecessor.
    Sequence {
        /// Random; one per publisher and epoch.
        producer: Arc<str>,
        /// Counts from 1.
        first: u64,
    },
    /// A caller's key for one event, remembered for 24 h within the channel and `sub`.
    Key {
        /// The caller's `sub`.
        sub: String,
        /// Chosen by the caller.
        key: String,
    },
}

/// Why an append did not happen, or may not have happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log expects a lower number of this producer: acknowledged events were lost, or the record of the producer
    /// expired. Nothing was appended. Continue as a new producer, from 1.
    #[error("the log expects number {expected} of this producer")]
    Gap {
        /// The number that would be accepted, below the append's first.
        expected: u64,
    },
    /// No answer: the append may have happened. Send the same append again.
    #[error("the broker does not answer: {0}")]
    Unavailable(String),
    /// The append did not happen, and a retry would fail the same way.
    #[error("refused: {0}")]
    Refused(String),
}

#[cfg(test)]
mod tests {
    use crewcast_events::{Namespaces, catalog::lease_expiry::LeaseStatus};

    use super::*;

    fn entry() -> Entry {
        Entry::new(Body::parse(r#"{"type":"x"}"#).unwrap())
    }

    fn refusal(entries: Vec<Entry>, once: Once) -> String {
        let append = Append { channel: "graph:a".parse().unwrap(), entries, once };
        let namespaces = Namespaces::default();
        match append.validate(namespaces.of(&append.channel).unwrap()) {
            Ok(()) => String::new(),
            Err(AppendError::Refused(why)) => why,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn an_append_is_bounded() {
        let key = || Once::Key { sub: "u".to_owned(), key: "k".to_owned() };
        let sequence = |first| Once::Sequence { producer: "p".into(), first };
        assert_eq!(refusal(vec![entry(); MAX_ENTRIES], sequence(1)), "");
        assert!(refusal(vec![entry(); MAX_ENTRIES + 1], sequence(1)).contains("1 to 128 entries"));
        assert!(refusal(Vec::new(), Once::No).contains("1 to 128 entries"));
        assert!(refusal(vec![entry(); 2], key()).contains("one event"));
        assert!(refusal(vec![entry()], sequence(0)).contains("from 1"));
    }

    #[test]
    fn a_listed_session_without_a_lease_gets_one() {
        let step = |channel: &str, key: &str, value: Option<&str>| {
            let value = value.map(|text| Arc::from(RawValue::from_string(text.to_owned()).unwrap()));
            let entry = Entry { state: Some(State { key: key.to_owned(), value }), ..entry() };
            entry.lease_step(&channel.parse().unwrap()).map(|step| step.wire())
        };
        assert_eq!(step("tracking:acme", "s1", Some("{}")).as_deref(), Some("hold 60000 s1 "));
        assert_eq!(step("tracking:acme", "s1", None).as_deref(), Some("release 0 s1"));
        assert_eq!(step("tracking:acme", "not a name", Some("{}")), None);
        assert_eq!(step("session:s1", "state", Some("{}")), None);
        let own = Entry { lease: Some(LeaseStep::Release { name: "n".into() }), ..entry() };
        assert_eq!(own.lease_step(&"tracking:acme".parse().unwrap()).unwrap().wire(), "release 0 n");
    }

    #[test]
    fn state_keys_and_lease_steps_are_checked() {
        let state = |key: &str| Some(State { key: key.to_owned(), value: None });
        assert_eq!(refusal(vec![Entry { state: state("k"), ..entry() }], Once::No), "");
        assert!(refusal(vec![entry(), Entry { state: state("a\tb"), ..entry() }], Once::No).contains("state key"));

        let lost_after = Duration::from_secs(1);
        let expire = |name: &str| LeaseStep::Expire { name: name.into(), expiry: LeaseStatus::Lost, lost_after };
        let with = |step| vec![Entry { lease: Some(step), ..entry() }];
        assert_eq!(refusal(with(expire("n")), Once::No), "");
        assert!(refusal(with(expire("a b")), Once::No).contains("lease's name"));
        let once = Once::Sequence { producer: "p".into(), first: 1 };
        assert!(refusal(with(expire("n")), once).contains("recognised by the lease"));
    }
}
