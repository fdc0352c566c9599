//! Sessions: their state and logs on `session:<id>`, the list of those that are active on `tracking:<org>`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The key of a session's state document in `session:<id>`.
pub const STATE_KEY: &str = "state";

/// The state of one session, as clients ask for it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct SessionState {
    pub session_id: String,
    pub query: String,
    pub current_phase: String,
    /// 0 to 100.
    pub overall_progress: f64,
    pub active_agents: Vec<ActiveAgent>,
    pub crew_output: Vec<Value>,
}

/// One agent at work in a session.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct ActiveAgent {
    pub agent_name: String,
    pub status: String,
    /// 0 to 100.
    pub progress: f64,
    pub current_task: String,
    pub details: Value,
}

/// How grave a line of a session's log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
}

/// One event on `session:<id>`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SessionEvent {
    #[serde(flatten)]
    pub kind: SessionKind,
    pub session_id: String,
    pub timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
}

/// What happened in the session.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum SessionKind {
    SessionStarted {
        query: String,
    },
    /// The state as it is now; the state document [`STATE_KEY`] is the same.
    SessionState {
        state: SessionState,
    },
    SessionLog {
        level: LogLevel,
        agent: String,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        details: Option<Value>,
    },
    SessionEnded {
        status: String,
    },
}

/// A session in the list of those that are active: the state document with the session's id as its key in
/// `tracking:<org>`, beside a lease of the same name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SessionSummary {
    pub session_id: String,
    pub query: String,
    pub status: String,
    pub agents_active: usize,
}

/// The list of active sessions changed: the event on `tracking:<org>`, in one atomic step with the document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "session_changed")]
#[allow(missing_docs)]
pub struct SessionChanged {
    #[serde(flatten)]
    pub session: SessionSummary,
    /// Whether it is in the list; it is not after its end.
    pub active: bool,
    pub timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
}
