//! Tests of the binary: commands without Redis, and commands with a real Redis.

mod no_redis;
mod support;
mod with_redis;
