//! Tests of the publisher against a real Redis.

mod append;
mod claim;
mod emitters;
mod failover;
#[cfg(feature = "http")]
mod http;
mod leases;
mod publisher;
mod resend;
mod resend_model;
mod session;
mod spool;
mod spool_trouble;
mod support;
mod topologies;
#[cfg(feature = "otel")]
mod trace;
