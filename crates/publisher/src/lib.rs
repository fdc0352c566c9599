//! Publishes Crewcast events.

mod append;

pub use append::{
    Append, AppendError, Claim, ClaimMode, Claimed, Entry, MAX_ENTRIES, Once, State, Transport, random_half,
};
