//! Events: the producer's bytes, validated once and never serialized again.

use std::{borrow::Cow, fmt};

use bytes::Bytes;

use crate::{
    EventId,
    scan::{Scanned, has_key, scan},
};

/// The beginning of a logged message.
const ID_PREFIX: &str = r#"{"id":""#;

/// Longest `type` of an event, in characters.
pub const MAX_TYPE_LEN: usize = 128;

/// A field that gateways read if it is present. Gateways ignore all other fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Field {
    Type,
    CrewId,
    RunId,
    StreamId,
    ExecutionId,
    SessionId,
    AgentId,
    Timestamp,
    Traceparent,
}

impl Field {
    pub(crate) const COUNT: usize = 9;
    #[cfg(test)]
    pub(crate) const ALL: [Field; Self::COUNT] = [
        Field::Type,
        Field::CrewId,
        Field::RunId,
        Field::StreamId,
        Field::ExecutionId,
        Field::SessionId,
        Field::AgentId,
        Field::Timestamp,
        Field::Traceparent,
    ];

    /// The field with this key. A `match`, because this runs for each key of each event.
    pub(crate) fn of(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"type" => Field::Type,
            b"crew_id" => Field::CrewId,
            b"run_id" => Field::RunId,
            b"stream_id" => Field::StreamId,
            b"execution_id" => Field::ExecutionId,
            b"session_id" => Field::SessionId,
            b"agent_id" => Field::AgentId,
            b"timestamp" => Field::Timestamp,
            b"traceparent" => Field::Traceparent,
            _ => return None,
        })
    }

    /// The key in the JSON object.
    pub fn name(self) -> &'static str {
        match self {
            Field::Type => "type",
            Field::CrewId => "crew_id",
            Field::RunId => "run_id",
            Field::StreamId => "stream_id",
            Field::ExecutionId => "execution_id",
            Field::SessionId => "session_id",
            Field::AgentId => "agent_id",
            Field::Timestamp => "timestamp",
            Field::Traceparent => "traceparent",
        }
    }
}

/// One event as sent on the wire: valid UTF-8, and one JSON object with a string `type`.
#[derive(Clone)]
pub struct Event {
    raw: Bytes,
    id: Option<EventId>,
    scanned: Scanned,
}

/// Why bytes are not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The bytes are not UTF-8.
    #[error("an event is valid UTF-8")]
    NotUtf8,
    /// The text is not one JSON object (RFC 8259).
    #[error("an event is one JSON object")]
    NotAnObject,
    /// `type` is missing or is not a string.
    #[error("an event has a string \"type\"")]
    NoType,
    /// The type is empty, too long, or has control characters.
    #[error("an event's \"type\" is 1 to 128 printable characters")]
    BadType,
}

impl Rejected {
    /// The value of the `reason` label of `crewcast_events_rejected_total`.
    pub fn label(self) -> &'static str {
        match self {
            Rejected::NotUtf8 => "not_utf8",
            Rejected::NotAnObject => "not_an_object",
            Rejected::NoType => "no_type",
            Rejected::BadType => "bad_type",
        }
    }
}

impl Event {
    /// Validates a message.
    ///
    /// A message that begins exactly with `{"id":"<offset>-<tag>",` looks logged, and [`Event::id`] returns that id.
    /// Only the channel's chain or log can confirm that it is logged; see [`Event::into_live`].
    ///
    /// # Errors
    /// [`Rejected`] says which rule the message breaks.
    pub fn parse(raw: Bytes) -> Result<Self, Rejected> {
        let text = std::str::from_utf8(&raw).map_err(|_| Rejected::NotUtf8)?;
        let scanned = scan(text).map_err(|_| Rejected::NotAnObject)?;
        let id = EventId::of_message(&raw);
        let event = Self { raw, id, scanned };
        let kind = event.field(Field::Type).ok_or(Rejected::NoType)?;
        let is_plain = kind.len() <= MAX_TYPE_LEN && kind.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let is_too_long = || kind.chars().count() > MAX_TYPE_LEN;
        if kind.is_empty() || (!is_plain && (is_too_long() || kind.chars().any(char::is_control))) {
            return Err(Rejected::BadType);
        }
        drop(kind);
        Ok(event)
    }

    /// The bytes as they were published.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The bytes as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.raw).unwrap_or_default()
    }

    /// The producer's object after its opening brace, byte for byte, without the id that the log has added.
    ///
    /// `None` for a live event: all its bytes are the producer's.
    pub fn logged_tail(&self) -> Option<&[u8]> {
        self.id?;
        let id = self.raw.get(ID_PREFIX.len()..)?;
        let quote = id.iter().position(|&byte| byte == b'"')?;
        // The quotation mark and the comma.
        id.get(quote + 2..)
    }

    /// The id of a logged event; `None` for a live event.
    pub fn id(&self) -> Option<EventId> {
        self.id
    }

    /// The same bytes as a live event, for messages that only look logged.
    pub fn into_live(self) -> Self {
        Self { id: None, ..self }
    }

    /// Whether the object has this top-level key. Scans the whole event again.
    pub fn has_key(&self, key: &str) -> bool {
        has_key(self.text(), key)
    }

    /// The event's `type`.
    pub fn kind(&self) -> Cow<'_, str> {
        self.field(Field::Type).unwrap_or_default()
    }

    /// A field's value, unescaped; `None` when the field is missing or is not a string.
    pub fn field(&self, field: Field) -> Option<Cow<'_, str>> {
        // Checks UTF-8 for this field only, not for the whole text.
        let quoted = std::str::from_utf8(self.raw.get(self.scanned.spans[field as usize].range()?)?).ok()?;
        let inner = &quoted[1..quoted.len() - 1];
        if inner.contains('\\') {
            // A lone surrogate is valid JSON but not text: the field then counts as missing.
            return serde_json::from_str(quoted).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(inner))
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A producer's object that may be logged: an event without a top-level `id` and without surrounding white space.
#[derive(Clone, Debug)]
pub struct Body {
    object: Bytes,
    kind: String,
}

/// Why an object cannot be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The object is not an event.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The object has a top-level `id`.
    #[error("a logged event has no \"id\" of its own: the key is Crewcast's. Rename the field, or publish live")]
    HasId,
}

impl Body {
    /// Validates a producer's object.
    ///
    /// # Errors
    /// [`BodyError`] when the object is not an event or has a top-level `id`.
    pub fn parse(raw: impl Into<Bytes>) -> Result<Self, BodyError> {
        let raw: Bytes = raw.into();
        let object = raw.slice_ref(raw.trim_ascii());
        let event = Event::parse(object)?;
        if event.scanned.has_id {
            return Err(BodyError::HasId);
        }
        let kind = event.kind().into_owned();
        Ok(Self { object: event.raw, kind })
    }

    /// The object, from `{` to `}`.
    pub fn object(&self) -> &Bytes {
        &self.object
    }

    /// The bytes after the opening brace. The append script puts `{"id":"…",` before them.
    pub fn tail(&self) -> &[u8] {
        &self.object[1..]
    }

    /// The event's `type`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The message that the log holds and Redis publishes: the object with `id` as its first key.
    pub fn with_id(&self, id: EventId) -> Bytes {
        let mut message = Vec::with_capacity(self.object.len() + 40);
        message.extend_from_slice(format!(r#"{{"id":"{id}","#).as_bytes());
        message.extend_from_slice(self.tail());
        message.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Event, Rejected> {
        Event::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn reads_fields_and_keeps_bytes() {
        let text = "  {\"n\":1.50, \"type\" : \"tool\\u005fstart\",\
            \"crew_id\":\"a\\\"b\",\"run_id\":7,\"deep\":{\"type\":3}} ";
        let event = parse(text).unwrap();
        assert_eq!(event.text(), text);
        assert_eq!(event.kind(), "tool_start");
        assert_eq!(event.field(Field::CrewId).as_deref(), Some("a\"b"));
        assert_eq!(event.field(Field::RunId), None);
    }

    #[test]
    fn keys_are_found_at_the_top_level_only_and_in_any_spelling() {
        let event = parse(r#"{"type":"x","m\u0065":null,"deep":{"you":1},"a":"them"}"#).unwrap();
        for (key, has) in [("me", true), ("you", false), ("them", false), ("deep", true), ("m", false), ("", false)] {
            assert_eq!(event.has_key(key), has, "{key}");
        }
        assert!(parse(r#"{"\ud800":1,"type":"x","me":1}"#).unwrap().has_key("me"));
    }

    #[test]
    fn each_field_is_found_by_its_name() {
        for field in Field::ALL {
            assert_eq!(Field::of(field.name().as_bytes()), Some(field));
        }
        assert_eq!(Field::of(b"types"), None);
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        assert_eq!(parse(r#"{"type":"a","type":"b"}"#).unwrap().kind(), "b");
        assert_eq!(parse(r#"{"type":"a","type":1}"#).unwrap_err(), Rejected::NoType);
    }

    #[test]
    fn lone_surrogates_are_accepted_outside_the_type() {
        for odd in [r#"{"\ud800":1,"type":"x"}"#, r#"{"type":"x","a":{"\udfff":"\ud800"}}"#] {
            assert_eq!(parse(odd).unwrap().kind(), "x", "{odd}");
        }
        assert_eq!(parse(r#"{"type":"\ud800"}"#).unwrap_err(), Rejected::NoType);
    }

    #[test]
    fn says_why_bytes_are_not_an_event() {
        assert_eq!(Event::parse(Bytes::from_static(b"{\"type\":\"\xff\"}")).unwrap_err(), Rejected::NotUtf8);
        for bad in [
            "",
            "{",
            "[]",
            "null",
            "\"type\"",
            r#"{"type":"a"} x"#,
            r#"{"type":"a",}"#,
            "{'type':'a'}",
            r#"{"type":"a","n":01}"#,
        ] {
            assert_eq!(parse(bad).unwrap_err(), Rejected::NotAnObject, "{bad}");
        }
        assert_eq!(parse("{}").unwrap_err(), Rejected::NoType);
        for bad in [
            r#"{"type":""}"#.to_owned(),
            r#"{"type":"a\nb"}"#.to_owned(),
            format!(r#"{{"type":"{}"}}"#, "x".repeat(129)),
        ] {
            assert_eq!(parse(&bad).unwrap_err(), Rejected::BadType, "{bad}");
        }
        assert!(parse(&format!(r#"{{"type":"{}"}}"#, "é".repeat(128))).is_ok());
    }

    #[test]
    fn deep_nesting_does_not_crash() {
        let deep = format!(r#"{{"type":"a","x":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
        assert!(parse(&deep).is_ok());
    }

    #[test]
    fn a_body_has_no_id_and_gets_one() {
        let body = Body::parse(&b" {\"type\":\"x\", \"n\":1.50}\n"[..]).unwrap();
        let message = body.with_id(EventId::after(None, *b"abcdef"));
        assert_eq!(&message[..], br#"{"id":"1-000000abcdef","type":"x", "n":1.50}"#);
        let event = Event::parse(message).unwrap();
        assert_eq!(event.id().unwrap().offset(), 1);
        assert_eq!(event.logged_tail(), Some(body.tail()));
        assert_eq!(event.into_live().logged_tail(), None);
        for bad in [r#"{"id":1,"type":"x"}"#, r#"{"type":"x","\u0069d":null}"#] {
            assert_eq!(Body::parse(bad.as_bytes()).unwrap_err(), BodyError::HasId);
        }
        assert!(Body::parse(&br#"{"type":"x","data":{"id":1}}"#[..]).is_ok());
    }
}
