//! Execution events of one agent stream on `stream:<stream>`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Object;

/// One event of an execution: `type`, `stream_id`, `execution_id`, `timestamp`, and `data` that depends on the type.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct StreamEvent {
    #[serde(flatten)]
    pub kind: StreamKind,
    pub stream_id: String,
    pub execution_id: String,
    pub timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
}

/// What happened in an execution. `data` repeats the execution's id.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum StreamKind {
    ExecutionStarted {
        #[serde(default)]
        execution_id: String,
        input_data: Value,
    },
    ExecutionCompleted {
        #[serde(default)]
        execution_id: String,
        output: Value,
    },
    ExecutionFailed {
        #[serde(default)]
        execution_id: String,
        error: String,
    },
    /// The execution waits at a node for a decision from outside.
    ExecutionPaused {
        #[serde(default)]
        execution_id: String,
        node_id: String,
        reason: String,
    },
    ExecutionResumed {
        #[serde(default)]
        execution_id: String,
        node_id: String,
        decision: Value,
    },
    NodeExecuted {
        #[serde(default)]
        execution_id: String,
        node_id: String,
        duration_ms: u64,
        output: Value,
    },
    GoalProgress {
        #[serde(default)]
        execution_id: String,
        /// 0 to 1.
        progress: f64,
        /// The state of each criterion, by name.
        criteria_status: Object,
    },
    GoalAchieved {
        #[serde(default)]
        execution_id: String,
        final_status: Value,
    },
    /// A missing value is null.
    StateChanged {
        #[serde(default)]
        execution_id: String,
        key: String,
        old_value: Value,
        new_value: Value,
    },
    ConstraintViolation {
        #[serde(default)]
        execution_id: String,
        constraint: String,
        message: String,
    },
}
