//! The life of a run on `run:<run>`.

use std::time::Duration;

use crewcast_events::{
    Kind,
    catalog::{
        Outcome,
        run::{RunEvent, RunKind, RunOutcome},
    },
    timestamp,
};
use serde::Serialize;
use serde_json::Value;

use super::{Target, object};
use crate::{publisher::Publisher, trace};

/// Emits the events of one run. Cheap enough to clone.
#[derive(Clone)]
pub struct RunEmitter {
    target: Target,
    run: String,
    crew: Option<String>,
}

impl RunEmitter {
    pub(super) fn new(publisher: &Publisher, run: &str) -> Self {
        let target = Target::new(publisher, "run", run, &[(Kind::Run, run, None)]);
        Self { target, run: run.to_owned(), crew: None }
    }

    /// Says which crew runs: its readers may then read the run.
    #[must_use]
    pub fn with_crew(self, crew: &str) -> Self {
        let ids = [(Kind::Crew, crew, None), (Kind::Run, &*self.run, Some(crew))];
        let target = Target::new(&self.target.publisher, "run", &self.run, &ids);
        Self { target, crew: Some(crew.to_owned()), ..self }
    }

    /// The run begins. `inputs` is an object; anything else stands in one as its `value`.
    pub fn boot(&self, inputs: &(impl Serialize + ?Sized)) {
        self.emit(RunKind::Boot { inputs: object(inputs) });
    }

    /// An agent begins to work.
    pub fn agent_start(&self, agent_id: &str, agent: &str) {
        self.emit(RunKind::AgentStart { agent_id: agent_id.to_owned(), agent: agent.to_owned() });
    }

    /// An agent has worked for `duration`.
    pub fn agent_end(&self, agent_id: &str, agent: &str, status: Outcome, duration: Duration, output: Option<Value>) {
        let (agent_id, agent) = (agent_id.to_owned(), agent.to_owned());
        self.emit(RunKind::AgentEnd { agent_id, agent, status, duration_s: duration.as_secs_f64(), output });
    }

    /// An agent begins a task.
    pub fn task_start(&self, task_id: &str, task: &str, agent_id: &str) {
        let (task_id, task, agent_id) = (task_id.to_owned(), task.to_owned(), agent_id.to_owned());
        self.emit(RunKind::TaskStart { task_id, task, agent_id });
    }

    /// A task took `duration`.
    pub fn task_end(
        &self,
        task_id: &str,
        task: &str,
        agent_id: &str,
        status: Outcome,
        duration: Duration,
        output: Option<Value>,
    ) {
        let (task_id, task, agent_id) = (task_id.to_owned(), task.to_owned(), agent_id.to_owned());
        self.emit(RunKind::TaskEnd { task_id, task, agent_id, status, duration_s: duration.as_secs_f64(), output });
    }

    /// Something failed. `fatal` says that the run will end for it; only `done` ends it.
    pub fn error(&self, message: &str, code: Option<&str>, agent_id: Option<&str>, fatal: bool) {
        let (code, agent_id) = (code.map(str::to_owned), agent_id.map(str::to_owned));
        self.emit(RunKind::Error { message: message.to_owned(), code, agent_id, fatal });
    }

    /// The run has ended after `duration`. Its sockets are closed behind this event.
    pub fn done(&self, status: RunOutcome, duration: Duration, output: Option<Value>) {
        self.emit(RunKind::Done { status, duration_s: duration.as_secs_f64(), output });
    }

    fn emit(&self, kind: RunKind) {
        self.target.emit(&RunEvent {
            kind,
            timestamp: timestamp::now(),
            run_id: self.run.clone(),
            crew_id: self.crew.clone(),
            traceparent: trace::parent(),
        });
    }
}
