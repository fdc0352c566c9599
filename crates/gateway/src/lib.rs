//! The Crewcast gateway.

pub mod app;
pub mod auth;
pub mod broker;
pub mod config;
pub mod drain;
pub mod limits;
pub mod ready;
pub mod routes;
pub mod telemetry;
#[cfg(test)]
mod testing;
