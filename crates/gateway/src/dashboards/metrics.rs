//! The newest document of each metric set of an org.

use std::fmt::Write as _;

use crewcast_events::timestamp;
use serde_json::json;

use crate::state::StateSnapshot;

/// `{<set>: document}`, with the documents as their producers wrote them.
pub(super) fn sets(state: &StateSnapshot) -> String {
    let mut text = String::from("{");
    for (set, figures) in &state.documents {
        let comma = if text.len() > 1 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{}:{figures}", json!(set));
    }
    text.push('}');
    text
}

pub(super) fn message(state: &StateSnapshot) -> String {
    format!(r#"{{"type":"metrics","data":{},"timestamp":"{}"}}"#, sets(state), timestamp::now())
}
