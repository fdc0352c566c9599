//! The Crewcast gateway.
//!
//! The way of an event: [`broker`] → [`relay`] → [`hub`] → [`replay`] → `connection` → [`transport`].

pub mod auth;
pub mod broker;
pub mod config;
pub mod hub;
pub mod relay;
pub mod replay;
pub mod telemetry;
pub mod transport;
