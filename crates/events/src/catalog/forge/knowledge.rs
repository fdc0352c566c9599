//! Changes of an org's knowledge graph on `knowledge:<org>`.

use serde::{Deserialize, Serialize};

use crate::catalog::{Frame, Object, Stamped};

/// Key of the state document that holds the [`Counts`].
pub const COUNTS: &str = "counts";

/// One event about the graph.
pub type KnowledgeEvent = Frame<KnowledgeKind>;

/// The state document that holds the counts, with the time of their last change.
pub type CountsState = Stamped<Counts>;

/// What happened to the graph.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum KnowledgeKind {
    NodeAdded {
        #[serde(flatten)]
        node: Node,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        counts: Option<Counts>,
    },
    EdgeAdded {
        #[serde(flatten)]
        edge: Edge,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        counts: Option<Counts>,
    },
    /// The graph changed as a whole.
    KnowledgeUpdated {
        counts: Counts,
        /// Any further fields.
        #[serde(skip_serializing_if = "Object::is_empty", default)]
        details: Object,
    },
}

/// A node of the graph.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Node {
    pub node_id: String,
    pub label: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Object::is_empty", default)]
    pub properties: Object,
}

impl Node {
    /// Creates a node without a kind or properties.
    pub fn new(node_id: impl Into<String>, label: impl Into<String>) -> Self {
        Self { node_id: node_id.into(), label: label.into(), kind: None, properties: Object::new() }
    }
}

/// An edge of the graph, from one node's id to another's.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Edge {
    pub source: String,
    pub target: String,
    pub relation: String,
    #[serde(skip_serializing_if = "Object::is_empty", default)]
    pub properties: Object,
}

impl Edge {
    /// Creates an edge without properties.
    pub fn new(source: impl Into<String>, relation: impl Into<String>, target: impl Into<String>) -> Self {
        let (source, target, relation) = (source.into(), target.into(), relation.into());
        Self { source, target, relation, properties: Object::new() }
    }
}

/// The size of the graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Counts {
    pub nodes: u64,
    pub edges: u64,
}
