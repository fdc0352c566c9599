//! Faults: real replicas, a real Redis, resuming readers and a producer under way, and something breaks. Afterwards
//! each reader has seen every event once and in order, or was told.
//!
//! `stage.rs` sets it up, `reader.rs` and `producer.rs` are who is under way, `verdict.rs` counts. The faults stand in a
//! file per thing that breaks; `soak.rs` injects those of `chaos.rs` at random for as
//! long as it is told.

mod broker;
mod chaos;
mod logs;
mod network;
mod producer;
mod reader;
mod replicas;
mod slow;
mod soak;
mod stage;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod support;
mod topologies;
mod verdict;
