//! The status of the hub as a whole, and its alerts.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `hive_status_update`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct HiveStatus {
    pub status: String,
    pub metrics: HiveMetrics,
    pub alerts: Vec<HiveAlert>,
}

/// The figures of a [`HiveStatus`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct HiveMetrics {
    pub total_agents: u64,
    pub active_agents: u64,
    pub pending_tasks: u64,
    pub completed_tasks_today: u64,
    /// 0 to 1.
    pub system_load: f64,
}

/// An active alert in a [`HiveStatus`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct HiveAlert {
    pub level: String,
    pub message: String,
    /// RFC 3339.
    pub timestamp: String,
}

/// `system_alert`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SystemAlert {
    pub level: String,
    pub title: String,
    pub message: String,
    /// `None` is written as `{}`.
    #[serde(serialize_with = "crate::catalog::or_empty_object", default)]
    pub details: Option<Value>,
}

/// `resource_alert`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ResourceAlert {
    pub resource: String,
    /// 0 to 100.
    pub usage_percent: f64,
    /// 0 to 100.
    pub threshold_percent: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trend: Option<String>,
    pub recommendations: Vec<String>,
}
