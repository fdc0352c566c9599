//! Sessions: state and logs on `session:<id>`, and the list of active sessions on `tracking:<org>`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The key of a session's state document in `session:<id>`.
pub const STATE_KEY: &str = "state";

/// The state of one session, as clients request it.
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
    /// Null is written as `{}`.
    #[serde(serialize_with = "crate::catalog::null_as_object")]
    pub details: Value,
}

/// The severity of a line in a session's log.
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

/// What happened in a session.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum SessionKind {
    SessionStarted {
        query: String,
    },
    /// The current state. The state document [`STATE_KEY`] holds the same.
    SessionState {
        state: SessionState,
    },
    SessionLog {
        level: LogLevel,
        agent: String,
        message: String,
        /// `None` is written as `{}`.
        #[serde(serialize_with = "crate::catalog::or_empty_object", default)]
        details: Option<Value>,
    },
    SessionEnded {
        status: String,
    },
}

/// A session in the list of active sessions.
///
/// This is a state document in `tracking:<org>` whose key is the session's id. The session also holds a lease with the
/// id as its name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SessionSummary {
    pub session_id: String,
    pub query: String,
    pub status: String,
    pub agents_active: usize,
}

/// The list of active sessions has changed. Published on `tracking:<org>` in one atomic step with the document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "session_changed")]
#[allow(missing_docs)]
pub struct SessionChanged {
    #[serde(flatten)]
    pub session: SessionSummary,
    /// Whether the session is in the list: `false` after its end.
    pub active: bool,
    pub timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
}
