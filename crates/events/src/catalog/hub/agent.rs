//! Events about agents of the hub.

use serde::{Deserialize, Serialize};

/// `agent_created`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AgentCreated {
    pub agent: NewAgent,
}

/// An agent when it is created.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct NewAgent {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub capabilities: Vec<Capability>,
    /// RFC 3339.
    pub created_at: String,
}

/// What an agent can do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Capability {
    pub name: String,
    /// 0 to 1.
    pub proficiency: f64,
    pub learning_rate: f64,
}

/// `agent_status_changed`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AgentStatusChanged {
    pub agent_id: String,
    pub old_status: String,
    pub new_status: String,
    /// `None` is written as `""`.
    #[serde(serialize_with = "crate::catalog::or_default", default)]
    pub reason: Option<String>,
}

/// `agent_performance_updated`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AgentPerformanceUpdated {
    pub agent_id: String,
    pub metrics: Performance,
}

/// How an agent performs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Performance {
    pub tasks_completed: u64,
    /// 0 to 1.
    pub success_rate: f64,
    pub average_response_time_ms: f64,
    /// Number of capabilities that have improved.
    pub capability_improvements: u64,
}

/// `agent_removed`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AgentRemoved {
    pub agent_id: String,
    /// `None` is written as `""`.
    #[serde(serialize_with = "crate::catalog::or_default", default)]
    pub reason: Option<String>,
    /// `None` is written as no tasks and no data.
    #[serde(serialize_with = "crate::catalog::or_default", default)]
    pub cleanup_summary: Option<Cleanup>,
}

/// What happened to an agent's tasks and data.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Cleanup {
    pub tasks_reassigned: u64,
    pub data_removed: bool,
}

renamed! {
    Created = AgentCreated,
    Agent = NewAgent,
    StatusChanged = AgentStatusChanged,
    PerformanceUpdated = AgentPerformanceUpdated,
    Removed = AgentRemoved,
}
