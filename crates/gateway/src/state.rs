//! A channel's state documents as they are told to sockets.

use std::sync::OnceLock;

use bytes::Bytes;
use crewcast_events::EventId;
use serde_json::value::RawValue;

use crate::broker::StateDocuments;

/// A channel's state documents and the id behind which they stand.
#[derive(Debug, Default)]
pub struct StateSnapshot {
    /// The last id given: later events are not in the documents, everything else is.
    pub head: Option<EventId>,
    /// The documents by key, in the order of the keys. What is no JSON is left out.
    pub documents: Vec<(String, Box<RawValue>)>,
    /// Whether there are more documents than are told.
    pub truncated: bool,
    frame: OnceLock<Bytes>,
}

impl StateSnapshot {
    /// The bytes of the message that tells the whole state, made by `encode` when nobody needed them before.
    pub fn encoded(&self, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.frame.get_or_init(encode).clone()
    }

    /// The document of this key.
    pub fn document(&self, key: &str) -> Option<&RawValue> {
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
    fn what_is_no_json_is_left_out() {
        let documents = [("a", "{"), ("b", "{\"x\":1.50}"), ("c", "")];
        let documents = documents.map(|(key, raw)| (key.to_owned(), Bytes::from_static(raw.as_bytes()))).to_vec();
        let state = StateSnapshot::from(StateDocuments { documents, ..StateDocuments::default() });
        assert_eq!(state.documents.len(), 1);
        assert_eq!(state.document("b").unwrap().get(), "{\"x\":1.50}");
    }
}
