//! Metrics of an org on `metrics:<org>`. Each event is a whole set, of which only the newest counts.

use serde::{Deserialize, Serialize};

use crate::catalog::{Frame, Object};

/// The newest figures of one set. Their names are the producer's.
pub type MetricsEvent = Frame<MetricsKind>;

/// Which figures.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum MetricsKind {
    SystemMetrics(Object),
    TaskMetrics(Object),
    AgentMetrics(Object),
    CustomMetrics(Object),
}

/// The sets that gateways know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum MetricSet {
    System,
    Tasks,
    Agents,
    Custom,
}

impl MetricSet {
    /// All of them.
    pub const ALL: [MetricSet; 4] = [MetricSet::System, MetricSet::Tasks, MetricSet::Agents, MetricSet::Custom];

    /// The key of its state document, and in what a gateway sends.
    pub fn key(self) -> &'static str {
        match self {
            MetricSet::System => "system",
            MetricSet::Tasks => "tasks",
            MetricSet::Agents => "agents",
            MetricSet::Custom => "custom",
        }
    }

    /// Its event.
    pub fn kind(self, figures: Object) -> MetricsKind {
        match self {
            MetricSet::System => MetricsKind::SystemMetrics(figures),
            MetricSet::Tasks => MetricsKind::TaskMetrics(figures),
            MetricSet::Agents => MetricsKind::AgentMetrics(figures),
            MetricSet::Custom => MetricsKind::CustomMetrics(figures),
        }
    }
}
