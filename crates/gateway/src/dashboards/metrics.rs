//! The newest document of each metric set of an org.

use std::fmt::Write as _;

use crewcast_events::{catalog::forge::metrics::MetricSet, timestamp};
use serde_json::json;

use crate::state::StateSnapshot;

/// `{<set>: document}` of all sets, with the documents as their producers wrote them.
pub(super) fn sets(state: &StateSnapshot) -> String {
    let mut text = String::from("{");
    // The sets of typed emitters first, in their own order.
    let place = |set: &str| MetricSet::ALL.iter().position(|known| known.key() == set).unwrap_or(MetricSet::ALL.len());
    let mut sets: Vec<_> = state.documents.iter().collect();
    sets.sort_by_key(|(set, _)| place(set));
    for (set, figures) in sets {
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
