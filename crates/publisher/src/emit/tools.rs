//! Tool calls on `graph:<crew>`.

use std::{sync::Arc, time::Instant};

use crewcast_events::{
    Kind,
    catalog::{
        Outcome,
        tool::{ToolEvent, ToolKind},
    },
    timestamp,
};
use crewcast_store::LeaseStep;
use serde::Serialize;
use serde_json::json;

use super::{Target, lease::Held, object, seconds};
use crate::{publisher::Publisher, trace};

/// Emits the tool calls of one agent. Cheap to clone.
#[derive(Clone)]
pub struct ToolEmitter {
    shared: Arc<CallState>,
}

struct CallState {
    target: Target,
    crew: String,
    run: String,
    agent: String,
}

impl ToolEmitter {
    pub(super) fn new(publisher: &Publisher, crew: &str, run: &str, agent: &str) -> Self {
        let ids = [(Kind::Crew, crew, None), (Kind::Run, run, Some(crew))];
        let target = Target::new(publisher, "graph", crew, &ids);
        let (crew, run, agent) = (crew.to_owned(), run.to_owned(), agent.to_owned());
        Self { shared: Arc::new(CallState { target, crew, run, agent }) }
    }

    /// Emits `tool_start`. `params` is an object; anything else becomes the field `value` of one. The call ends with
    /// [`ToolCall::end`], or when it is dropped.
    #[must_use = "dropping the call ends it"]
    pub fn start(&self, tool: impl Into<String>, params: &(impl Serialize + ?Sized)) -> ToolCall {
        let (tool, call_id) = (tool.into(), format!("{:016x}", fastrand::u64(..)));
        let call = ToolCall {
            shared: self.shared.clone(),
            lease: self.lease(&tool, &call_id),
            tool,
            call_id,
            since: Instant::now(),
            traceparent: trace::parent(),
            began_in_panic: std::thread::panicking(),
            ended: false,
        };
        call.emit(ToolKind::ToolStart { params: object(params) });
        call
    }

    fn lease(&self, tool: &str, call_id: &str) -> Option<Held> {
        let CallState { target, crew, run, agent } = &*self.shared;
        let about = json!({"crew_id": crew, "run_id": run, "agent_id": agent, "tool": tool, "call_id": call_id});
        Held::when_on(&target.publisher, target.channel.as_ref()?, &format!("tool:{call_id}"), &about)
    }
}

/// A running tool call. When it is dropped without [`ToolCall::end`], it emits `tool_end`: with `success` and exit code
/// 0, or with `error` and exit code 1 if the thread is panicking.
pub struct ToolCall {
    shared: Arc<CallState>,
    tool: String,
    call_id: String,
    lease: Option<Held>,
    since: Instant,
    traceparent: Option<String>,
    began_in_panic: bool,
    ended: bool,
}

impl ToolCall {
    /// The id that all events of this call carry as `call_id`. No other call has it.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Emits `tool_progress`. `progress` is clamped to 0 to 1.
    pub fn progress(&self, message: impl Into<String>, progress: Option<f64>) {
        let progress = progress.filter(|value| !value.is_nan()).map(|value| value.clamp(0.0, 1.0));
        self.emit(ToolKind::ToolProgress { message: message.into(), progress });
    }

    /// Emits `tool_end`.
    pub fn end(mut self, exit_code: i32, outcome: Outcome) {
        self.finish(exit_code, outcome);
    }

    fn finish(&mut self, exit_code: i32, status: Outcome) {
        self.ended = true;
        let release = self.lease.take().map(Held::release);
        let duration_s = seconds(self.since.elapsed());
        self.emit_with(ToolKind::ToolEnd { duration_s, exit_code, status }, release);
    }

    fn emit(&self, kind: ToolKind) {
        self.emit_with(kind, self.lease.as_ref().and_then(Held::step));
    }

    fn emit_with(&self, kind: ToolKind, lease: Option<LeaseStep>) {
        let CallState { target, crew, run, agent } = &*self.shared;
        let event = ToolEvent {
            kind,
            timestamp: timestamp::now(),
            crew_id: crew.clone(),
            run_id: run.clone(),
            agent_id: agent.clone(),
            tool: self.tool.clone(),
            call_id: Some(self.call_id.clone()),
            // All events of a call belong to the span in which it began.
            traceparent: self.traceparent.clone(),
        };
        target.emit_with(&event, None, lease);
    }
}

impl Drop for ToolCall {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if std::thread::panicking() && !self.began_in_panic {
            self.finish(1, Outcome::Error);
        } else {
            self.finish(0, Outcome::Success);
        }
    }
}
