//! Agent, task, system, module, learning and error events of an org on `hub:<org>`.
//!
//! Gateways add `message_id` and `sequence`. Producers write neither.

pub mod agent;
pub mod error;
pub mod learning;
pub mod module;
pub mod system;
pub mod task;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Frame, Stamped};

/// One event of the hub. Its `data` repeats the `timestamp`.
pub type HubEvent = Frame<HubKind>;

/// What happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum HubKind {
    AgentCreated(Stamped<agent::AgentCreated>),
    AgentStatusChanged(Stamped<agent::AgentStatusChanged>),
    AgentPerformanceUpdated(Stamped<agent::AgentPerformanceUpdated>),
    AgentRemoved(Stamped<agent::AgentRemoved>),
    TaskCreated(Stamped<task::TaskCreated>),
    TaskAssigned(Stamped<task::TaskAssigned>),
    TaskStarted(Stamped<task::TaskStarted>),
    TaskProgress(Stamped<task::TaskProgress>),
    TaskCompleted(Stamped<task::TaskCompleted>),
    TaskFailed(Stamped<task::TaskFailed>),
    TaskCancelled(Stamped<task::TaskCancelled>),
    HiveStatusUpdate(Stamped<system::HiveStatus>),
    SystemAlert(Stamped<system::SystemAlert>),
    ResourceAlert(Stamped<system::ResourceAlert>),
    ModuleStatusChanged(Stamped<module::ModuleStatusChanged>),
    InterModuleMessage(Stamped<module::InterModuleMessage>),
    CoordinationEvent(Stamped<module::CoordinationEvent>),
    LearningCycleStarted(Stamped<learning::LearningCycleStarted>),
    LearningCycleCompleted(Stamped<learning::LearningCycleCompleted>),
    ErrorOccurred(Stamped<error::ErrorOccurred>),
}

/// An error as hub events describe it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ErrorInfo {
    pub code: String,
    pub message: String,
    /// `None` is written as `{}`.
    #[serde(serialize_with = "crate::catalog::or_empty_object", default)]
    pub details: Option<Value>,
}
