//! Publishes Crewcast events.

mod append;
mod redis;

pub use append::{
    Append, AppendError, Claim, ClaimMode, Claimed, Entry, MAX_ENTRIES, Once, State, Transport, random_half,
};
pub use redis::{PoolSetupError, RedisTransport, pool};
