//! The Crewcast gateway.
//!
//! The path of an event: [`broker`] → [`relay`] → [`hub`] → [`replay`] → [`connection`] →
//! `crewcast_websocket`. A [`dialect`] defines the messages of a socket; [`server`] assembles one replica.

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
pub mod outbox;
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
mod util;
