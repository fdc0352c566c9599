//! The channel of an emitter.

use std::sync::Arc;

use crewcast_events::{Body, Channel, Kind};
use crewcast_store::{Entry, LeaseStep, Ownership, State, check_state_key};
use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::{
    channel_queue::Ownerships,
    counters::Reason,
    publisher::{PublishError, Publisher},
};

/// One channel that an emitter writes to.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) publisher: Publisher,
    pub(super) channel: Option<Channel>,
    pub(super) ownerships: Ownerships,
}

impl Target {
    /// The channel `<namespace>:<id>`. With an org, `ids` are registered before the first event.
    pub(super) fn new(publisher: &Publisher, namespace: &str, id: &str, ids: &[(Kind, &str, Option<&str>)]) -> Self {
        let ownerships = publisher.inner().org.as_ref().map(|org| {
            let ownership = |&(kind, id, crew): &(Kind, &str, Option<&str>)| Ownership {
                kind,
                id: id.to_owned(),
                org: org.clone(),
                crew: crew.map(str::to_owned),
            };
            ids.iter().map(ownership).collect::<Arc<[Ownership]>>()
        });
        Self { publisher: publisher.clone(), channel: Channel::new(namespace, id).ok(), ownerships }
    }

    /// A channel of an org: it needs no registration.
    pub(super) fn of_org(publisher: &Publisher, namespace: &str, org: &str) -> Self {
        Self { ownerships: None, ..Self::new(publisher, namespace, org, &[]) }
    }

    pub(super) fn emit(&self, event: &impl Serialize) {
        self.push(entry(event));
    }

    /// Emits, and in the same atomic step sets the document `key` of the channel's state.
    pub(super) fn emit_setting(&self, event: &impl Serialize, key: &str, document: &impl Serialize) {
        let document = to_raw_value(document).ok();
        self.push(document.and_then(|document| stateful(event, key, Some(document.into()))));
    }

    /// Emits, and in the same atomic step removes the document `key` of the channel's state. Answers whether the
    /// event was not too large.
    pub(super) fn emit_removing(&self, event: &impl Serialize, key: &str) -> bool {
        self.push(stateful(event, key, None))
    }

    /// Emits, and in the same atomic step changes a state document and a lease.
    pub(super) fn emit_with(&self, event: &impl Serialize, state: Option<State>, lease: Option<LeaseStep>) {
        self.push(entry(event).map(|entry| Entry { state, lease, ..entry }));
    }

    /// Answers whether the event was not too large. An event that cannot be sent is counted.
    fn push(&self, entry: Option<Entry>) -> bool {
        let (Some(channel), Some(entry)) = (&self.channel, entry) else {
            let why = "an id is not 1 to 128 characters of [A-Za-z0-9._-] (printable where it only names a document), \
                       or the event is not JSON";
            self.publisher.inner().counters.dropped(Reason::Invalid, 1, why);
            return true;
        };
        let pushed = self.publisher.push_logged(channel, entry, self.ownerships.clone());
        !matches!(pushed, Err(PublishError::TooLarge { .. }))
    }
}

fn entry(event: &impl Serialize) -> Option<Entry> {
    let bytes = serde_json::to_vec(event).ok()?;
    Body::parse(bytes).ok().map(Entry::new)
}

fn stateful(event: &impl Serialize, key: &str, value: Option<Arc<serde_json::value::RawValue>>) -> Option<Entry> {
    check_state_key(key).ok()?;
    let state = Some(State { key: key.to_owned(), value });
    Some(Entry { state, ..entry(event)? })
}
