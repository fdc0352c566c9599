//! The Crewcast gateway.

pub mod auth;
pub mod broker;
pub mod config;
pub mod telemetry;
