//! The gateway's own messages. All carry `"source":"gateway"`, because producers may use the same types.

use std::fmt::Write as _;

use bytes::Bytes;
use crewcast_events::{Channel, timestamp};
use serde_json::{Map, Value, json};

use super::{Conflated, Positions};
use crate::{auth::Claim, hub::Item};
use crewcast_websocket::frame::text_frame;

/// A `ping` with more positions than this would be long and hard to read: sockets with more channels get none.
const MAX_POSITIONS: usize = 16;

/// The message for an entry that is a mark; `None` for events.
pub(crate) fn mark(channel: &Channel, item: &Item) -> Option<String> {
    let channel = ("channel", json!(channel));
    match item {
        Item::Event(_) => None,
        Item::Reset { reason, from } => {
            Some(message("reset", &[channel, ("reason", json!(reason.label())), ("from", json!(from))]))
        }
        Item::Gap { missed } => Some(message("gap", &[channel, ("missed", json!(missed))])),
    }
}

/// `skipped`: progress events were left out, and the reader's position after them.
pub(crate) fn skipped(channel: &Channel, Conflated { events, position }: Conflated) -> String {
    let (channel, events) = (("channel", json!(channel)), ("events", json!(events)));
    message("skipped", &[channel, events, ("position", json!(position))])
}

/// `ping`: the socket is alive. A reader whose filter hides most events learns its position.
pub(crate) fn ping(positions: Positions<'_, '_>) -> String {
    let known: Map<String, Value> =
        positions.take(MAX_POSITIONS + 1).map(|(channel, id)| (channel.to_string(), json!(id))).collect();
    let timestamp = ("timestamp", json!(timestamp::now()));
    if known.is_empty() || known.len() > MAX_POSITIONS {
        return message("ping", &[timestamp]);
    }
    message("ping", &[timestamp, ("position", Value::Object(known))])
}

/// `pong`: the answer to a page's own `ping`, in the form that such pages know, without a source.
pub(crate) fn pong() -> String {
    format!(r#"{{"type":"pong","timestamp":"{}"}}"#, timestamp::now())
}

/// `error`: the client's message was not understood or not granted; the socket stays open.
pub(crate) fn error(code: &str, text: &str) -> String {
    message("error", &[("code", json!(code)), ("message", json!(text))])
}

/// `error`: the token grants nothing that this socket could deliver; it stays silent, or is refused next.
pub(crate) fn nothing_granted(missing: &[Claim]) -> String {
    let names: Vec<_> = missing.iter().map(|claim| claim.name()).collect();
    let text = match names.as_slice() {
        [one] => format!("the token grants nothing on this socket, because the claim {one} is missing"),
        many => format!("the token grants nothing on this socket: it needs one of the claims {}", many.join(", ")),
    };
    let text = format!("{text}: get a token that has it, or set auth.default_claims in the gateway's configuration");
    message("error", &[("code", json!("nothing_granted")), ("message", json!(text)), ("claims", json!(names))])
}

/// `reconnect`: this replica is shutting down; reconnect after this many milliseconds.
pub(crate) fn reconnect(in_ms: u64) -> String {
    message("reconnect", &[("in_ms", json!(in_ms))])
}

/// `broker`: whether the link to the broker is up, so that events can arrive.
pub(crate) fn broker(is_up: bool) -> String {
    message("broker", &[("state", json!(if is_up { "up" } else { "down" }))])
}

/// A message as one text frame.
pub(crate) fn frame(text: &str) -> Bytes {
    text_frame(text.as_bytes())
}

/// Writes the keys in this order, so that a person reading frames sees the type first.
pub(crate) fn message(kind: &str, fields: &[(&str, Value)]) -> String {
    let mut text = format!(r#"{{"type":"{kind}","source":"gateway""#);
    for (key, value) in fields {
        // Writing to a String cannot fail.
        let _ = write!(text, r#","{key}":{value}"#);
    }
    text.push('}');
    text
}
