//! A channel's state documents, as they are sent to sockets.

use std::sync::OnceLock;

use bytes::Bytes;
use crewcast_events::EventId;
use serde_json::value::RawValue;

use crate::broker::StateDocuments;

/// A channel's state documents, and the id at which they were read.
#[derive(Debug, Default)]
pub(crate) struct StateSnapshot {
    /// The last id at that moment: later events are not reflected in the documents, all earlier ones are.
    pub head: Option<EventId>,
    /// The documents, sorted by key. Documents that are not JSON are left out.
    pub documents: Vec<(String, Box<RawValue>)>,
    /// Whether there are more documents than these.
    pub truncated: bool,
    frame: OnceLock<Bytes>,
}

impl StateSnapshot {
    /// The encoded message with the whole state. `encode` runs at most once.
    pub(crate) fn encoded(&self, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.frame.get_or_init(encode).clone()
    }

    /// The document of this key.
    pub(crate) fn document(&self, key: &str) -> Option<&RawValue> {
        let index = self.documents.binary_search_by(|(known, _)| known.as_str().cmp(key)).ok()?;
        Some(&*self.documents[index].1)
    }
}

impl From<StateDocuments> for StateSnapshot {
    fn from(state: StateDocuments) -> Self {
        let document = |(key, raw): (String, Bytes)| Some((key, serde_json::from_slice(&raw).ok()?));
        let documents = state.documents.into_iter().filter_map(document).collect();
        Self { head: state.head, documents, truncated: state.truncated, frame: OnceLock::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_that_are_not_json_are_left_out() {
        let documents = [("a", "{"), ("b", "{\"x\":1.50}"), ("c", "")];
        let documents = documents.map(|(key, raw)| (key.to_owned(), Bytes::from_static(raw.as_bytes()))).to_vec();
        let state = StateSnapshot::from(StateDocuments { documents, ..StateDocuments::default() });
        assert_eq!(state.documents.len(), 1);
        assert_eq!(state.document("b").unwrap().get(), "{\"x\":1.50}");
    }
}
