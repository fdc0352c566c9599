//! Tests of the publisher against a real Redis.

mod append;
mod claim;
mod support;
