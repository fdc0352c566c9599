//! A load generator for systems that fan events out to WebSockets, and comparisons of such systems.
//!
//! One thread drives many sockets, publishes, and checks every event that arrives for loss, duplicates and order while
//! it measures ([`load`]). [`protocol`] describes how each system is spoken to, and [`servers`] starts the systems.

pub mod commands;
pub mod load;
pub mod measure;
pub mod model;
pub mod options;
pub mod protocol;
pub mod raw_server;
pub mod record;
pub mod report;
pub mod runner;
pub mod scale;
pub mod servers;
mod svg;
pub mod wire;
pub mod worker_process;
