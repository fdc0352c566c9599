//! What typed emitters write, dialect by dialect. A gateway never demands any of it.
//!
//! `tests/golden/catalog/*.jsonl` holds one event of each type, every field set, for all languages alike.

pub mod forge;
mod frame;
pub mod hub;
pub mod lease_expiry;
pub mod mission;
pub mod run;
pub mod session;
pub mod stream;
pub mod tool;
pub mod tracking;

use serde::{Deserialize, Serialize};

pub use frame::{Frame, Stamped};

/// How a tool, agent or task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Outcome {
    Success,
    Error,
    CompletedWithErrors,
}

/// A JSON object as producers pass it: parameters, inputs.
pub type Object = serde_json::Map<String, serde_json::Value>;
