//! The binary as it is used: one file for what needs nobody, one for what needs a Redis.

mod no_redis;
mod support;
mod with_redis;
