//! The status of a crew, on `mission:<crew>`.

use crewcast_events::{
    Kind,
    catalog::mission::{CrewStatus, Signal, SignalPayload},
    timestamp,
};

use super::Target;
use crate::{publisher::Publisher, trace};

/// Emits the status of one crew. The last one is retained for later readers.
#[derive(Clone)]
pub struct MissionEmitter {
    target: Target,
    crew: String,
}

impl MissionEmitter {
    pub(super) fn new(publisher: &Publisher, crew: &str) -> Self {
        let target = Target::new(publisher, "mission", crew, &[(Kind::Crew, crew, None)]);
        Self { target, crew: crew.to_owned() }
    }

    /// The crew is offline.
    pub fn offline(&self) {
        self.signal(CrewStatus::Offline);
    }

    /// The crew waits for work.
    pub fn available(&self) {
        self.signal(CrewStatus::Available);
    }

    /// The crew works.
    pub fn busy(&self) {
        self.signal(CrewStatus::Busy);
    }

    fn signal(&self, status: CrewStatus) {
        self.target.emit(&Signal {
            timestamp: Some(timestamp::now()),
            payload: SignalPayload { status, crew_id: self.crew.clone() },
            traceparent: trace::parent(),
        });
    }
}
