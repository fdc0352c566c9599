//! The messages that a gateway makes itself. All bear `"source":"gateway"`, since producers may use the
//! same types.

use bytes::Bytes;
use crewcast_events::{Channel, EventId, timestamp};
use serde_json::{Map, Value, json};

use super::Positions;
use crate::{hub::Item, transport::frame::text_frame};

/// A position map in a `ping` stays readable and small: sockets with more channels than this go without.
const MAX_POSITIONS: usize = 16;

/// The text of the mark that an entry is, `None` for events.
pub fn mark(channel: &Channel, item: &Item) -> Option<String> {
    match item {
        Item::Event(_) => None,
        Item::Reset { reason, from } => Some(message(
            "reset",
            json!({ "channel": channel, "reason": reason.label(), "from": from }),
        )),
        Item::Gap { missed } => Some(message("gap", json!({ "channel": channel, "missed": missed }))),
    }
}

/// `ping`: the socket lives, and a reader whose filter hides most events learns where it stands.
pub fn ping(positions: Positions<'_, '_>) -> String {
    let mut fields = json!({ "timestamp": timestamp::now() });
    let known: Map<String, Value> =
        positions.take(MAX_POSITIONS + 1).map(|(channel, id)| (channel.to_string(), position(id))).collect();
    if !known.is_empty() && known.len() <= MAX_POSITIONS {
        fields["position"] = Value::Object(known);
    }
    message("ping", fields)
}

/// `error`: what the client sent was not understood or not granted; the socket stays open.
pub fn error(code: &str, text: &str) -> String {
    message("error", json!({ "code": code, "message": text }))
}

/// `reconnect`: this replica is going away; come back after that many milliseconds.
pub fn reconnect(in_ms: u64) -> String {
    message("reconnect", json!({ "in_ms": in_ms }))
}

/// `broker`: whether events can arrive at all.
pub fn broker(is_up: bool) -> String {
    message("broker", json!({ "state": if is_up { "up" } else { "down" } }))
}

/// A message as one text frame.
pub fn frame(text: &str) -> Bytes {
    text_frame(text.as_bytes())
}

fn position(id: Option<EventId>) -> Value {
    id.map_or(Value::Null, |id| Value::String(id.to_string()))
}

fn message(kind: &str, fields: Value) -> String {
    let mut object = Map::new();
    object.insert("type".to_owned(), kind.into());
    object.insert("source".to_owned(), "gateway".into());
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object).to_string()
}
