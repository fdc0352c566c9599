//! The client's messages: one JSON object with an `action`.

use std::borrow::Cow;

use bytes::Bytes;
use crewcast_events::{Channel, Since};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{error::Category, value::RawValue};

use super::filter::Keys;
use crate::dialect::client_input::is_bare_ping;

/// Longest `ref`, in bytes as written in the message: the answer repeats it.
const MAX_REF: usize = 256;

/// A client's own mark on a message: a JSON string or number, exactly as written. The answer repeats it.
pub(super) type Ref = Box<str>;

/// One message.
pub(super) struct StreamRequest {
    pub(super) reference: Option<Ref>,
    pub(super) asked: Result<Command, RequestError>,
}

/// The command of a message.
#[derive(Debug)]
pub(super) enum Command {
    Auth(String),
    Subscribe {
        keys: Keys,
        since: Option<Since>,
    },
    /// `None`: ends every subscription.
    Unsubscribe(Option<Keys>),
    Publish {
        channel: Channel,
        event: Bytes,
    },
    Ping,
    /// The answer to our `ping`; answering is optional.
    Pong,
}

/// Why a message is answered with `error`.
#[derive(Debug)]
pub(super) struct RequestError {
    pub(super) code: &'static str,
    pub(super) message: Cow<'static, str>,
}

impl RequestError {
    pub(super) fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    fn bad(message: &'static str) -> Self {
        Self::new("bad_message", message)
    }
}

/// The keys of all messages, unparsed, so that a malformed message can still be answered with its `ref`.
#[derive(Deserialize)]
pub(super) struct RawMessage<'a> {
    #[serde(borrow)]
    action: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, rename = "ref")]
    reference: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) stream_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) execution_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) event_types: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) channel: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) since: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
}

impl StreamRequest {
    /// Reads a message.
    pub(super) fn read(text: &str) -> Self {
        if is_bare_ping(text) {
            return Self { reference: None, asked: Ok(Command::Ping) };
        }
        let message = match RawMessage::parse(text) {
            Ok(message) => message,
            Err(refusal) => return Self { reference: None, asked: Err(refusal) },
        };
        match message.reference.map(reference).transpose() {
            Ok(reference) => Self { reference, asked: message.asked() },
            Err(refusal) => Self { reference: None, asked: Err(refusal) },
        }
    }
}

impl<'a> RawMessage<'a> {
    fn parse(text: &'a str) -> Result<Self, RequestError> {
        let not_an_object = || RequestError::bad("a message is one JSON object with an \"action\"");
        match serde_json::from_str(text) {
            // serde would accept a JSON array as the fields in their order.
            Ok(_) if !text.trim_start().starts_with('{') => Err(not_an_object()),
            Ok(message) => Ok(message),
            Err(error) if error.classify() == Category::Data => Err(not_an_object()),
            Err(_) => Err(RequestError::new("bad_json", "the message is no JSON")),
        }
    }

    fn asked(&self) -> Result<Command, RequestError> {
        let Some(action) = self.action else {
            return match self.kind.map(RawValue::get) {
                Some(r#""pong""#) => Ok(Command::Pong),
                Some(r#""ping""#) => Ok(Command::Ping),
                _ => Err(RequestError::bad("a message has an \"action\"")),
            };
        };
        let action: Cow<'_, str> = value(action, "\"action\" is a string")?;
        match &*action {
            "auth" => Ok(Command::Auth(need(self.token, "auth needs \"token\", a string")?)),
            "subscribe" => Ok(Command::Subscribe { keys: Keys::read(self)?, since: self.since()? }),
            "unsubscribe" => Ok(Command::Unsubscribe(if self.has_keys() { Some(Keys::read(self)?) } else { None })),
            "publish" => self.publish(),
            "ping" => Ok(Command::Ping),
            "pong" => Ok(Command::Pong),
            _ => Err(RequestError::new("unknown_action", "actions are auth, subscribe, unsubscribe, publish, ping")),
        }
    }

    fn has_keys(&self) -> bool {
        [self.stream_id, self.execution_id, self.event_types, self.channel].iter().any(Option::is_some)
    }

    fn since(&self) -> Result<Option<Since>, RequestError> {
        let Some(since) = self.since else { return Ok(None) };
        if self.channel.is_none() && self.stream_id.is_none() {
            return Err(RequestError::bad("\"since\" goes with one channel: name it"));
        }
        // `0` may also be a number.
        let text = if since.get() == "0" { Cow::Borrowed("0") } else { string(since, "\"since\" is an id or \"0\"")? };
        Ok(text.parse().ok())
    }

    fn publish(&self) -> Result<Command, RequestError> {
        let channel: String = need(self.channel, "publish needs \"channel\", a string")?;
        let event = self.event.ok_or(RequestError::bad("publish needs \"event\", an object"))?;
        // Copied, so that an event that waits for the broker does not keep the whole message in memory.
        Ok(Command::Publish { channel: to_channel(&channel)?, event: Bytes::copy_from_slice(event.get().as_bytes()) })
    }
}

/// Parses a channel's name, or returns `bad_channel`.
pub(super) fn to_channel(name: &str) -> Result<Channel, RequestError> {
    name.parse().map_err(|bad: crewcast_events::BadChannel| RequestError::new("bad_channel", bad.to_string()))
}

/// Parses a value of some type, or returns `bad_message`.
pub(super) fn value<T: DeserializeOwned>(raw: &RawValue, expected: &'static str) -> Result<T, RequestError> {
    serde_json::from_str(raw.get()).map_err(|_| RequestError::bad(expected))
}

pub(super) fn string<'a>(raw: &'a RawValue, expected: &'static str) -> Result<Cow<'a, str>, RequestError> {
    value::<String>(raw, expected).map(Cow::Owned)
}

fn need<T: DeserializeOwned>(raw: Option<&RawValue>, expected: &'static str) -> Result<T, RequestError> {
    value(raw.ok_or(RequestError::bad(expected))?, expected)
}

fn reference(raw: &RawValue) -> Result<Ref, RequestError> {
    let text = raw.get();
    let is_one = text.len() <= MAX_REF && text.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
    if is_one {
        Ok(text.into())
    } else {
        Err(RequestError::bad("\"ref\" is a string or a number of at most 256 bytes"))
    }
}
