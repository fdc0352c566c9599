//! Agents of an org on `agents:<org>`.

use crewcast_events::catalog::forge::agents::{Agent, AgentKind};

use super::{Target, frame, stamped};
use crate::publisher::Publisher;

/// Emits an org's agents. Each has a state document under its id until [`AgentEmitter::deleted`]. Any program may emit
/// for any agent. Cheap to clone.
#[derive(Clone)]
pub struct AgentEmitter {
    target: Target,
}

impl AgentEmitter {
    pub(in crate::emit) fn new(publisher: &Publisher, org: &str) -> Self {
        Self { target: Target::of_org(publisher, "agents", org) }
    }

    /// An agent was created.
    pub fn created(&self, agent: &Agent) {
        let event = frame(AgentKind::AgentCreated(agent.clone()));
        self.target.emit_setting(&event, &agent.agent_id, &stamped(&event, agent));
    }

    /// The agent's status has changed from `old_status`, if known, to that of `agent`. Its document becomes `agent`.
    pub fn status_changed(&self, agent: &Agent, old_status: Option<&str>) {
        let event = frame(AgentKind::StatusChanged {
            agent_id: agent.agent_id.clone(),
            old_status: old_status.map(str::to_owned),
            new_status: agent.status.clone(),
        });
        self.target.emit_setting(&event, &agent.agent_id, &stamped(&event, agent));
    }

    /// The agent was deleted, and its document with it.
    pub fn deleted(&self, agent_id: &str, reason: Option<&str>) {
        let reason = reason.map(str::to_owned);
        let event = frame(AgentKind::AgentDeleted { agent_id: agent_id.to_owned(), reason });
        self.target.emit_removing(&event, agent_id);
    }
}
