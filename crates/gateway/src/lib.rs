//! The Crewcast gateway.
//!
//! The way of an event: [`broker`] → [`relay`] → [`hub`] → [`replay`] → [`connection`] → [`transport`]. What a
//! socket says is its [`dialect`]'s; [`server`] puts one replica together.

pub mod app;
pub mod auth;
pub mod broker;
pub mod config;
pub mod connection;
pub mod console;
pub mod control;
pub mod dashboards;
pub mod dialect;
pub mod drain;
pub mod http;
pub mod hub;
pub mod limits;
pub mod publishing;
pub mod ready;
pub mod registry;
pub mod relay;
pub mod replay;
pub mod routes;
pub mod server;
pub mod state;
pub mod stats;
pub mod telemetry;
#[cfg(test)]
mod testing;
