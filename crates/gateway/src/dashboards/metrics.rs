//! The newest document of each metric set of an org.

use std::fmt::Write as _;

use crewcast_events::{catalog::forge::metrics::MetricSet, timestamp};

use crate::state::StateSnapshot;

/// `{<set>: document}`, with the documents as their producers wrote them.
pub(super) fn sets(state: &StateSnapshot) -> String {
    let mut text = String::from("{");
    for set in MetricSet::ALL {
        if let Some(figures) = state.document(set.key()) {
            let comma = if text.len() > 1 { "," } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(text, r#"{comma}"{}":{figures}"#, set.key());
        }
    }
    text.push('}');
    text
}

pub(super) fn message(state: &StateSnapshot) -> String {
    format!(r#"{{"type":"metrics","data":{},"timestamp":"{}"}}"#, sets(state), timestamp::now())
}
