//! Executions of one agent stream on `stream:<stream>`.

use std::{sync::Arc, time::Duration};

use crewcast_events::{
    Kind,
    catalog::stream::{StreamEvent, StreamKind},
    timestamp,
};
use serde::Serialize;

use super::{Target, millis, object, value_of, within};
use crate::{publisher::Publisher, trace};

/// Emits the executions of one stream. Cheap to clone.
#[derive(Clone)]
pub struct StreamEmitter {
    target: Arc<Target>,
    stream: Arc<str>,
}

impl StreamEmitter {
    pub(super) fn new(publisher: &Publisher, stream: &str) -> Self {
        let target = Target::new(publisher, "stream", stream, &[(Kind::Stream, stream, None)]);
        Self { target: Arc::new(target), stream: stream.into() }
    }

    /// The execution with this id. Emits nothing yet.
    pub fn execution(&self, execution_id: &str) -> ExecutionEmitter {
        ExecutionEmitter { stream: self.clone(), execution: execution_id.into() }
    }
}

/// Emits the events of one execution. Cheap to clone.
#[derive(Clone)]
pub struct ExecutionEmitter {
    stream: StreamEmitter,
    execution: Arc<str>,
}

impl ExecutionEmitter {
    /// The execution begins.
    pub fn started(&self, input_data: &(impl Serialize + ?Sized)) {
        self.emit(StreamKind::ExecutionStarted { execution_id: self.id(), input_data: value_of(input_data) });
    }

    /// The execution has completed.
    pub fn completed(&self, output: &(impl Serialize + ?Sized)) {
        self.emit(StreamKind::ExecutionCompleted { execution_id: self.id(), output: value_of(output) });
    }

    /// The execution has failed.
    pub fn failed(&self, error: &str) {
        self.emit(StreamKind::ExecutionFailed { execution_id: self.id(), error: error.to_owned() });
    }

    /// The execution waits at a node.
    pub fn paused(&self, node_id: &str, reason: &str) {
        self.emit(StreamKind::ExecutionPaused {
            execution_id: self.id(),
            node_id: node_id.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// The execution continues from the node where it waited, with the decision.
    pub fn resumed(&self, node_id: &str, decision: &(impl Serialize + ?Sized)) {
        self.emit(StreamKind::ExecutionResumed {
            execution_id: self.id(),
            node_id: node_id.to_owned(),
            decision: value_of(decision),
        });
    }

    /// A node has finished after `duration`.
    pub fn node_executed(&self, node_id: &str, duration: Duration, output: &(impl Serialize + ?Sized)) {
        let (node_id, duration_ms) = (node_id.to_owned(), millis(duration));
        self.emit(StreamKind::NodeExecuted { execution_id: self.id(), node_id, duration_ms, output: value_of(output) });
    }

    /// Progress towards the goal, clamped to 0 to 1. `criteria_status` is an object with the state of each criterion by
    /// name; anything else becomes the field `value` of one.
    pub fn goal_progress(&self, progress: f64, criteria_status: &(impl Serialize + ?Sized)) {
        let (progress, criteria_status) = (within(progress, 1.0), object(criteria_status));
        self.emit(StreamKind::GoalProgress { execution_id: self.id(), progress, criteria_status });
    }

    /// The goal is reached.
    pub fn goal_achieved(&self, final_status: &(impl Serialize + ?Sized)) {
        self.emit(StreamKind::GoalAchieved { execution_id: self.id(), final_status: value_of(final_status) });
    }

    /// A value of the execution's state has changed. `&()` stands for a missing value.
    pub fn state_changed(
        &self,
        key: &str,
        old_value: &(impl Serialize + ?Sized),
        new_value: &(impl Serialize + ?Sized),
    ) {
        let (old_value, new_value) = (value_of(old_value), value_of(new_value));
        self.emit(StreamKind::StateChanged { execution_id: self.id(), key: key.to_owned(), old_value, new_value });
    }

    /// The execution has violated a constraint.
    pub fn constraint_violation(&self, constraint: &str, message: &str) {
        let (constraint, message) = (constraint.to_owned(), message.to_owned());
        self.emit(StreamKind::ConstraintViolation { execution_id: self.id(), constraint, message });
    }

    fn id(&self) -> String {
        self.execution.as_ref().to_owned()
    }

    fn emit(&self, kind: StreamKind) {
        self.stream.target.emit(&StreamEvent {
            kind,
            stream_id: self.stream.stream.as_ref().to_owned(),
            execution_id: self.id(),
            timestamp: timestamp::now(),
            traceparent: trace::parent(),
        });
    }
}
