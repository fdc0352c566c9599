//! Agents of an org on `agents:<org>`.

use serde::{Deserialize, Serialize};

use crate::catalog::{Frame, Object, Stamped};

/// One event about an agent.
pub type AgentEvent = Frame<AgentKind>;

/// The state document of an agent, with the time of its last change.
pub type AgentState = Stamped<Agent>;

/// What happened to an agent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum AgentKind {
    AgentCreated(Agent),
    StatusChanged {
        agent_id: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        old_status: Option<String>,
        new_status: String,
    },
    AgentDeleted {
        agent_id: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
}

/// An agent's current state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Agent {
    pub agent_id: String,
    pub name: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    /// A status that the producer chooses, for example `idle`. Dashboards count agents by status.
    pub status: String,
    /// Any further fields.
    #[serde(skip_serializing_if = "Object::is_empty", default)]
    pub metadata: Object,
}

impl Agent {
    /// Creates an agent without a kind or metadata.
    pub fn new(agent_id: impl Into<String>, name: impl Into<String>, status: impl Into<String>) -> Self {
        let (agent_id, name, status) = (agent_id.into(), name.into(), status.into());
        Self { agent_id, name, kind: None, status, metadata: Object::new() }
    }
}
