//! The messages that the gateway sends in this dialect.

use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId, timestamp};
use serde_json::{Value, json};

use super::request::{Ref, RequestError};
use crate::{auth::Identity, dialect::Action};
use crewcast_websocket::frame::text_frame;

/// A message being built. Its keys are in the order in which they are added.
pub(super) struct MessageWriter(String);

impl MessageWriter {
    fn new(kind: &str) -> Self {
        Self(format!(r#"{{"type":"{kind}""#))
    }

    fn field(mut self, key: &str, value: &Value) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(self.0, r#","{key}":{value}"#);
        self
    }

    /// Adds keys exactly as the client wrote them.
    fn keys(mut self, keys: &str) -> Self {
        self.0.push_str(keys);
        self
    }

    fn send(mut self, reference: Option<&Ref>) -> Action {
        if let Some(reference) = reference {
            // Writing to a String cannot fail.
            let _ = write!(self.0, r#","ref":{reference}"#);
        }
        self.0.push('}');
        Action::Send(text_frame(self.0.as_bytes()))
    }
}

/// `authenticated`: the user of the token, and when it expires.
pub(super) fn authenticated(identity: &Identity, reference: Option<&Ref>) -> Action {
    let end = identity.expires_at.and_then(|second| UNIX_EPOCH.checked_add(Duration::from_secs(second)));
    let expires_at = end.map(timestamp::format);
    let answer = MessageWriter::new("authenticated").field("sub", &json!(identity.sub));
    answer.field("expires_at", &json!(expires_at)).send(reference)
}

/// `subscribed`: events of this subscription follow, in each channel after its position. A channel that is pending has
/// no owner yet: its events follow if the org of the token comes to own it.
pub(super) fn subscribed(
    keys: &str,
    positions: &[(&Channel, Option<EventId>)],
    pending: Option<&Channel>,
    reference: Option<&Ref>,
) -> Action {
    let position: Vec<String> = positions
        .iter()
        .map(|(channel, id)| match id {
            Some(id) => format!(r#""{channel}":"{id}""#),
            None => format!(r#""{channel}":null"#),
        })
        .collect();
    let position = format!(r#","position":{{{}}}"#, position.join(","));
    let pending = pending.map(|channel| format!(r#","pending":["{channel}"]"#)).unwrap_or_default();
    MessageWriter::new("subscribed").keys(keys).keys(&position).keys(&pending).send(reference)
}

/// `unsubscribed`: no more events of this subscription follow.
pub(super) fn unsubscribed(keys: &str, reference: Option<&Ref>) -> Action {
    MessageWriter::new("unsubscribed").keys(keys).send(reference)
}

/// `published`: the event's id; `None` if its namespace keeps no log.
pub(super) fn published(channel: &Channel, id: Option<EventId>, reference: Option<&Ref>) -> Action {
    MessageWriter::new("published").field("channel", &json!(channel)).field("id", &json!(id)).send(reference)
}

/// `pong`.
pub(super) fn pong(reference: Option<&Ref>) -> Action {
    MessageWriter::new("pong").send(reference)
}

/// `error`: the request is refused; the socket stays open.
pub(super) fn error(refusal: &RequestError, channel: Option<&Channel>, reference: Option<&Ref>) -> Action {
    let mut answer = MessageWriter::new("error").field("source", &json!("gateway"));
    answer = answer.field("code", &json!(refusal.code)).field("message", &json!(refusal.message));
    if let Some(channel) = channel {
        answer = answer.field("channel", &json!(channel));
    }
    answer.send(reference)
}

/// `event`: the producer's unchanged object in an envelope. The id is `null` if the event is not logged.
pub(super) fn event(channel: &Channel, event: &Event) -> Bytes {
    let mut text = Vec::with_capacity(event.raw().len() + channel.as_str().len() + 80);
    text.extend_from_slice(br#"{"type":"event","channel":""#);
    text.extend_from_slice(channel.as_str().as_bytes());
    match (event.id(), event.logged_tail()) {
        (Some(id), Some(tail)) => {
            text.extend_from_slice(format!(r#"","id":"{id}","event":{{"#).as_bytes());
            text.extend_from_slice(tail);
        }
        _ => {
            text.extend_from_slice(br#"","id":null,"event":"#);
            text.extend_from_slice(event.raw());
        }
    }
    text.push(b'}');
    text_frame(&text)
}
