//! What Crewcast writes to and reads from Redis, shared by publishers and gateways.
//!
//! - [`Append`], [`Ownership`], [`LeaseStep`], [`Renewal`]: what is written
//! - [`Transport`]: what carries it; [`RedisTransport`] carries it to Redis
//! - [`RedisClient`], [`Topology`], [`Connection`]: one server, a Sentinel group or a Cluster, and the way to the right
//!   server
//! - [`scripts`]: the Lua scripts, including those that only gateways run

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
pub use ownership::{Ownership, OwnershipMode, OwnershipOutcome};
pub use redis::{
    CONNECT_TIMEOUT, Connection, DIRECTORY_AGE, Node, ONCE_AGE, RESPONSE_TIMEOUT, RedisClient, RedisSetupError,
    RedisTransport, Server, Sharded, Tls, Topology, WaitReplicas, connection_config, require_master, slot_of,
    supports_sharded_pubsub,
};
#[allow(deprecated)]
pub use redis::{be_master, knows_sharded};
pub use state_key::{MAX_STATE_KEY, StateKeyError, check_state_key};
pub use transport::Transport;
