//! Events of one run on `run:<run>`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Object, Outcome};

/// One run event, with the fields that all run events have.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RunEvent {
    #[serde(flatten)]
    pub kind: RunKind,
    pub timestamp: String,
    pub run_id: String,
    /// The crew of the run, if known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub crew_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum RunOutcome {
    Success,
    Error,
    Cancelled,
}

/// What happened in a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum RunKind {
    Boot {
        inputs: Object,
    },
    AgentStart {
        agent_id: String,
        agent: String,
    },
    AgentEnd {
        agent_id: String,
        agent: String,
        status: Outcome,
        duration_s: f64,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        output: Option<Value>,
    },
    TaskStart {
        task_id: String,
        task: String,
        agent_id: String,
    },
    TaskEnd {
        task_id: String,
        task: String,
        agent_id: String,
        status: Outcome,
        duration_s: f64,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        output: Option<Value>,
    },
    Error {
        message: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        code: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        agent_id: Option<String>,
        fatal: bool,
    },
    Done {
        status: RunOutcome,
        duration_s: f64,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        output: Option<Value>,
    },
}
