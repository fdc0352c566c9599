//! Servers and clients for the tests. Every server listens on a free port and stops when it is dropped.

#![allow(missing_docs, reason = "a helper's name and signature say what it does")]

pub mod balancer;
mod binary;
pub mod command;
pub mod deflating;
pub mod gateway;
pub mod http;
pub mod publish;
pub mod socket;
pub mod sse;
pub mod token;
pub mod webhook;

pub use binary::crewcast_binary;
pub use crewcast_test_servers as redis;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The time after which a test that waits for something fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

/// Waits until `condition` holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < PATIENCE, "did not happen in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The seed of a test's random numbers: printed, and new in each run.
///
/// To reproduce a failure, set `CREWCAST_TEST_SEED` to the printed value.
pub fn seed() -> u64 {
    let given = std::env::var("CREWCAST_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("CREWCAST_TEST_SEED={seed}");
    seed
}
