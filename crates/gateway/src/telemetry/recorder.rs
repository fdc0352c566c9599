//! The metrics recorder, rendered for Prometheus.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::metrics::{Description, Kind, Metric, PUBLISHER, counter, gauge, histogram};

/// How often observations of histograms are folded into their buckets without a scrape. Until then each observation
/// takes memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why metrics are not recorded.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be recorded: {0}")]
pub struct RecorderError(#[from] BuildError);

/// The installed recorder. All clones share it.
#[derive(Clone)]
pub struct Recorder(PrometheusHandle);

impl Recorder {
    /// Everything recorded so far, in the Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps memory bounded while the process is not scraped. Runs until it is dropped: spawn it as a task of its own.
    pub async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            self.0.run_upkeep();
        }
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

/// Installs the process's recorder. Call it once, before any handle is created: earlier handles have no effect.
///
/// # Errors
/// If a recorder is already installed.
pub fn install() -> Result<Recorder, RecorderError> {
    let recorder = build()?;
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(BuildError::from)?;
    describe_and_begin();
    Ok(Recorder(handle))
}

fn build() -> Result<PrometheusRecorder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in Metric::ALL {
        if let Kind::Histogram(buckets) = metric.kind() {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name().to_owned()), buckets)?;
        }
    }
    Ok(builder.build_recorder())
}

/// Describes all metrics and sets those without labels to zero, so that an alert on an unused metric sees a zero
/// instead of no data.
fn describe_and_begin() {
    for metric in Metric::ALL.iter().map(|metric| metric.description()).chain(PUBLISHER.iter().copied()) {
        describe(metric);
    }
    for metric in Metric::ALL.iter().copied().filter(|metric| metric.labels().is_empty()) {
        match metric.kind() {
            Kind::Counter => counter(metric, &[]).absolute(0),
            Kind::Gauge => gauge(metric, &[]).set(0.0),
            Kind::Histogram(_) => drop(histogram(metric, &[])),
        }
    }
    gauge(Metric::BuildInfo, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
}

fn describe(metric: Description) {
    match metric.kind {
        Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
        Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
        Kind::Histogram(_) => metrics::describe_histogram!(metric.name, metric.help),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(work: impl FnOnce()) -> String {
        let recorder = build().expect("buckets are sorted");
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe_and_begin();
            work();
        });
        handle.render()
    }

    #[test]
    fn metrics_without_labels_start_at_zero_and_the_build_is_exported() {
        let text = recorded(|| {});
        for metric in Metric::ALL.iter().filter(|metric| metric.labels().is_empty()) {
            if !matches!(metric.kind(), Kind::Histogram(_)) {
                assert!(text.contains(&format!("\n{} 0\n", metric.name())), "{} in {text}", metric.name());
            }
            assert!(text.contains(&format!("# TYPE {} {}\n", metric.name(), metric.kind().name())), "{text}");
        }
        assert!(
            text.contains(&format!("crewcast_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))),
            "{text}"
        );
    }

    #[test]
    fn histograms_have_buckets_from_a_tenth_of_a_millisecond_to_ten_seconds() {
        let text = recorded(|| {
            histogram(Metric::DeliveryLatency, &[("namespace", "graph")]).record(0.0002);
            counter(Metric::EventsRejected, &[("reason", "no_type")]).increment(3);
        });
        let bucket = |le: &str| format!("crewcast_delivery_latency_seconds_bucket{{namespace=\"graph\",le=\"{le}\"}}");
        assert!(text.contains(&format!("{} 0\n", bucket("0.0001"))), "{text}");
        assert!(text.contains(&format!("{} 1\n", bucket("0.00025"))), "{text}");
        assert!(text.contains(&format!("{} 1\n", bucket("10"))), "{text}");
        assert!(text.contains("crewcast_events_rejected_total{reason=\"no_type\"} 3\n"), "{text}");
        assert!(text.contains("# HELP crewcast_events_rejected_total Messages from the broker"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn upkeep_folds_observations_without_a_scrape() {
        let recorder = build().expect("buckets are sorted");
        let handle = recorder.handle();
        let upkeep = tokio::spawn(Recorder(handle.clone()).upkeep());
        metrics::with_local_recorder(&recorder, || histogram(Metric::CursorLag, &[]).record(3.0));
        tokio::time::sleep(UPKEEP * 2).await;
        upkeep.abort();
        assert!(handle.render().contains("crewcast_cursor_lag_events_count 1\n"));
    }
}
