//! What the gateway says on this dialect.

use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId, timestamp};
use serde_json::{Value, json};

use super::request::{Ref, RequestError};
use crate::{auth::Identity, dialect::Action, transport::frame::text_frame};

/// A message under way. Its keys stand in the order in which they are added.
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

    /// Keys as the client wrote them.
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

/// `authenticated`: whose token it was, and until when it is good.
pub(super) fn authenticated(identity: &Identity, reference: Option<&Ref>) -> Action {
    let end = identity.expires_at.and_then(|second| UNIX_EPOCH.checked_add(Duration::from_secs(second)));
    let expires_at = end.map(timestamp::format);
    let answer = MessageWriter::new("authenticated").field("sub", &json!(identity.sub));
    answer.field("expires_at", &json!(expires_at)).send(reference)
}

/// `subscribed`: events of these keys follow, in each channel behind its position.
pub(super) fn subscribed(keys: &str, positions: &[(&Channel, Option<EventId>)], reference: Option<&Ref>) -> Action {
    let position: Vec<String> = positions
        .iter()
        .map(|(channel, id)| match id {
            Some(id) => format!(r#""{channel}":"{id}""#),
            None => format!(r#""{channel}":null"#),
        })
        .collect();
    let position = format!(r#","position":{{{}}}"#, position.join(","));
    MessageWriter::new("subscribed").keys(keys).keys(&position).send(reference)
}

/// `unsubscribed`: no event of these keys follows.
pub(super) fn unsubscribed(keys: &str, reference: Option<&Ref>) -> Action {
    MessageWriter::new("unsubscribed").keys(keys).send(reference)
}

/// `published`: the event has this id; `None`: its namespace keeps no log.
pub(super) fn published(channel: &Channel, id: Option<EventId>, reference: Option<&Ref>) -> Action {
    MessageWriter::new("published").field("channel", &json!(channel)).field("id", &json!(id)).send(reference)
}

/// `pong`.
pub(super) fn pong(reference: Option<&Ref>) -> Action {
    MessageWriter::new("pong").send(reference)
}

/// `error`: what was asked for is not done; the socket stays open.
pub(super) fn error(refusal: &RequestError, channel: Option<&Channel>, reference: Option<&Ref>) -> Action {
    let mut answer = MessageWriter::new("error").field("source", &json!("gateway"));
    answer = answer.field("code", &json!(refusal.code)).field("message", &json!(refusal.message));
    if let Some(channel) = channel {
        answer = answer.field("channel", &json!(channel));
    }
    answer.send(reference)
}

/// `event`: the producer's object as it stands, in an envelope. The id is `null` where there is no log.
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
