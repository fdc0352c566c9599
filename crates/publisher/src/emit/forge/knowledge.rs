//! Changes of an org's knowledge graph on `knowledge:<org>`.

use crewcast_events::catalog::forge::knowledge::{COUNTS, Counts, Edge, KnowledgeEvent, KnowledgeKind, Node};
use serde::Serialize;

use super::{Target, frame, object, stamped};
use crate::publisher::Publisher;

/// Emits the changes of an org's graph. It does not count: whoever keeps the graph knows how large it is, and says so
/// where it is known. Then the size is the graph's state document. Cheap enough to clone.
#[derive(Clone)]
pub struct KnowledgeEmitter {
    target: Target,
}

impl KnowledgeEmitter {
    pub(in crate::emit) fn new(publisher: &Publisher, org: &str) -> Self {
        Self { target: Target::of_org(publisher, "knowledge", org) }
    }

    /// There is a new node. `counts` is the graph's size with it, where known.
    pub fn node_added(&self, node: Node, counts: Option<Counts>) {
        self.emit(&frame(KnowledgeKind::NodeAdded { node, counts }), counts);
    }

    /// There is a new edge. `counts` is the graph's size with it, where known.
    pub fn edge_added(&self, edge: Edge, counts: Option<Counts>) {
        self.emit(&frame(KnowledgeKind::EdgeAdded { edge, counts }), counts);
    }

    /// The graph has changed as a whole and has this size now. `details` is an object; anything else stands in one as
    /// its `value`.
    pub fn updated(&self, counts: Counts, details: &(impl Serialize + ?Sized)) {
        self.emit(&frame(KnowledgeKind::KnowledgeUpdated { counts, details: object(details) }), Some(counts));
    }

    fn emit(&self, event: &KnowledgeEvent, counts: Option<Counts>) {
        match counts {
            Some(counts) => self.target.emit_setting(event, COUNTS, &stamped(event, counts)),
            None => self.target.emit(event),
        }
    }
}
