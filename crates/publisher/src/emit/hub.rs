//! Every kind of event of an org on `hub:<org>`.

use crewcast_events::{
    catalog::{
        Stamped,
        hub::{HubEvent, HubKind, agent, error, learning, module, system, task},
    },
    timestamp,
};

use super::{Target, within};
use crate::{publisher::Publisher, trace};

/// Emits the events of an org's hub, a method for each type. Cheap enough to clone.
#[derive(Clone)]
pub struct HubEmitter {
    target: Target,
}

impl HubEmitter {
    pub(super) fn new(publisher: &Publisher, org: &str) -> Self {
        Self { target: Target::of_org(publisher, "hub", org) }
    }

    /// There is a new agent.
    pub fn agent_created(&self, data: agent::AgentCreated) {
        self.emit(HubKind::AgentCreated, data);
    }

    /// An agent's status is another one.
    pub fn agent_status_changed(&self, data: agent::AgentStatusChanged) {
        self.emit(HubKind::AgentStatusChanged, data);
    }

    /// How an agent performs.
    pub fn agent_performance_updated(&self, data: agent::AgentPerformanceUpdated) {
        self.emit(HubKind::AgentPerformanceUpdated, data);
    }

    /// An agent is gone.
    pub fn agent_removed(&self, data: agent::AgentRemoved) {
        self.emit(HubKind::AgentRemoved, data);
    }

    /// There is a new task.
    pub fn task_created(&self, data: task::TaskCreated) {
        self.emit(HubKind::TaskCreated, data);
    }

    /// A task has found an agent.
    pub fn task_assigned(&self, data: task::TaskAssigned) {
        self.emit(HubKind::TaskAssigned, data);
    }

    /// An agent begins a task.
    pub fn task_started(&self, data: task::TaskStarted) {
        self.emit(HubKind::TaskStarted, data);
    }

    /// How far a task is. A progress that lies outside 0 to 1 is brought inside.
    pub fn task_progress(&self, mut data: task::TaskProgress) {
        data.progress = within(data.progress, 1.0);
        self.emit(HubKind::TaskProgress, data);
    }

    /// A task has ended well.
    pub fn task_completed(&self, data: task::TaskCompleted) {
        self.emit(HubKind::TaskCompleted, data);
    }

    /// A task, or one attempt at it, has ended with an error.
    pub fn task_failed(&self, data: task::TaskFailed) {
        self.emit(HubKind::TaskFailed, data);
    }

    /// A task was given up.
    pub fn task_cancelled(&self, data: task::TaskCancelled) {
        self.emit(HubKind::TaskCancelled, data);
    }

    /// How the hub as a whole is.
    pub fn hive_status_update(&self, data: system::HiveStatus) {
        self.emit(HubKind::HiveStatusUpdate, data);
    }

    /// Something alarming has happened.
    pub fn system_alert(&self, data: system::SystemAlert) {
        self.emit(HubKind::SystemAlert, data);
    }

    /// A resource runs short.
    pub fn resource_alert(&self, data: system::ResourceAlert) {
        self.emit(HubKind::ResourceAlert, data);
    }

    /// A module's status is another one.
    pub fn module_status_changed(&self, data: module::ModuleStatusChanged) {
        self.emit(HubKind::ModuleStatusChanged, data);
    }

    /// A module has told another something.
    pub fn inter_module_message(&self, data: module::InterModuleMessage) {
        self.emit(HubKind::InterModuleMessage, data);
    }

    /// A module has coordinated the others.
    pub fn coordination_event(&self, data: module::CoordinationEvent) {
        self.emit(HubKind::CoordinationEvent, data);
    }

    /// An agent begins to learn.
    pub fn learning_cycle_started(&self, data: learning::LearningCycleStarted) {
        self.emit(HubKind::LearningCycleStarted, data);
    }

    /// What an agent has learnt.
    pub fn learning_cycle_completed(&self, data: learning::LearningCycleCompleted) {
        self.emit(HubKind::LearningCycleCompleted, data);
    }

    /// A component has met an error.
    pub fn error_occurred(&self, data: error::ErrorOccurred) {
        self.emit(HubKind::ErrorOccurred, data);
    }

    fn emit<T>(&self, kind: fn(Stamped<T>) -> HubKind, data: T) {
        let timestamp = timestamp::now();
        let kind = kind(Stamped { data, timestamp: timestamp.clone() });
        self.target.emit(&HubEvent { kind, timestamp, traceparent: trace::parent() });
    }
}
