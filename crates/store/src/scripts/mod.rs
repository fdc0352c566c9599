//! The scripts that run in Redis, as text. Each file says which keys and arguments a script takes and what it answers.
//!
//! A script is known by the hash of its text, and replicas of several versions run side by side: a changed text is
//! another script.

/// Appends events to a channel's log and publishes them: one atomic step (`publish.lua`, behind `leases.lua`).
pub const PUBLISH: &str = concat!(include_str!("leases.lua"), include_str!("publish.lua"));
/// Renews leases that stand.
pub const RENEW_LEASES: &str = include_str!("renew.lua");
/// Decides who owns an id.
pub const OWNERSHIP: &str = include_str!("ownership.lua");

/// Reads a range of a channel's log.
pub const HISTORY: &str = include_str!("history.lua");
/// Reads a channel's state documents and the head that they belong to.
pub const STATE: &str = include_str!("state.lua");
/// Reads the leases of a channel whose expiry is due.
pub const EXPIRED_LEASES: &str = include_str!("expired_leases.lua");
/// Milliseconds until the next expiry of a channel's leases is due; nil without one. Key: due.
pub const NEXT_LEASE_EXPIRY: &str = include_str!("next_lease_expiry.lua");

/// Remembers a revocation and tells every gateway.
pub const REVOKE: &str = include_str!("revoke.lua");
/// Tells every gateway that a client has connected, and numbers it.
pub const ANNOUNCE: &str = include_str!("announce.lua");
/// Stores the usage of one replica, or removes it.
pub const REPORT_USAGE: &str = include_str!("report_usage.lua");
/// The replicas whose usage has not outlived its age, each followed by its usage. Key: replicas.
pub const READ_USAGE: &str = include_str!("read_usage.lua");

/// Takes the lease of live retention when it is free, or prolongs it for its holder. Key: the lease. Arguments: the
/// holder, milliseconds. Answers 1 for the holder, else 0.
pub const RENEW_RETENTION_LEASE: &str = include_str!("renew_retention_lease.lua");
/// Gives the lease of live retention up. Key: the lease. Argument: the holder.
pub const RELEASE_RETENTION_LEASE: &str = include_str!("release_retention_lease.lua");
/// Sets the retained value when the log's head is that very event: a later event sets the value itself. Keys: head,
/// retained. Arguments: id, message, age in seconds.
pub const RETAIN_LOGGED: &str = include_str!("retain_logged.lua");
/// Appends a live message to a list of last messages. Key: the list. Arguments: message, most entries, age in seconds,
/// 1 to append only what the list does not hold.
pub const CAPTURE_LINE: &str = include_str!("capture_line.lua");
/// Counts a node or an edge once. Keys: nodes, edges, state. Arguments: which, the item, age in seconds.
pub const CAPTURE_COUNT: &str = include_str!("capture_count.lua");
