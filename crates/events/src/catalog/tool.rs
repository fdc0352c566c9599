//! Tool events on `graph:<crew>`.

use serde::{Deserialize, Serialize};

use super::{Object, Outcome};

/// One tool event, with the fields that all tool events have.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ToolEvent {
    #[serde(flatten)]
    pub kind: ToolKind,
    pub timestamp: String,
    pub crew_id: String,
    pub run_id: String,
    pub agent_id: String,
    pub tool: String,
    /// Pairs the events of one call: an agent may call a tool several times in parallel. Emitters always write it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
}

/// What happened to a tool call.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ToolKind {
    ToolStart {
        params: Object,
    },
    ToolProgress {
        message: String,
        /// 0 to 1.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        progress: Option<f64>,
    },
    ToolEnd {
        /// Seconds.
        duration_s: f64,
        exit_code: i32,
        status: Outcome,
    },
}
