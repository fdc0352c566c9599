//! Fault injection with real replicas, a real Redis, resuming readers and a running producer. After each fault, every
//! reader has received every event exactly once and in order, or was told what it missed.
//!
//! `stage.rs` sets up the servers, `reader.rs` and `producer.rs` run on them, and `verdict.rs` counts what went wrong.
//! Each thing that breaks has its own file of faults. `soak.rs` injects the faults of `chaos.rs` at random.

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
mod topologies;
mod verdict;

use crewcast_tests as support;
