//! The contract of Crewcast, shared by producers, gateways and clients.
//!
//! [`Channel`] names where an event goes, [`EventId`] where it stands in a channel's log, [`Event`] is
//! the producer's JSON kept byte for byte, [`catalog`] is what typed emitters write, and [`Keys`] spells
//! every Redis key. There is no I/O in this crate.

pub mod catalog;
mod channel;
mod event;
mod id;
mod keys;
pub mod namespace;
mod resume;
mod scan;
pub mod timestamp;

pub use channel::{BadChannel, Channel, is_id, is_namespace};
pub use event::{Body, BodyError, Event, Field, MAX_TYPE_LEN, Rejected};
pub use id::{BadEventId, EventId, RANDOM_LEN, Tag};
pub use keys::{Keys, Kind};
pub use namespace::{LogPolicy, Namespace, Namespaces, Owner};
pub use resume::{ResetReason, Resumed, Since, resume};

/// The snippets of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
