//! Tasks of the hub, from creation to end.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ErrorInfo;

/// `task_created`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TaskCreated {
    pub task: NewTask,
    /// Number of agents that could take the task.
    pub matching_agents: u64,
}

/// A task when it is created.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct NewTask {
    pub id: String,
    pub description: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub priority: i64,
    pub status: String,
    pub required_capabilities: Vec<RequiredCapability>,
    /// RFC 3339.
    pub created_at: String,
}

/// A capability that a task requires of its agent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RequiredCapability {
    pub name: String,
    /// 0 to 1.
    pub min_proficiency: f64,
}

/// `task_assigned`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TaskAssigned {
    pub task_id: String,
    pub agent_id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub assignment_reason: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub estimated_completion: Option<String>,
}

/// `task_started`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TaskStarted {
    pub task_id: String,
    pub agent_id: String,
    /// Counts from 1.
    pub attempt_number: u32,
}

/// `task_progress`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TaskProgress {
    pub task_id: String,
    pub agent_id: String,
    /// 0 to 1.
    pub progress: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub current_step: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub estimated_completion: Option<String>,
}

/// `task_completed`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TaskCompleted {
    pub task_id: String,
    pub agent_id: String,
    pub execution_time_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<Value>,
}

/// `task_failed`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TaskFailed {
    pub task_id: String,
    pub agent_id: String,
    /// Counts from 1.
    pub attempt_number: u32,
    pub error: ErrorInfo,
    pub retry_scheduled: bool,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_retry_at: Option<String>,
}

/// `task_cancelled`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TaskCancelled {
    pub task_id: String,
    /// `None` is written as `""`.
    #[serde(serialize_with = "crate::catalog::or_default", default)]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cancelled_by: Option<String>,
}

renamed! {
    Created = TaskCreated,
    Task = NewTask,
    Assigned = TaskAssigned,
    Started = TaskStarted,
    Progress = TaskProgress,
    Completed = TaskCompleted,
    Failed = TaskFailed,
    Cancelled = TaskCancelled,
}
