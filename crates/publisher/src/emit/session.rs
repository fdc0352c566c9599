//! A session: its state and logs on `session:<id>`, and its entry in the list of active sessions on `tracking:<org>`.

use std::sync::Arc;

use crewcast_events::{
    Kind,
    catalog::session::{LogLevel, STATE_KEY, SessionChanged, SessionEvent, SessionKind, SessionState, SessionSummary},
    timestamp,
};
use crewcast_store::State;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json, value::to_raw_value};

use super::{Target, lease::Held};
use crate::{publisher::Publisher, trace};

/// Opens one session.
#[derive(Clone)]
pub struct SessionEmitter {
    session: Target,
    /// The org's list; `None` without an org.
    list: Option<Target>,
    id: String,
}

impl SessionEmitter {
    pub(super) fn new(publisher: &Publisher, id: &str) -> Self {
        let ids = [(Kind::Session, id, None)];
        let org = publisher.inner().org.as_deref();
        let list = org.map(|org| Target::new(publisher, "tracking", org, &ids));
        Self { session: Target::new(publisher, "session", id, &ids), list, id: id.to_owned() }
    }

    /// The session begins. It is in its org's list, with the status `running`, until it ends or its lease expires. It
    /// ends with [`Session::end`], or when it is dropped.
    #[must_use = "dropping the session ends it"]
    pub fn open(&self, query: &str) -> Session {
        let state = SessionState { session_id: self.id.clone(), query: query.to_owned(), ..SessionState::default() };
        let about = json!({"session_id": self.id});
        let held = |target: &Target, name: &str| {
            let channel = target.channel.as_ref()?;
            Some(Held::always(&target.publisher, channel, name, &about))
        };
        let session = Session {
            leases: Mutex::new(SessionLeases {
                session: held(&self.session, &format!("session:{}", self.id)),
                // Named like the document, so that readers of the list can tell which sessions are alive.
                list: self.list.as_ref().and_then(|list| held(list, &self.id)),
            }),
            emitter: self.clone(),
            now: Mutex::new(Now { state, status: "running".to_owned(), agents_listed: 0 }),
            began_in_panic: std::thread::panicking(),
            ended: false,
        };
        session.begin();
        session
    }
}

/// A running session. When it is dropped without [`Session::end`], it ends with the status `completed`, or `error` if
/// the thread is panicking.
pub struct Session {
    emitter: SessionEmitter,
    leases: Mutex<SessionLeases>,
    /// Held while an event is queued, so that events have the order of the changes.
    now: Mutex<Now>,
    began_in_panic: bool,
    ended: bool,
}

struct SessionLeases {
    session: Option<Held>,
    list: Option<Held>,
}

struct Now {
    state: SessionState,
    status: String,
    /// The number of active agents in the list.
    agents_listed: usize,
}

impl Session {
    /// Appends a line to the session's log.
    pub fn log(&self, level: LogLevel, agent: &str, message: &str, details: Option<Value>) {
        let (agent, message) = (agent.to_owned(), message.to_owned());
        self.emit(SessionKind::SessionLog { level, agent, message, details }, None);
    }

    /// Changes the state. Updates the list of active sessions when the number of active agents has changed.
    pub fn update(&self, change: impl FnOnce(&mut SessionState)) {
        let mut now = self.now.lock();
        change(&mut now.state);
        now.state.session_id.clone_from(&self.emitter.id);
        self.emit(SessionKind::SessionState { state: now.state.clone() }, document(STATE_KEY, &now.state));
        if now.agents_listed != now.state.active_agents.len() {
            self.list(&mut now, true);
        }
    }

    /// Changes the status that the list of active sessions shows.
    pub fn status(&self, status: &str) {
        let mut now = self.now.lock();
        status.clone_into(&mut now.status);
        self.list(&mut now, true);
    }

    /// The current state.
    pub fn state(&self) -> SessionState {
        self.now.lock().state.clone()
    }

    /// The session ends. Its state and logs are kept as long as the channel's log.
    pub fn end(mut self, status: &str) {
        self.finish(status);
    }

    fn begin(&self) {
        let mut now = self.now.lock();
        let started = SessionKind::SessionStarted { query: now.state.query.clone() };
        self.emit(started, document(STATE_KEY, &now.state));
        self.list(&mut now, true);
    }

    fn finish(&mut self, status: &str) {
        self.ended = true;
        let mut now = self.now.lock();
        status.clone_into(&mut now.status);
        let ended = self.event(SessionKind::SessionEnded { status: status.to_owned() });
        let release = self.leases.lock().session.take().map(Held::release);
        self.emitter.session.emit_with(&ended, None, release);
        self.list(&mut now, false);
    }

    fn emit(&self, kind: SessionKind, state: Option<State>) {
        let lease = self.leases.lock().session.as_ref().and_then(Held::step);
        self.emitter.session.emit_with(&self.event(kind), state, lease);
    }

    fn event(&self, kind: SessionKind) -> SessionEvent {
        let (session_id, timestamp) = (self.emitter.id.clone(), timestamp::now());
        SessionEvent { kind, session_id, timestamp, traceparent: trace::parent() }
    }

    /// Publishes the session to the org's list, and keeps it there as long as it is active.
    fn list(&self, now: &mut Now, active: bool) {
        let Some(list) = &self.emitter.list else { return };
        now.agents_listed = now.state.active_agents.len();
        let summary = SessionSummary {
            session_id: self.emitter.id.clone(),
            query: now.state.query.clone(),
            status: now.status.clone(),
            agents_active: now.agents_listed,
        };
        let (state, lease) = if active {
            (document(&self.emitter.id, &summary), self.leases.lock().list.as_ref().and_then(Held::step))
        } else {
            let gone = State { key: self.emitter.id.clone(), value: None };
            (Some(gone), self.leases.lock().list.take().map(Held::release))
        };
        let changed =
            SessionChanged { session: summary, active, timestamp: timestamp::now(), traceparent: trace::parent() };
        list.emit_with(&changed, state, lease);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.ended {
            let panics = std::thread::panicking() && !self.began_in_panic;
            self.finish(if panics { "error" } else { "completed" });
        }
    }
}

/// A state document. `None` when it cannot be serialised: the former one stays.
fn document(key: &str, value: &impl Serialize) -> Option<State> {
    let value = to_raw_value(value).ok()?;
    Some(State { key: key.to_owned(), value: Some(Arc::from(value)) })
}
