//! The activity and collaboration of agents, on `tracking:<org>`.

use serde::{Deserialize, Serialize};

/// One event about agents.
///
/// Its `timestamp` is RFC 3339, unlike the timestamps of the gateway's own messages in this dialect.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TrackingEvent {
    #[serde(flatten)]
    pub kind: TrackingKind,
    pub timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
}

/// What happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum TrackingKind {
    AgentStatus(AgentStatus),
    AgentCollaboration(AgentCollaboration),
}

/// What an agent is doing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AgentStatus {
    pub agent_id: String,
    pub agent_name: String,
    pub status: Activity,
    /// 0 to 100.
    pub progress: f64,
    pub message: String,
    pub metadata: StatusMetadata,
}

/// One agent works with another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AgentCollaboration {
    pub primary_agent: String,
    pub secondary_agent: String,
    pub collaboration_type: String,
    pub reason: String,
}

/// The activities of an agent: `IDLE`, `ANALYZING`, ….
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum Activity {
    Idle,
    Analyzing,
    Processing,
    Collaborating,
    Completed,
    Error,
}

/// The task that an agent works on, if any.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct StatusMetadata {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task_id: Option<String>,
    /// Seconds from now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub estimated_completion: Option<f64>,
}
