//! Metrics of an org on `metrics:<org>`.

use std::time::Duration;

use crewcast_events::{
    catalog::forge::metrics::{MetricSet, MetricsEvent},
    timestamp,
};
use serde::Serialize;

use super::{Target, object};
use crate::{emit::Periodic, publisher::Publisher, trace};

/// Emits the metrics of an org. The values are an object; anything else becomes the field `value` of one. Each call
/// emits a whole set and replaces its state document. Values without a `timestamp` get one. Cheap to clone.
#[derive(Clone)]
pub struct MetricsEmitter {
    target: Target,
}

impl MetricsEmitter {
    pub(in crate::emit) fn new(publisher: &Publisher, org: &str) -> Self {
        Self { target: Target::of_org(publisher, "metrics", org) }
    }

    /// Metrics of the machines.
    pub fn system(&self, figures: &(impl Serialize + ?Sized)) {
        self.emit(MetricSet::System, figures);
    }

    /// Metrics of the tasks.
    pub fn tasks(&self, figures: &(impl Serialize + ?Sized)) {
        self.emit(MetricSet::Tasks, figures);
    }

    /// Metrics of the agents.
    pub fn agents(&self, figures: &(impl Serialize + ?Sized)) {
        self.emit(MetricSet::Agents, figures);
    }

    /// Metrics of the application itself.
    pub fn custom(&self, figures: &(impl Serialize + ?Sized)) {
        self.emit(MetricSet::Custom, figures);
    }

    /// Emits metrics of the machines now and then every `period`, until the handle is dropped or the publisher closes.
    pub fn every<T: Serialize>(&self, period: Duration, figures: impl FnMut() -> T + Send + 'static) -> Periodic {
        self.set_every(MetricSet::System, period, figures)
    }

    /// As [`MetricsEmitter::every`], for any set.
    pub fn set_every<T: Serialize>(
        &self,
        set: MetricSet,
        period: Duration,
        mut figures: impl FnMut() -> T + Send + 'static,
    ) -> Periodic {
        let metrics = self.clone();
        Periodic::start(&self.target.publisher, period, move || metrics.emit(set, &figures()))
    }

    fn emit(&self, set: MetricSet, figures: &(impl Serialize + ?Sized)) {
        let (mut figures, timestamp) = (object(figures), timestamp::now());
        figures.entry("timestamp").or_insert_with(|| timestamp.clone().into());
        let event = MetricsEvent { kind: set.kind(figures.clone()), timestamp, traceparent: trace::parent() };
        self.target.emit_setting(&event, set.key(), &figures);
    }
}
