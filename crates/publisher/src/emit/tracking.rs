//! The status and the collaboration of agents, on `tracking:<org>`.

use crewcast_events::{
    catalog::tracking::{AgentCollaboration, AgentStatus, TrackingEvent, TrackingKind},
    timestamp,
};

use super::{Target, within};
use crate::{publisher::Publisher, trace};

/// Emits the status and the collaboration of an org's agents. Cheap to clone.
#[derive(Clone)]
pub struct TrackingEmitter {
    target: Target,
}

impl TrackingEmitter {
    pub(super) fn new(publisher: &Publisher, org: &str) -> Self {
        Self { target: Target::of_org(publisher, "tracking", org) }
    }

    /// An agent's status. Its progress is clamped to 0 to 100.
    pub fn agent_status(&self, mut status: AgentStatus) {
        status.progress = within(status.progress, 100.0);
        self.emit(TrackingKind::AgentStatus(status));
    }

    /// An agent works with another.
    pub fn agent_collaboration(&self, collaboration: AgentCollaboration) {
        self.emit(TrackingKind::AgentCollaboration(collaboration));
    }

    fn emit(&self, kind: TrackingKind) {
        self.target.emit(&TrackingEvent { kind, timestamp: timestamp::now(), traceparent: trace::parent() });
    }
}
