//! Tasks of an org on `tasks:<org>`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::{Frame, Stamped};

/// One event about a task.
pub type TaskEvent = Frame<TaskKind>;

/// The state document of a running task, with the time of its last change.
pub type TaskState = Stamped<TaskSnapshot>;

/// What happened to a task.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum TaskKind {
    TaskStarted(Task),
    TaskProgress {
        #[serde(flatten)]
        task: Task,
        /// 0 to 100.
        percentage: f64,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        message: Option<String>,
    },
    TaskCompleted {
        #[serde(flatten)]
        task: Task,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        duration_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        result: Option<Value>,
    },
    TaskFailed {
        #[serde(flatten)]
        task: Task,
        error: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        duration_ms: Option<u64>,
    },
}

/// A task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Task {
    pub task_id: String,
    pub name: String,
    /// The agent that works on the task, if known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent_id: Option<String>,
}

impl Task {
    /// Creates a task without an agent.
    pub fn new(task_id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { task_id: task_id.into(), name: name.into(), agent_id: None }
    }

    /// Sets the agent that works on the task.
    #[must_use]
    pub fn of_agent(self, agent_id: impl Into<String>) -> Self {
        Self { agent_id: Some(agent_id.into()), ..self }
    }
}

/// The current state of a running task.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TaskSnapshot {
    #[serde(flatten)]
    pub task: Task,
    pub status: TaskStatus,
    /// 0 to 100.
    pub percentage: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}

/// The status of a task in its state document.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum TaskStatus {
    Running,
}

renamed! { TaskNow = TaskSnapshot }
