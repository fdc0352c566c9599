//! The Crewcast gateway: bridges Redis channels to WebSockets and event streams.
//!
//! The crate is made for the `crewcast` binary. It exports what a program needs to run a replica ([`Server`],
//! [`config`], [`telemetry`]), to mint and check tokens ([`mint`], [`Verifier`]), and to reach the same Redis as a
//! replica.
//!
//! Inside, an event takes this path: `broker` → `relay` → `hub` → `replay` → `connection` → `outbox`. A `dialect`
//! decides what a connection says, and `server` puts one replica together.

mod adoption;
mod app;
mod auth;
mod broker;
pub mod config;
mod connection;
mod console;
mod control;
mod dashboards;
mod dialect;
mod drain;
mod http;
mod hub;
mod limits;
mod outbox;
mod publishing;
mod ready;
mod registry;
mod relay;
mod replay;
mod routes;
mod server;
mod state;
mod stats;
pub mod telemetry;
#[cfg(test)]
mod testing;
mod util;

pub use auth::{AuthError, AuthSetupError, Claim, Grants, Identity, Ids, MintError, Patterns, Verifier, mint};
pub use broker::{
    BrokerError, Link, PubSub, Sink,
    redis::{RedisBroker, connect},
};
pub use drain::{DrainOutcome, ShutdownSignal, Signals, shutdown_signal};
pub use registry::{Directory, RedisRegistry, Revocation, RevocationTarget, Revocations};
pub use server::{Server, StartError};
