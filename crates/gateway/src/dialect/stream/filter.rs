//! The filter of a subscription: the keys that a client sends, and which events pass.

use crewcast_events::{Channel, Event, Field, MAX_TYPE_LEN};

use super::request::{RawMessage, RequestError, string, to_channel, value};

/// The namespace of `{"action":"subscribe"}` without a channel, and of `stream_id`.
pub(super) const STREAMS: &str = "stream";
/// A subscription keeps its types for its lifetime and compares each event with them.
const MAX_TYPES: usize = 64;
/// Longest `execution_id`, in bytes.
const MAX_EXECUTION: usize = 256;

/// The channels of a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ChannelScope {
    /// Every stream granted.
    Streams,
    /// One channel.
    Channel(Channel),
}

/// The keys that identify a subscription: equal keys are the same subscription.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) scope: ChannelScope,
    execution_id: Option<String>,
    /// In lower case and sorted; empty: all types.
    event_types: Box<[String]>,
    /// The keys as the client wrote them, each preceded by a comma.
    pub(super) text: Box<str>,
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        let parts = |keys: &Self| (keys.scope.clone(), keys.execution_id.clone(), keys.event_types.clone());
        parts(self) == parts(other)
    }
}

impl Keys {
    /// Reads the keys of a message.
    pub(super) fn read(message: &RawMessage<'_>) -> Result<Self, RequestError> {
        let execution_id = match message.execution_id {
            Some(raw) => Some(string(raw, "\"execution_id\" is a string")?.into_owned()),
            None => None,
        };
        if execution_id.as_ref().is_some_and(|id| id.len() > MAX_EXECUTION) {
            return Err(RequestError::new("bad_message", "\"execution_id\" has at most 256 bytes"));
        }
        let event_types = match message.event_types {
            Some(raw) => types(value(raw, "\"event_types\" is a list of strings")?)?,
            None => Box::default(),
        };
        Ok(Self { scope: scope(message)?, execution_id, event_types, text: text(message) })
    }

    /// Whether an event of a channel in scope passes the filter.
    pub(super) fn let_through(&self, event: &Event) -> bool {
        let is_of = |id: &String| event.field(Field::ExecutionId).as_deref() == Some(id);
        self.execution_id.as_ref().is_none_or(is_of) && self.take_type(&event.kind())
    }

    fn take_type(&self, kind: &str) -> bool {
        if self.event_types.is_empty() {
            return true;
        }
        if kind.is_ascii() {
            return self.event_types.iter().any(|known| known.eq_ignore_ascii_case(kind));
        }
        self.event_types.contains(&kind.to_lowercase())
    }
}

fn scope(message: &RawMessage<'_>) -> Result<ChannelScope, RequestError> {
    match (message.channel, message.stream_id) {
        (Some(_), Some(_)) => Err(RequestError::new("bad_message", "\"channel\" or \"stream_id\", not both")),
        (Some(raw), None) => Ok(ChannelScope::Channel(to_channel(&string(raw, "\"channel\" is a string")?)?)),
        (None, Some(raw)) => {
            let id = string(raw, "\"stream_id\" is a string")?;
            Ok(ChannelScope::Channel(to_channel(&format!("{STREAMS}:{id}"))?))
        }
        (None, None) => Ok(ChannelScope::Streams),
    }
}

fn types(mut types: Vec<String>) -> Result<Box<[String]>, RequestError> {
    if types.len() > MAX_TYPES || types.iter().any(|kind| kind.chars().count() > MAX_TYPE_LEN) {
        return Err(RequestError::new("bad_message", "\"event_types\" are at most 64, each of at most 128 characters"));
    }
    types.iter_mut().for_each(|kind| *kind = kind.to_lowercase());
    types.sort_unstable();
    types.dedup();
    Ok(types.into())
}

fn text(message: &RawMessage<'_>) -> Box<str> {
    let keys = [
        ("channel", message.channel),
        ("stream_id", message.stream_id),
        ("execution_id", message.execution_id),
        ("event_types", message.event_types),
    ];
    let named = keys.iter().filter_map(|(key, raw)| Some((key, raw.as_ref()?)));
    named.map(|(key, raw)| format!(r#","{key}":{}"#, raw.get())).collect::<String>().into()
}
