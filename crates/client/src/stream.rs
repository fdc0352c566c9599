//! The dialect `stream`: requests for channels, and events in envelopes.

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId, Rejected};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{json, value::RawValue};

use crate::{
    endpoint::Start,
    message::{Message, Positions, lenient},
};

/// Errors about one channel that the same request would get again.
const PERMANENT_ERRORS: [&str; 3] = ["forbidden", "bad_channel", "too_many_subscriptions"];

/// The message that requests a channel. Its `ref` is the channel's name, so that every answer names the channel.
pub(crate) fn subscribe(channel: &Channel, start: Start, types: &[String]) -> String {
    let mut request = json!({ "action": "subscribe", "channel": channel, "ref": channel });
    match start {
        Start::Default => {}
        Start::Beginning => request["since"] = json!("0"),
        Start::After(id) => request["since"] = json!(id),
    }
    if !types.is_empty() {
        request["event_types"] = json!(types);
    }
    request.to_string()
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "lenient")]
    channel: Option<Channel>,
    #[serde(default, deserialize_with = "lenient")]
    id: Option<EventId>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(default)]
    position: Positions,
    #[serde(default)]
    pending: Vec<IgnoredAny>,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default, rename = "ref", deserialize_with = "lenient")]
    about: Option<Channel>,
}

/// Parses a message. Events have an envelope here, so everything else is a control message.
pub(crate) fn parse(raw: Bytes) -> Result<Message, Rejected> {
    let Ok(frame) = serde_json::from_slice::<Frame<'_>>(&raw) else { return Message::parse(raw) };
    let channel = frame.channel.or(frame.about);
    match (frame.kind.as_str(), frame.event, channel) {
        ("event", Some(event), Some(channel)) => {
            Ok(Message::Enveloped { channel, event: unwrap_event(frame.id, event.get())? })
        }
        ("subscribed", _, Some(channel)) if !frame.pending.is_empty() => {
            Ok(Message::Pending { channel, positions: frame.position })
        }
        ("subscribed", ..) => Ok(Message::Ping { positions: frame.position }),
        ("authenticated" | "unsubscribed" | "published" | "pong", ..) => Ok(Message::Ack),
        ("error", _, Some(channel)) if PERMANENT_ERRORS.contains(&frame.code.as_str()) => {
            Ok(Message::Refused { channel, code: frame.code, reason: frame.message })
        }
        _ => Message::parse(raw),
    }
}

/// The event as stored in the channel's log: a logged event has its id first.
fn unwrap_event(id: Option<EventId>, object: &str) -> Result<Event, Rejected> {
    match id {
        Some(id) => {
            let tail = object.strip_prefix('{').ok_or(Rejected::NotAnObject)?;
            Event::parse(format!(r#"{{"id":"{id}",{tail}"#).into())
        }
        None => Event::parse(Bytes::copy_from_slice(object.as_bytes())).map(Event::into_live),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7-abcdefghijkl";

    fn parse_text(text: &str) -> Message {
        parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn a_request_names_the_channel_and_its_start() {
        let channel: Channel = "graph:abc".parse().unwrap();
        let since = |start| {
            serde_json::from_str::<serde_json::Value>(&subscribe(&channel, start, &[])).unwrap()["since"].clone()
        };
        assert_eq!(since(Start::Default), json!(null));
        assert_eq!(since(Start::Beginning), json!("0"));
        assert_eq!(since(Start::After(ID.parse().unwrap())), json!(ID));
        let request = subscribe(&channel, Start::Default, &["a".to_owned()]);
        assert!(request.contains(r#""event_types":["a"]"#) && request.contains(r#""ref":"graph:abc""#), "{request}");
    }

    #[test]
    fn an_unwrapped_event_equals_the_logged_one() {
        let logged =
            format!(r#"{{"type":"event","channel":"graph:abc","id":"{ID}","event":{{ "type":"x", "n":1.50 }}}}"#);
        let Message::Enveloped { channel, event } = parse_text(&logged) else { panic!() };
        assert_eq!(channel.as_str(), "graph:abc");
        assert_eq!(
            (event.id(), event.text()),
            (ID.parse().ok(), &*format!(r#"{{"id":"{ID}", "type":"x", "n":1.50 }}"#))
        );
        let live = format!(
            r#"{{"type":"event","channel":"graph:abc","id":null,
                "event":{{"id":"{ID}","type":"reset","source":"gateway"}}}}"#
        );
        let Message::Enveloped { event, .. } = parse_text(&live) else { panic!() };
        assert_eq!((event.id(), &*event.kind()), (None, "reset"), "only looks logged and like a control message");
    }

    #[test]
    fn parses_answers_and_control_messages() {
        let subscribed = parse_text(
            r#"{"type":"subscribed","channel":"graph:abc","position":{"graph:abc":null},"ref":"graph:abc"}"#,
        );
        let pending = parse_text(
            r#"{"type":"subscribed","channel":"graph:abc","position":{"graph:abc":null},"pending":["graph:abc"]}"#,
        );
        assert!(matches!(pending, Message::Pending { channel, .. } if channel.as_str() == "graph:abc"));
        assert!(matches!(&subscribed, Message::Ping { positions }
                if positions.of(&"graph:abc".parse().unwrap()) == Some(None)));
        let refused = r#"{"type":"error","source":"gateway","code":"forbidden","message":"no","channel":"run:r"}"#;
        assert!(matches!(parse_text(refused), Message::Refused { channel, .. } if channel.as_str() == "run:r"));
        let by_ref =
            r#"{"type":"error","source":"gateway","code":"too_many_subscriptions","message":"no","ref":"run:r"}"#;
        assert!(matches!(parse_text(by_ref), Message::Refused { channel, .. } if channel.as_str() == "run:r"));
        let limited = r#"{"type":"error","source":"gateway","code":"rate_limited","message":"no"}"#;
        assert!(matches!(parse_text(limited), Message::Notice(_)));
        assert!(matches!(parse_text(r#"{"type":"authenticated","sub":"u","expires_at":null}"#), Message::Ack));
        let reset = r#"{"type":"reset","source":"gateway","channel":"run:r","reason":"trimmed","from":null}"#;
        assert!(matches!(parse_text(reset), Message::Reset { .. }));
        assert!(parse(Bytes::from_static(b"hello")).is_err());
    }
}
