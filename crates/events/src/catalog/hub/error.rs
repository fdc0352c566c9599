//! Errors of the hub's components.

use serde::{Deserialize, Serialize};

use super::ErrorInfo;

/// `error_occurred`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ErrorOccurred {
    pub error_id: String,
    pub component: String,
    pub error: ErrorInfo,
    pub severity: String,
}

renamed! { Occurred = ErrorOccurred }
