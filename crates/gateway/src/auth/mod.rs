//! Who may connect and what he may read.

mod identity;

pub use identity::{Grants, Identity, Ids, Patterns};
