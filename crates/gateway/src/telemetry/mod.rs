//! What the gateway tells its operator: metrics, log lines, traces.

pub mod metrics;
mod recorder;

pub use recorder::{Recorder, install};
