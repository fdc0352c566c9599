//! What a gateway tells of something whose producer has stopped renewing its lease.

use serde::{Deserialize, Serialize};

use super::Object;

/// What is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// The lease has run out.
    Stalled,
    /// Nothing was heard for a further time: it will hardly end by itself.
    Lost,
    /// The producer renews again. An event of its own says as much, and then this is not told.
    Recovered,
}

impl Silence {
    /// The event type.
    pub fn as_str(self) -> &'static str {
        match self {
            Silence::Stalled => "stalled",
            Silence::Lost => "lost",
            Silence::Recovered => "recovered",
        }
    }
}

/// A synthetic event: no producer wrote it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SilenceEvent {
    #[serde(rename = "type")]
    pub kind: Silence,
    /// `true`. There is no `"source":"gateway"`: by that clients know what is no event of the channel, and this one is.
    pub synthetic: bool,
    pub timestamp: String,
    /// The lease's name in its channel.
    pub lease: String,
    /// Seconds since the producer was last heard of.
    pub silent_s: f64,
    /// What the producer said of it when it began: for a tool call `crew_id`, `run_id`, `agent_id`, `tool`.
    #[serde(flatten)]
    pub about: Object,
}

impl SilenceEvent {
    /// Tells of a lease now.
    pub fn new(kind: Silence, lease: &str, silent_s: f64, mut about: Object) -> Self {
        for ours in ["id", "type", "synthetic", "timestamp", "lease", "silent_s"] {
            about.remove(ours);
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
    fn what_is_said_about_a_lease_cannot_pass_for_the_gateways_word() {
        let about = json!({"id": "1-x", "type": "done", "synthetic": false, "run_id": "r1"});
        let event = SilenceEvent::new(Silence::Lost, "run:r1", 1.5, about.as_object().unwrap().clone());
        let mut written = serde_json::to_value(&event).unwrap();
        assert!(written.as_object_mut().unwrap().remove("timestamp").is_some());
        let expected = json!({"type": "lost", "synthetic": true, "lease": "run:r1", "silent_s": 1.5,
            "run_id": "r1"});
        assert_eq!(written, expected);
        assert!(serde_json::to_string(&event).unwrap().starts_with(r#"{"type":"lost","#));
    }
}
