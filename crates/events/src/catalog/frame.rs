//! The event format that the dialects `hub` and `forge` share.

use serde::{Deserialize, Serialize};

/// `{"type":…,"data":{…},"timestamp":…}`. `K` is an enum tagged by `type` with its fields in `data`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Frame<K> {
    #[serde(flatten)]
    pub kind: K,
    pub timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
}

/// Data with a timestamp: the `data` of hub events, and state documents.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Stamped<T> {
    #[serde(flatten)]
    pub data: T,
    pub timestamp: String,
}
