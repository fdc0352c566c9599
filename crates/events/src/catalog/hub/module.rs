//! Modules of the hub and the messages between them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `module_status_changed`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ModuleStatusChanged {
    pub module: String,
    pub old_status: String,
    pub new_status: String,
    /// `None` is written as `""`.
    #[serde(serialize_with = "crate::catalog::or_default", default)]
    pub reason: Option<String>,
    pub affected_functions: Vec<String>,
}

/// `inter_module_message`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct InterModuleMessage {
    pub from_module: String,
    pub to_module: String,
    pub message_type: String,
    pub payload: Value,
}

/// `coordination_event`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct CoordinationEvent {
    pub event_type: String,
    pub module: String,
    /// `None` is written as `{}`.
    #[serde(serialize_with = "crate::catalog::or_empty_object", default)]
    pub details: Option<Value>,
}

renamed! { StatusChanged = ModuleStatusChanged, Message = InterModuleMessage, Coordination = CoordinationEvent }
