//! The dialect `stream`: what is asked for, and the envelopes in which events come.

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId, Rejected};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{
    endpoint::Start,
    message::{Message, Positions, lenient},
};

/// Errors about one channel that the same request would only meet again.
const FINAL: [&str; 3] = ["forbidden", "bad_channel", "too_many_subscriptions"];

/// The message that asks for a channel. Its `ref` is the channel's name, so that every answer says which it is about.
pub(crate) fn subscribe(channel: &Channel, start: Start, types: &[String]) -> String {
    let mut ask = json!({ "action": "subscribe", "channel": channel, "ref": channel });
    match start {
        Start::Default => {}
        Start::Beginning => ask["since"] = json!("0"),
        Start::After(id) => ask["since"] = json!(id),
    }
    if !types.is_empty() {
        ask["event_types"] = json!(types);
    }
    ask.to_string()
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
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default, rename = "ref", deserialize_with = "lenient")]
    about: Option<Channel>,
}

/// Reads a frame. Events have an envelope here, so that everything else is the gateway's word.
pub(crate) fn read(raw: Bytes) -> Result<Message, Rejected> {
    let Ok(frame) = serde_json::from_slice::<Frame<'_>>(&raw) else { return Message::read(raw) };
    let channel = frame.channel.or(frame.about);
    match (frame.kind.as_str(), frame.event, channel) {
        ("event", Some(event), Some(channel)) => {
            Ok(Message::Enveloped { channel, event: whole(frame.id, event.get())? })
        }
        ("subscribed", ..) => Ok(Message::Ping { positions: frame.position }),
        ("authenticated" | "unsubscribed" | "published" | "pong", ..) => Ok(Message::Answer),
        ("error", _, Some(channel)) if FINAL.contains(&frame.code.as_str()) => {
            Ok(Message::Refused { channel, code: frame.code, reason: frame.message })
        }
        _ => Message::read(raw),
    }
}

/// The event as the channel's log has it: with its id first, where it is logged.
fn whole(id: Option<EventId>, object: &str) -> Result<Event, Rejected> {
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

    fn read_text(text: &str) -> Message {
        read(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn asks_for_a_channel_where_it_starts() {
        let channel: Channel = "graph:abc".parse().unwrap();
        let since = |start| {
            serde_json::from_str::<serde_json::Value>(&subscribe(&channel, start, &[])).unwrap()["since"].clone()
        };
        assert_eq!(since(Start::Default), json!(null));
        assert_eq!(since(Start::Beginning), json!("0"));
        assert_eq!(since(Start::After(ID.parse().unwrap())), json!(ID));
        let ask = subscribe(&channel, Start::Default, &["a".to_owned()]);
        assert!(ask.contains(r#""event_types":["a"]"#) && ask.contains(r#""ref":"graph:abc""#), "{ask}");
    }

    #[test]
    fn an_event_leaves_its_envelope_as_the_log_has_it() {
        let logged =
            format!(r#"{{"type":"event","channel":"graph:abc","id":"{ID}","event":{{ "type":"x", "n":1.50 }}}}"#);
        let Message::Enveloped { channel, event } = read_text(&logged) else { panic!() };
        assert_eq!(channel.as_str(), "graph:abc");
        assert_eq!(
            (event.id(), event.text()),
            (ID.parse().ok(), &*format!(r#"{{"id":"{ID}", "type":"x", "n":1.50 }}"#))
        );
        let live = format!(
            r#"{{"type":"event","channel":"graph:abc","id":null,"event":{{"id":"{ID}","type":"reset","source":"gateway"}}}}"#
        );
        let Message::Enveloped { event, .. } = read_text(&live) else { panic!() };
        assert_eq!((event.id(), &*event.kind()), (None, "reset"), "it only looks logged, and like the gateway's");
    }

    #[test]
    fn reads_answers_and_the_gateways_words() {
        let subscribed =
            read_text(r#"{"type":"subscribed","channel":"graph:abc","position":{"graph:abc":null},"ref":"graph:abc"}"#);
        assert!(
            matches!(subscribed, Message::Ping { positions } if positions.of(&"graph:abc".parse().unwrap()) == Some(None))
        );
        let refused = r#"{"type":"error","source":"gateway","code":"forbidden","message":"no","channel":"run:r"}"#;
        assert!(matches!(read_text(refused), Message::Refused { channel, .. } if channel.as_str() == "run:r"));
        let by_ref =
            r#"{"type":"error","source":"gateway","code":"too_many_subscriptions","message":"no","ref":"run:r"}"#;
        assert!(matches!(read_text(by_ref), Message::Refused { channel, .. } if channel.as_str() == "run:r"));
        let limited = r#"{"type":"error","source":"gateway","code":"rate_limited","message":"no"}"#;
        assert!(matches!(read_text(limited), Message::Notice(_)));
        assert!(matches!(read_text(r#"{"type":"authenticated","sub":"u","expires_at":null}"#), Message::Answer));
        let reset = r#"{"type":"reset","source":"gateway","channel":"run:r","reason":"trimmed","from":null}"#;
        assert!(matches!(read_text(reset), Message::Reset { .. }));
        assert!(read(Bytes::from_static(b"hello")).is_err());
    }
}
