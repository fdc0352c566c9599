//! Servers and clients of the tests. Every server listens on a free port and ends with its owner.

pub mod balancer;
pub mod command;
pub mod gateway;
pub mod http;
pub mod redis;
pub mod socket;
pub mod sse;
pub mod token;

use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < PATIENCE, "did not come about: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
