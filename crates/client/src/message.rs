//! Text messages of a gateway: events, and the gateway's own control messages.

use std::time::Duration;

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId, Rejected};
use serde::Deserialize;

/// One text message.
#[derive(Debug)]
pub(crate) enum Message {
    /// A producer's event.
    Event(Event),
    /// A producer's event in an envelope.
    Enveloped { channel: Channel, event: Event },
    /// `error`: a requested channel is refused.
    Refused { channel: Channel, code: String, reason: String },
    /// An answer that needs no action.
    Ack,
    /// `subscribed` to a channel that has no owner yet.
    Pending { channel: Channel, positions: Positions },
    /// `ping`: a heartbeat, which may hold the subscriber's positions.
    Ping { positions: Positions },
    /// `reset`: history changed or was trimmed. What follows does not continue the position.
    Reset { channel: Option<Channel>, reason: String, from: Option<EventId> },
    /// `gap`: live events were missed.
    Gap { channel: Option<Channel>, missed: Option<u64> },
    /// `skipped`: outdated progress was left out. `position` is the subscriber's new position.
    Skipped { channel: Option<Channel>, events: u64, position: Option<EventId> },
    /// `reconnect`: this replica drains.
    Reconnect { after: Duration },
    /// `broker` or `error`: passed on to the user.
    Notice(Event),
}

/// The fields of all control messages. All are optional, so that a newer gateway does not break this client.
#[derive(Deserialize)]
struct Control {
    source: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    channel: Option<Channel>,
    reason: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    from: Option<EventId>,
    #[serde(default)]
    position: Positions,
    missed: Option<u64>,
    #[serde(default)]
    events: u64,
    in_ms: Option<u64>,
}

/// The subscriber's position in each channel: `{"graph:abc":"7-…","graph:new":null}`.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Positions(serde_json::Value);

impl Positions {
    /// The last id of a channel.
    ///
    /// `Some(None)` for a channel that has had no event yet, `None` if the message does not name the channel.
    pub(crate) fn of(&self, channel: &Channel) -> Option<Option<EventId>> {
        match self.0.get(channel.as_str())? {
            serde_json::Value::Null => Some(None),
            id => id.as_str()?.parse().ok().map(Some),
        }
    }

    /// The id in a message about one channel.
    fn only(&self) -> Option<EventId> {
        self.0.as_str()?.parse().ok()
    }
}

/// Deserializes a string; a value that does not parse counts as missing.
pub(crate) fn lenient<'de, D: serde::Deserializer<'de>, T: std::str::FromStr>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_str().and_then(|text| text.parse().ok()))
}

impl Message {
    /// Parses a message.
    ///
    /// Producers may use the types of control messages, too. Only a message with `"source":"gateway"` that is not
    /// logged is a control message.
    pub(crate) fn parse(raw: Bytes) -> Result<Self, Rejected> {
        let event = Event::parse(raw)?;
        let kind = event.kind();
        if event.id().is_some()
            || !matches!(&*kind, "ping" | "reset" | "gap" | "skipped" | "reconnect" | "broker" | "error" | "subscribed")
        {
            drop(kind);
            return Ok(Message::Event(event));
        }
        let control = serde_json::from_slice::<Control>(event.raw()).ok();
        let Some(control) = control.filter(|control| control.source.as_deref() == Some("gateway")) else {
            drop(kind);
            return Ok(Message::Event(event));
        };
        Ok(match &*kind {
            "ping" | "subscribed" => Message::Ping { positions: control.position },
            "reset" => Message::Reset {
                channel: control.channel,
                reason: control.reason.unwrap_or_default(),
                from: control.from,
            },
            "gap" => Message::Gap { channel: control.channel, missed: control.missed },
            "skipped" => {
                Message::Skipped { channel: control.channel, events: control.events, position: control.position.only() }
            }
            "reconnect" => Message::Reconnect { after: Duration::from_millis(control.in_ms.unwrap_or(0)) },
            _ => {
                drop(kind);
                Message::Notice(event)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn only_messages_of_the_gateway_are_control_messages() {
        for event in [
            r#"{"type":"reset"}"#,
            r#"{"type":"reset","source":"tool"}"#,
            r#"{"type":"error","source":{"a":1},"message":"m"}"#,
            r#"{"id":"7-abcdefghijkl","type":"gap","source":"gateway"}"#,
            r#"{"type":"tool_start","source":"gateway"}"#,
        ] {
            assert!(matches!(read(event), Message::Event(e) if e.text() == event), "{event}");
        }
        assert!(matches!(read(r#"{"type":"broker","source":"gateway","up":false}"#), Message::Notice(_)));
        assert!(matches!(read(r#"{"type":"error","source":"gateway","code":"unknown_action"}"#), Message::Notice(_)));
    }

    #[test]
    fn reads_control_messages() {
        let id: EventId = "7-abcdefghijkl".parse().unwrap();
        let reset =
            r#"{"type":"reset","source":"gateway","channel":"graph:a","reason":"trimmed","from":"7-abcdefghijkl"}"#;
        let Message::Reset { channel, reason, from } = read(reset) else { panic!() };
        assert_eq!((channel.unwrap().as_str(), &*reason, from), ("graph:a", "trimmed", Some(id)));
        let Message::Reset { from: None, .. } = read(r#"{"type":"reset","source":"gateway","from":null}"#) else {
            panic!()
        };
        let gap = r#"{"type":"gap","source":"gateway","channel":"graph:a","missed":3}"#;
        assert!(matches!(read(gap), Message::Gap { missed: Some(3), .. }));
        let gap = r#"{"type":"gap","source":"gateway","channel":"graph:a","missed":null}"#;
        assert!(matches!(read(gap), Message::Gap { missed: None, channel: Some(_) }));
        let ping =
            r#"{"type":"ping","source":"gateway","position":{"graph:a":"7-abcdefghijkl","graph:b":null,"graph:c":7}}"#;
        let Message::Ping { positions } = read(ping) else { panic!() };
        let of = |channel: &str| positions.of(&channel.parse().unwrap());
        assert_eq!((of("graph:a"), of("graph:b")), (Some(Some(id)), Some(None)));
        assert_eq!((of("graph:c"), of("graph:d")), (None, None));
        assert!(matches!(read(r#"{"type":"ping","source":"gateway"}"#), Message::Ping { .. }));
        let skipped =
            r#"{"type":"skipped","source":"gateway","channel":"graph:a","events":3,"position":"7-abcdefghijkl"}"#;
        let Message::Skipped { channel, events, position } = read(skipped) else { panic!() };
        assert_eq!((channel.unwrap().as_str(), events, position), ("graph:a", 3, Some(id)));
        let reconnect = r#"{"type":"reconnect","source":"gateway","in_ms":250}"#;
        assert!(matches!(read(reconnect), Message::Reconnect { after } if after.as_millis() == 250));
    }

    #[test]
    fn bytes_that_are_not_an_event_are_refused() {
        assert!(Message::parse(Bytes::from_static(b"hello")).is_err());
    }
}
