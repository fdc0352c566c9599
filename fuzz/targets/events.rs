//! Events: the one pass that validates them and finds the fields that gateways read.
#![no_main]

use bytes::Bytes;
use crewcast_events::{Body, BodyError, Event, EventId, Field, Rejected, SubjectFields};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// The object as serde_json reads it; `None` also for what only serde_json refuses (depth, lone surrogates).
fn object(input: &[u8]) -> Option<serde_json::Map<String, Value>> {
    match serde_json::from_slice(input) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

fn check_event(event: &Event, input: &[u8]) {
    assert_eq!(&event.raw()[..], input, "the bytes stay the producer's");
    assert!((1..=128).contains(&event.kind().chars().count()) && !event.kind().contains(char::is_control));
    if let Some(id) = event.id() {
        let prefix = format!(r#"{{"id":"{id}","#);
        let tail = event.logged_tail().expect("a logged event");
        assert_eq!([prefix.as_bytes(), tail].concat(), input);
    }
    assert_eq!(event.clone().into_live().logged_tail(), None);
    if let Some(object) = object(input) {
        for field in [Field::Type, Field::CrewId, Field::RunId, Field::AgentId, Field::Timestamp, Field::Traceparent] {
            assert_eq!(event.field(field).as_deref(), object.get(field.name()).and_then(Value::as_str), "{field:?}");
        }
        for key in object.keys() {
            assert!(event.has_key(key), "{key}");
        }
    }
    let _ = SubjectFields::of(event.text());
}

fn check_body(body: &Body) {
    let id = EventId::after(None, *b"abcdef");
    let message = body.with_id(id);
    let logged = Event::parse(message).expect("a body with an id is an event");
    assert_eq!((logged.id(), logged.logged_tail()), (Some(id), Some(body.tail())));
    assert_eq!(logged.kind(), body.kind());
    assert!(body.object().starts_with(b"{") && body.object().ends_with(b"}"));
}

fuzz_target!(|input: &[u8]| {
    let event = Event::parse(Bytes::copy_from_slice(input));
    match &event {
        Ok(event) => check_event(event, input),
        Err(Rejected::NotUtf8) => assert!(std::str::from_utf8(input).is_err()),
        Err(Rejected::NotAnObject) => assert_eq!(object(input), None),
        Err(_) => {}
    }
    match Body::parse(Bytes::copy_from_slice(input)) {
        Ok(body) => check_body(&body),
        Err(BodyError::HasId) => assert!(event.is_ok_and(|event| event.has_key("id"))),
        Err(_) => assert!(Event::parse(Bytes::copy_from_slice(input.trim_ascii())).is_err()),
    }
});
