//! Tests of the publisher against a real Redis.

mod append;
mod claim;
mod emitters;
#[cfg(feature = "http")]
mod http;
mod publisher;
mod support;
#[cfg(feature = "otel")]
mod trace;
