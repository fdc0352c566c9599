//! The events that a gateway publishes when a producer stops renewing a lease.

use serde::{Deserialize, Serialize};

use super::Object;

/// What has happened to a lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseStatus {
    /// The lease has expired.
    Stalled,
    /// The lease was not renewed for [`lost_after`](crate::Namespace::lost_after) after it had stalled.
    Lost,
    /// The producer renews the lease again. Not published if an event of the producer has renewed it.
    Recovered,
}

impl LeaseStatus {
    /// The event type.
    pub fn as_str(self) -> &'static str {
        match self {
            LeaseStatus::Stalled => "stalled",
            LeaseStatus::Lost => "lost",
            LeaseStatus::Recovered => "recovered",
        }
    }
}

/// An event about a lease. It is synthetic: the gateway publishes it, not a producer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LeaseEvent {
    #[serde(rename = "type")]
    pub kind: LeaseStatus,
    /// Always `true`. There is no `"source":"gateway"`: that marks messages that are not events of the channel.
    pub synthetic: bool,
    pub timestamp: String,
    /// The lease's name in its channel.
    pub lease: String,
    /// Seconds since the lease was last renewed.
    pub silent_s: f64,
    /// The fields that the producer gave with the lease: for a tool call `crew_id`, `run_id`, `agent_id`, `tool`.
    #[serde(flatten)]
    pub about: Object,
}

impl LeaseEvent {
    /// Creates an event with the current time. Fields in `about` never replace the event's own.
    pub fn new(kind: LeaseStatus, lease: &str, silent_s: f64, mut about: Object) -> Self {
        for own in ["id", "type", "synthetic", "timestamp", "lease", "silent_s"] {
            about.remove(own);
        }
        let timestamp = crate::timestamp::now();
        Self { kind, synthetic: true, timestamp, lease: lease.to_owned(), silent_s, about }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_about_a_lease_never_replace_the_events_own() {
        let about = json!({"id": "1-x", "type": "done", "synthetic": false, "run_id": "r1"});
        let event = LeaseEvent::new(LeaseStatus::Lost, "run:r1", 1.5, about.as_object().unwrap().clone());
        let mut written = serde_json::to_value(&event).unwrap();
        assert!(written.as_object_mut().unwrap().remove("timestamp").is_some());
        let expected = json!({"type": "lost", "synthetic": true, "lease": "run:r1", "silent_s": 1.5,
            "run_id": "r1"});
        assert_eq!(written, expected);
        assert!(serde_json::to_string(&event).unwrap().starts_with(r#"{"type":"lost","#));
    }
}
