//! Metrics of an org on `metrics:<org>`. Each event holds a whole set and replaces the previous event of that set.

use serde::{Deserialize, Serialize};

use crate::catalog::{Frame, Object};

/// The newest figures of one set. The producer chooses their names.
pub type MetricsEvent = Frame<MetricsKind>;

/// The figures of one set.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum MetricsKind {
    SystemMetrics(Object),
    TaskMetrics(Object),
    AgentMetrics(Object),
    CustomMetrics(Object),
}

/// The metric sets that gateways know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum MetricSet {
    System,
    Tasks,
    Agents,
    Custom,
}

impl MetricSet {
    /// All sets.
    pub const ALL: [MetricSet; 4] = [MetricSet::System, MetricSet::Tasks, MetricSet::Agents, MetricSet::Custom];

    /// The key of the set's state document, also used in messages of a gateway.
    pub fn key(self) -> &'static str {
        match self {
            MetricSet::System => "system",
            MetricSet::Tasks => "tasks",
            MetricSet::Agents => "agents",
            MetricSet::Custom => "custom",
        }
    }

    /// The event that publishes these figures.
    pub fn kind(self, figures: Object) -> MetricsKind {
        match self {
            MetricSet::System => MetricsKind::SystemMetrics(figures),
            MetricSet::Tasks => MetricsKind::TaskMetrics(figures),
            MetricSet::Agents => MetricsKind::AgentMetrics(figures),
            MetricSet::Custom => MetricsKind::CustomMetrics(figures),
        }
    }
}
