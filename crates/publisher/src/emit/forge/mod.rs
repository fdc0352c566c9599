//! Agents, tasks, knowledge and metrics of an org. The documents that a gateway sends on connect are set in the same
//! atomic step as their events: see `crewcast_events::catalog::forge`.

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

/// An event with the current timestamp.
fn frame<K>(kind: K) -> Frame<K> {
    Frame { kind, timestamp: timestamp::now(), traceparent: trace::parent() }
}

/// A document with the timestamp of its event.
fn stamped<K, T>(event: &Frame<K>, data: T) -> Stamped<T> {
    Stamped { data, timestamp: event.timestamp.clone() }
}
