//! Emitters: the event catalog as methods. None of them waits or fails.

mod forge;
mod hub;
mod lease;
mod mission;
mod periodic;
mod run;
mod session;
mod stream;
mod target;
mod tools;
mod tracking;

use std::time::Duration;

use crewcast_events::catalog::Object;
use serde::Serialize;
use serde_json::Value;

use crate::publisher::Publisher;
use target::Target;

pub use forge::{AgentEmitter, KnowledgeEmitter, MAX_ERROR_TEXT, MetricsEmitter, RunningTask, TaskEmitter, TaskHandle};
pub use hub::HubEmitter;
pub use mission::MissionEmitter;
pub use periodic::Periodic;
pub use run::RunEmitter;
pub use session::{Session, SessionEmitter};
pub use stream::{ExecutionEmitter, StreamEmitter};
pub use tools::{ToolCall, ToolEmitter};
pub use tracking::TrackingEmitter;

impl Publisher {
    /// Emits the tool calls of one agent of a crew on `graph:<crew>`.
    pub fn tools(&self, crew: &str, run: &str, agent: &str) -> ToolEmitter {
        ToolEmitter::new(self, crew, run, agent)
    }

    /// Emits the lifecycle of a run on `run:<run>`.
    pub fn run(&self, run: &str) -> RunEmitter {
        RunEmitter::new(self, run)
    }

    /// Emits what a crew is doing on `mission:<crew>`.
    pub fn mission(&self, crew: &str) -> MissionEmitter {
        MissionEmitter::new(self, crew)
    }

    /// Emits state and logs of a session on `session:<session>`. With an org, also lists the session as active on
    /// `tracking:<org>`.
    pub fn session(&self, session: &str) -> SessionEmitter {
        SessionEmitter::new(self, session)
    }

    /// Emits the executions of one agent stream on `stream:<stream>`.
    pub fn stream(&self, stream: &str) -> StreamEmitter {
        StreamEmitter::new(self, stream)
    }

    /// Emits the agent, task, system, module, learning and error events of an org on `hub:<org>`.
    pub fn hub(&self, org: &str) -> HubEmitter {
        HubEmitter::new(self, org)
    }

    /// Emits the status and the collaboration of an org's agents on `tracking:<org>`.
    pub fn tracking(&self, org: &str) -> TrackingEmitter {
        TrackingEmitter::new(self, org)
    }

    /// Emits the agents of an org on `agents:<org>`, and keeps a state document of each.
    pub fn agents(&self, org: &str) -> AgentEmitter {
        AgentEmitter::new(self, org)
    }

    /// Emits the tasks of an org on `tasks:<org>`, and keeps a state document of each running one.
    pub fn tasks(&self, org: &str) -> TaskEmitter {
        TaskEmitter::new(self, org)
    }

    /// Emits changes of an org's knowledge graph on `knowledge:<org>`, and keeps its size as a state document.
    pub fn knowledge(&self, org: &str) -> KnowledgeEmitter {
        KnowledgeEmitter::new(self, org)
    }

    /// Emits the metrics of an org on `metrics:<org>`, and keeps the latest values of each set as a state document.
    pub fn metrics(&self, org: &str) -> MetricsEmitter {
        MetricsEmitter::new(self, org)
    }
}

/// The caller's value as an object. Anything else becomes the field `value` of one.
fn object(value: &(impl Serialize + ?Sized)) -> Object {
    match value_of(value) {
        Value::Object(object) => object,
        Value::Null => Object::new(),
        other => Object::from_iter([("value".to_owned(), other)]),
    }
}

/// The caller's value as JSON; null when it cannot be serialised.
fn value_of(value: &(impl Serialize + ?Sized)) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Clamps a share to 0 to `most`. NaN becomes 0.
fn within(share: f64, most: f64) -> f64 {
    if share.is_nan() { 0.0 } else { share.clamp(0.0, most) }
}

/// Whole milliseconds of a duration.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration in seconds, rounded to milliseconds.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_to_milliseconds() {
        let of = |micros| seconds(Duration::from_micros(micros)).to_string();
        assert_eq!([of(1_234_567), of(999_500), of(499), of(40_000)], ["1.235", "1", "0", "0.04"]);
    }
}
