//! What Crewcast writes to and reads from Redis, shared by publishers and gateways.
//!
//! - [`Append`], [`Ownership`](Claim), [`LeaseStep`], [`Renewal`]: what is written
//! - [`Transport`]: who carries it; [`RedisTransport`] carries it to Redis
//! - [`Redis`], [`Topology`], [`Connection`]: one server, a Sentinel group or a Cluster, and the way to the right server
//! - [`scripts`]: the Lua scripts, those that only gateways run included

mod append;
pub mod backoff;
mod lease;
mod ownership;
mod redis;
pub mod scripts;
mod state_key;
mod transport;

pub use append::{Append, AppendError, Entry, MAX_ENTRIES, MAX_EVENT_BYTES, Once, State, random_half};
pub use backoff::Backoff;
pub use lease::{
    DEFAULT_LEASE, LeaseStep, MAX_ABOUT, MAX_LEASE_NAME, MAX_LEASE_TTL, MAX_LEASES, MIN_LEASE_TTL, Renewal,
};
pub use ownership::{Claim, ClaimMode, Claimed};
pub use redis::{
    CONNECT_TIMEOUT, Connection, DIRECTORY_AGE, Node, ONCE_AGE, RESPONSE_TIMEOUT, Redis, RedisSetupError,
    RedisTransport, Server, Sharded, Tls, Topology, WaitReplicas, be_master, connection_config, knows_sharded, slot_of,
};
pub use state_key::{MAX_STATE_KEY, StateKeyError, check_state_key};
pub use transport::Transport;
