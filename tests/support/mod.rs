//! Servers and clients of the tests. Every server listens on a free port and ends with its owner.

pub mod balancer;
pub mod command;
pub mod deflating;
pub mod gateway;
pub mod http;
pub mod pages;
pub mod publish;
pub mod socket;
pub mod sse;
pub mod terminal;
pub mod token;
pub mod webhook;

pub use crewcast_test_servers as redis;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// The program under test.
pub fn crewcast_binary() -> PathBuf {
    env!("CARGO_BIN_EXE_crewcast").into()
}

/// Waits until `condition` holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < PATIENCE, "did not come about: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The seed of a test's random numbers: new each time, printed, and taken from `CREWCAST_TEST_SEED` to see a failure again.
pub fn seed() -> u64 {
    let given = std::env::var("CREWCAST_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("CREWCAST_TEST_SEED={seed}");
    seed
}
