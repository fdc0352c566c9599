//! Telemetry for operators: metrics, log lines, traces.

pub mod log;
pub mod metrics;
mod recorder;
pub mod trace;

use std::path::PathBuf;

use tracing_subscriber::{Registry, layer::SubscriberExt, util::SubscriberInitExt};

pub use recorder::{Recorder, RecorderError, install};

use crate::config::Config;

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The file in `log.file` cannot be opened.
    #[error("cannot append to {}, which log.file names: {error}", path.display())]
    LogFile {
        /// The file.
        path: PathBuf,
        /// Why it cannot be opened.
        #[source]
        error: std::io::Error,
    },
    /// `log.level` is not a valid filter.
    #[error("log.level is not understood: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Spans cannot be sent to `otel.endpoint`.
    #[error("otel.endpoint cannot be used: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// [`init`] was called before.
    #[error("log lines are written already: {0}")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps telemetry running. [`TelemetryGuard::shutdown`] sends what is left.
#[derive(Debug)]
#[must_use = "telemetry ends with its guard"]
pub struct TelemetryGuard {
    traces: Option<trace::Traces>,
}

impl TelemetryGuard {
    /// Sends the pending spans, for at most five seconds. Call it last, while the runtime is still running.
    pub async fn shutdown(self) {
        if let Some(traces) = self.traces {
            traces.shutdown().await;
        }
    }
}

/// Starts log lines and, with `otel.endpoint`, traces. Call it once per process, inside a runtime. [`install`] starts
/// metrics.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(config: &Config) -> Result<TelemetryGuard, TelemetryError> {
    let lines = log::layer::<Registry>(&config.log)?;
    let traces = trace::start(&config.otel)?;
    let spans = traces.as_ref().map(trace::Traces::layer);
    tracing_subscriber::registry().with(lines).with(spans).try_init()?;
    Ok(TelemetryGuard { traces })
}
