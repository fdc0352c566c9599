//! Status signals of a crew on `mission:<crew>`.

use serde::{Deserialize, Serialize};

/// What a crew is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum CrewStatus {
    Offline,
    Available,
    Busy,
}

/// One signal: `{"type":"signal","timestamp":…,"payload":{"status":…,"crewId":…}}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "signal")]
#[allow(missing_docs)]
pub struct Signal {
    /// Missing in the signal that a gateway makes up for a crew that has never sent one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timestamp: Option<String>,
    pub payload: SignalPayload,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
}

/// The payload of a [`Signal`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SignalPayload {
    pub status: CrewStatus,
    #[serde(rename = "crewId")]
    pub crew_id: String,
}
