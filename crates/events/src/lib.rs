//! The contract of Crewcast, shared by producers, gateways and clients.
//!
//! - [`Channel`] names where an event goes.
//! - [`EventId`] is an event's place in the channel's log.
//! - [`Event`] holds the producer's JSON, byte for byte.
//! - [`catalog`] holds the event types that typed emitters write.
//! - [`resume`] decides whether a reader can go on without a gap.
//! - [`Keys`] spells every Redis key.
//!
//! This crate does no I/O.

pub mod catalog;
mod channel;
mod event;
mod id;
mod keys;
pub mod namespace;
mod progress;
mod resume;
mod scan;
pub mod timestamp;

pub use channel::{BadChannel, Channel, is_id, is_namespace};
pub use event::{Body, BodyError, Event, Field, MAX_TYPE_LEN, Rejected};
pub use id::{BadEventId, EventId, RANDOM_LEN, Tag};
pub use keys::{Keys, Kind};
pub use namespace::{LogPolicy, Namespace, Namespaces, Owner};
pub use progress::{Subject, SubjectFields};
pub use resume::{ResetReason, Resumed, Since, resume};

/// The snippets of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
