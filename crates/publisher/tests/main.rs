//! Tests of the publisher against a real Redis.

mod append;
mod emitters;
mod examples;
mod failover;
#[cfg(feature = "http")]
mod http;
mod leases;
mod ownership;
mod periodic;
mod publisher;
mod resend;
mod resend_model;
mod session;
mod spool;
mod spool_trouble;
mod support;
mod tasks;
mod topologies;
#[cfg(feature = "otel")]
mod trace;
