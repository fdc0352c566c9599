//! Emitters: the catalog of the crew dialect as methods. None of them waits or fails.

mod lease;
mod mission;
mod run;
mod session;
mod tools;

use std::sync::Arc;

use crewcast_events::{Body, Channel, Kind, catalog::Object};
use serde::Serialize;
use serde_json::Value;

use crate::{
    append::{Claim, Entry, State},
    lane::Claims,
    lease::LeaseStep,
    publisher::Publisher,
    tally::Reason,
};

pub use mission::MissionEmitter;
pub use run::RunEmitter;
pub use session::{Session, SessionEmitter};
pub use tools::{ToolCall, ToolEmitter};

impl Publisher {
    /// Emits the tool calls of one agent of a crew on `graph:<crew>`.
    pub fn tools(&self, crew: &str, run: &str, agent: &str) -> ToolEmitter {
        ToolEmitter::new(self, crew, run, agent)
    }

    /// Emits the life of a run on `run:<run>`.
    pub fn run(&self, run: &str) -> RunEmitter {
        RunEmitter::new(self, run)
    }

    /// Emits what a crew is doing on `mission:<crew>`.
    pub fn mission(&self, crew: &str) -> MissionEmitter {
        MissionEmitter::new(self, crew)
    }

    /// Emits state and logs of a session on `session:<session>`, and, where the publisher has an org, that it is active
    /// on `tracking:<org>`.
    pub fn session(&self, session: &str) -> SessionEmitter {
        SessionEmitter::new(self, session)
    }
}

/// One channel that an emitter writes to.
#[derive(Clone)]
struct Target {
    publisher: Publisher,
    channel: Option<Channel>,
    claims: Claims,
}

impl Target {
    /// The channel `<namespace>:<id>`. The ids are claimed when the publisher has an org.
    fn new(publisher: &Publisher, namespace: &str, id: &str, ids: &[(Kind, &str, Option<&str>)]) -> Self {
        let claims = publisher.inner().org.as_ref().map(|org| {
            let claim = |&(kind, id, crew): &(Kind, &str, Option<&str>)| Claim {
                kind,
                id: id.to_owned(),
                org: org.clone(),
                crew: crew.map(str::to_owned),
            };
            ids.iter().map(claim).collect::<Arc<[Claim]>>()
        });
        Self { publisher: publisher.clone(), channel: Channel::new(namespace, id).ok(), claims }
    }

    fn emit(&self, event: &impl Serialize) {
        self.emit_with(event, None, None);
    }

    /// Emits an event and, in the same atomic step, what becomes of a state document and of a lease.
    fn emit_with(&self, event: &impl Serialize, state: Option<State>, lease: Option<LeaseStep>) {
        let body = serde_json::to_vec(event).ok().and_then(|bytes| Body::parse(bytes).ok());
        match (&self.channel, body) {
            (Some(channel), Some(body)) => {
                // Too large is counted, as everything is that an emitter cannot send.
                let entry = Entry { state, lease, ..Entry::new(body) };
                let _ = self.publisher.push_logged(channel, entry, self.claims.clone());
            }
            _ => {
                let why = "the id is not 1 to 128 characters of [A-Za-z0-9._-], or the event is no JSON";
                self.publisher.inner().tally.dropped(Reason::Invalid, 1, why);
            }
        }
    }
}

/// What the caller passes as parameters, as an object: anything else becomes its `value`.
fn object(value: &(impl Serialize + ?Sized)) -> Object {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        Ok(Value::Null) | Err(_) => Object::new(),
        Ok(other) => Object::from_iter([("value".to_owned(), other)]),
    }
}
