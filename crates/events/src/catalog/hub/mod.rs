//! Every agent, task, system, module, learning and error event of an org on `hub:<org>`.
//!
//! A gateway appends `message_id` and `sequence`; producers write neither.

pub mod agent;
pub mod error;
pub mod learning;
pub mod module;
pub mod system;
pub mod task;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Frame, Stamped};

/// One event of the hub. Its `data` bears the same `timestamp` once more.
pub type HubEvent = Frame<HubKind>;

/// What happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum HubKind {
    AgentCreated(Stamped<agent::Created>),
    AgentStatusChanged(Stamped<agent::StatusChanged>),
    AgentPerformanceUpdated(Stamped<agent::PerformanceUpdated>),
    AgentRemoved(Stamped<agent::Removed>),
    TaskCreated(Stamped<task::Created>),
    TaskAssigned(Stamped<task::Assigned>),
    TaskStarted(Stamped<task::Started>),
    TaskProgress(Stamped<task::Progress>),
    TaskCompleted(Stamped<task::Completed>),
    TaskFailed(Stamped<task::Failed>),
    TaskCancelled(Stamped<task::Cancelled>),
    HiveStatusUpdate(Stamped<system::HiveStatus>),
    SystemAlert(Stamped<system::SystemAlert>),
    ResourceAlert(Stamped<system::ResourceAlert>),
    ModuleStatusChanged(Stamped<module::StatusChanged>),
    InterModuleMessage(Stamped<module::Message>),
    CoordinationEvent(Stamped<module::Coordination>),
    LearningCycleStarted(Stamped<learning::CycleStarted>),
    LearningCycleCompleted(Stamped<learning::CycleCompleted>),
    ErrorOccurred(Stamped<error::Occurred>),
}

/// An error as hub events describe it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ErrorInfo {
    pub code: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<Value>,
}
