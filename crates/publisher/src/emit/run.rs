//! The lifecycle of a run on `run:<run>`.

use std::{sync::Arc, time::Duration};

use crewcast_events::{
    Kind,
    catalog::{
        Outcome,
        run::{RunEvent, RunKind, RunOutcome},
    },
    timestamp,
};
use crewcast_store::LeaseStep;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Target, lease::Held, object, seconds};
use crate::{publisher::Publisher, trace};

/// Emits the events of one run. Cheap to clone.
///
/// With [`crate::Builder::leases`] the run has a lease from `boot` to `done`. It is renewed as long as the emitter that
/// emitted `boot`, or a clone of it, exists.
#[derive(Clone)]
pub struct RunEmitter {
    target: Target,
    run: String,
    crew: Option<String>,
    lease: Arc<Mutex<Option<Held>>>,
}

impl RunEmitter {
    pub(super) fn new(publisher: &Publisher, run: &str) -> Self {
        let target = Target::new(publisher, "run", run, &[(Kind::Run, run, None)]);
        Self { target, run: run.to_owned(), crew: None, lease: Arc::default() }
    }

    /// Sets the crew of the run. The crew's readers may then read the run.
    #[must_use]
    pub fn with_crew(self, crew: &str) -> Self {
        let ids = [(Kind::Crew, crew, None), (Kind::Run, &*self.run, Some(crew))];
        let target = Target::new(&self.target.publisher, "run", &self.run, &ids);
        Self { target, crew: Some(crew.to_owned()), ..self }
    }

    /// The run begins. `inputs` is an object; anything else becomes the field `value` of one.
    pub fn boot(&self, inputs: &(impl Serialize + ?Sized)) {
        let about = json!({"run_id": self.run, "crew_id": self.crew});
        if let Some(channel) = &self.target.channel {
            *self.lease.lock() = Held::when_on(&self.target.publisher, channel, &format!("run:{}", self.run), &about);
        }
        self.emit(RunKind::Boot { inputs: object(inputs) });
    }

    /// An agent starts to work.
    pub fn agent_start(&self, agent_id: &str, agent: &str) {
        self.emit(RunKind::AgentStart { agent_id: agent_id.to_owned(), agent: agent.to_owned() });
    }

    /// An agent has worked for `duration`.
    pub fn agent_end(&self, agent_id: &str, agent: &str, status: Outcome, duration: Duration, output: Option<Value>) {
        let (agent_id, agent) = (agent_id.to_owned(), agent.to_owned());
        self.emit(RunKind::AgentEnd { agent_id, agent, status, duration_s: seconds(duration), output });
    }

    /// An agent starts a task.
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
        self.emit(RunKind::TaskEnd { task_id, task, agent_id, status, duration_s: seconds(duration), output });
    }

    /// Something failed. `fatal` announces that the run will end; only `done` ends it.
    pub fn error(&self, message: &str, code: Option<&str>, agent_id: Option<&str>, fatal: bool) {
        let (code, agent_id) = (code.map(str::to_owned), agent_id.map(str::to_owned));
        self.emit(RunKind::Error { message: message.to_owned(), code, agent_id, fatal });
    }

    /// The run has ended after `duration`. Its sockets are closed after this event.
    pub fn done(&self, status: RunOutcome, duration: Duration, output: Option<Value>) {
        self.lease.lock().take();
        // Another emitter may have emitted `boot`. A finished run has no lease, whichever emitter held it.
        let name = format!("run:{}", self.run).into();
        let release = self.target.publisher.inner().leases.of_all.then_some(LeaseStep::Release { name });
        self.emit_with(RunKind::Done { status, duration_s: seconds(duration), output }, release);
    }

    fn emit(&self, kind: RunKind) {
        let lease = self.lease.lock().as_ref().and_then(Held::step);
        self.emit_with(kind, lease);
    }

    fn emit_with(&self, kind: RunKind, lease: Option<LeaseStep>) {
        let event = RunEvent {
            kind,
            timestamp: timestamp::now(),
            run_id: self.run.clone(),
            crew_id: self.crew.clone(),
            traceparent: trace::parent(),
        };
        self.target.emit_with(&event, None, lease);
    }
}
