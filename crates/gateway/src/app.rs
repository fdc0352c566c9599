//! What every request and socket of one replica shares.

use std::sync::Arc;

use crate::{
    auth::Auth,
    broker::{Broker, Registry},
    config::Config,
    drain::Drain,
    ready::Readiness,
    telemetry::Recorder,
};

/// One replica.
pub struct App {
    /// Resolved and validated.
    pub config: Arc<Config>,
    /// Where events come from and go to.
    pub broker: Arc<dyn Broker>,
    /// The directory, revocations, tickets.
    pub registry: Arc<dyn Registry>,
    /// Who may connect and what he may read.
    pub auth: Arc<Auth>,
    /// Whether this replica is going away.
    pub drain: Drain,
    /// Whether this replica delivers.
    pub readiness: Arc<Readiness>,
    /// What `/metrics` renders; `None` where the process has no recorder.
    pub recorder: Option<Recorder>,
}
