//! The Crewcast gateway.
//!
//! The way of an event: [`broker`] → [`relay`] → [`hub`] → [`replay`] → [`connection`] → [`transport`]. What a
//! socket says is its [`dialect`]'s; [`server`] puts one replica together.

pub mod app;
pub mod auth;
pub mod boards;
pub mod broker;
pub mod config;
pub mod connection;
pub mod control;
pub mod dialect;
pub mod drain;
pub mod hub;
pub mod limits;
pub mod page;
pub mod publishing;
pub mod ready;
pub mod relay;
pub mod replay;
pub mod routes;
pub mod server;
pub mod state;
pub mod stats;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod transport;
