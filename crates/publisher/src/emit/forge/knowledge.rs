//! Changes of an org's knowledge graph on `knowledge:<org>`.

use crewcast_events::catalog::forge::knowledge::{COUNTS, Counts, Edge, KnowledgeEvent, KnowledgeKind, Node};
use serde::Serialize;

use super::{Target, frame, object, stamped};
use crate::publisher::Publisher;

/// Emits the changes of an org's graph. The emitter does not count: the caller passes the graph's size where it is
/// known, and the size becomes the graph's state document. Cheap to clone.
#[derive(Clone)]
pub struct KnowledgeEmitter {
    target: Target,
}

impl KnowledgeEmitter {
    pub(in crate::emit) fn new(publisher: &Publisher, org: &str) -> Self {
        Self { target: Target::of_org(publisher, "knowledge", org) }
    }

    /// A node was added. `counts` is the graph's size with it, if known.
    pub fn node_added(&self, node: Node, counts: Option<Counts>) {
        self.emit(&frame(KnowledgeKind::NodeAdded { node, counts }), counts);
    }

    /// An edge was added. `counts` is the graph's size with it, if known.
    pub fn edge_added(&self, edge: Edge, counts: Option<Counts>) {
        self.emit(&frame(KnowledgeKind::EdgeAdded { edge, counts }), counts);
    }

    /// The graph has changed as a whole and now has this size. `details` is an object; anything else becomes the field
    /// `value` of one.
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
