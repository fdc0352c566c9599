//! Agents, tasks, knowledge and metrics of an org. What a gateway tells on connect stands in state documents, set in the
//! same atomic step as their events: see `crewcast_events::catalog::forge`.

mod agents;
mod knowledge;
mod metrics;
mod running;
mod tasks;

use crewcast_events::{
    catalog::{Frame, Stamped},
    timestamp,
};

use super::{Target, millis, object, value_of, within};
use crate::trace;

pub use agents::AgentEmitter;
pub use knowledge::KnowledgeEmitter;
pub use metrics::MetricsEmitter;
pub use running::{RunningTask, TaskHandle};
pub use tasks::{MAX_ERROR_TEXT, TaskEmitter};

/// An event of now.
fn frame<K>(kind: K) -> Frame<K> {
    Frame { kind, timestamp: timestamp::now(), traceparent: trace::parent() }
}

/// A document as old as the event that it stands beside.
fn stamped<K, T>(event: &Frame<K>, data: T) -> Stamped<T> {
    Stamped { data, timestamp: event.timestamp.clone() }
}
