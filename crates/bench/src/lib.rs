//! A load generator for systems that fan events out to WebSockets, and the comparisons made with it.
//!
//! One thread drives many sockets, publishes, and checks every event that arrives for loss, doubles and order while it
//! measures ([`load`]). What differs between systems is a [`protocol::Protocol`]; how they are started stands in [`servers`].

pub mod commands;
pub mod load;
pub mod measure;
pub mod model;
pub mod parts;
pub mod protocol;
pub mod raw_server;
pub mod record;
pub mod report;
pub mod runner;
pub mod scale;
pub mod servers;
mod svg;
pub mod wire;
