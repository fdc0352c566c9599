//! Learning cycles of the hub's agents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `learning_cycle_started`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LearningCycleStarted {
    pub cycle_id: String,
    pub agent_id: String,
    pub learning_type: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target_capability: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub estimated_duration_minutes: Option<u64>,
}

/// `learning_cycle_completed`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LearningCycleCompleted {
    pub cycle_id: String,
    pub agent_id: String,
    /// Improvements by capability.
    pub improvements: BTreeMap<String, Improvement>,
    pub duration_ms: u64,
}

/// How much a capability has improved.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Improvement {
    pub old_value: f64,
    pub new_value: f64,
    pub improvement: f64,
}

renamed! { CycleStarted = LearningCycleStarted, CycleCompleted = LearningCycleCompleted }
