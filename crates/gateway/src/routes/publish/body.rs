//! The body of a publish request: one JSON object, or one per line (NDJSON). Checks everything that needs neither a
//! token nor the broker.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use crewcast_events::{Body, BodyError, Channel, Event, Namespaces};
use crewcast_store::{LeaseStep, MAX_STATE_KEY, State, check_state_key};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    config::parse_duration,
    routes::{
        body::{at_line, json, malformed},
        problem::{Problem, ProblemType},
    },
};

/// Most lines of one request: bounds the memory that is used besides the body itself.
pub(crate) const MAX_LINES: usize = 10_000;
/// Longest `idempotency_key`, in characters.
pub(crate) const MAX_KEY: usize = 128;

/// One event to publish.
#[derive(Debug)]
pub(crate) struct PublishItem {
    /// The line of the body, counted from 1.
    pub line: usize,
    /// The channel to publish to.
    pub channel: Channel,
    /// How to publish.
    pub how: How,
}

/// How an event is published.
#[derive(Debug)]
pub(crate) enum How {
    /// Without a log.
    Live(Bytes),
    /// Into the log.
    Logged {
        /// The producer's object.
        body: Body,
        /// A state document that is set in the same step.
        state: Option<State>,
        /// A lease that is made, renewed or removed in the same step.
        lease: Option<LeaseStep>,
        /// The caller's idempotency key.
        key: Option<String>,
    },
}

/// The rules that an item is checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishRules<'a> {
    /// The configured namespaces.
    pub namespaces: &'a Namespaces,
    /// Most bytes of an event and of a state document: `limits.message`.
    pub max_event: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishRequest<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    event: &'a RawValue,
    idempotency_key: Option<String>,
    #[serde(borrow)]
    state: Option<StateRequest<'a>>,
    #[serde(borrow)]
    lease: Option<LeaseRequest<'a>>,
    #[serde(default)]
    live: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateRequest<'a> {
    key: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseRequest<'a> {
    name: String,
    ttl: Option<Ttl>,
    #[serde(borrow)]
    about: Option<&'a RawValue>,
    #[serde(default)]
    end: bool,
}

/// `30` or `"30s"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ttl {
    Seconds(u64),
    Text(String),
}

/// Parses a body. It is NDJSON if `ndjson` is set, or if it has several lines and the first is a JSON document.
///
/// # Errors
/// 400 and 413, with the line; nothing of the body is published then.
pub(crate) fn parse(text: &str, ndjson: bool, rules: PublishRules<'_>) -> Result<Vec<PublishItem>, Problem> {
    if !ndjson && !looks_like_lines(text) {
        let request: PublishRequest<'_> = json(text)?;
        return Ok(vec![item(request, 1, rules)?]);
    }
    let mut items = Vec::new();
    for (index, text) in text.split('\n').enumerate().filter(|(_, text)| !is_blank(text)) {
        let line = index + 1;
        if items.len() == MAX_LINES {
            let detail = format!("a request has at most {MAX_LINES} events: send it in parts");
            return Err(at_line(Problem::new(ProblemType::TooLarge, detail), line));
        }
        let request: PublishRequest<'_> = serde_json::from_str(text).map_err(|error| malformed(&error, line))?;
        items.push(item(request, line, rules).map_err(|problem| at_line(problem, line))?);
    }
    if items.is_empty() {
        return Err(Problem::new(ProblemType::Malformed, "the body holds no event"));
    }
    Ok(items)
}

fn looks_like_lines(text: &str) -> bool {
    let mut lines = text.split('\n').filter(|line| !is_blank(line));
    let (first, several) = (lines.next(), lines.next().is_some());
    several && first.is_some_and(|line| serde_json::from_str::<IgnoredAny>(line).is_ok())
}

/// Only JSON white space counts as blank: other characters are an error to report.
fn is_blank(line: &str) -> bool {
    line.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

fn item(request: PublishRequest<'_>, line: usize, rules: PublishRules<'_>) -> Result<PublishItem, Problem> {
    let channel = channel(&request.channel, rules.namespaces)?;
    let event = request.event.get();
    within("an event", event, rules.max_event)?;
    if request.live {
        if request.idempotency_key.is_some() || request.state.is_some() || request.lease.is_some() {
            let detail = "a live event has no \"idempotency_key\", \"state\" or \"lease\": they belong to the log";
            return Err(Problem::new(ProblemType::Malformed, detail));
        }
        return Ok(PublishItem { line, channel, how: How::Live(live(event)?) });
    }
    if rules.namespaces.of(&channel).is_some_and(|namespace| namespace.log.length == 0) {
        let detail = format!("the namespace {} keeps no log: say \"live\": true", channel.namespace());
        return Err(Problem::new(ProblemType::BadEvent, detail));
    }
    let body = Body::parse(Bytes::copy_from_slice(event.as_bytes())).map_err(bad_event)?;
    let state = request.state.map(|state| state_of(state, rules)).transpose()?;
    let key = request.idempotency_key.map(idempotency_key).transpose()?;
    let lease = request.lease.map(lease_of).transpose()?;
    Ok(PublishItem { line, channel, how: How::Logged { body, state, lease, key } })
}

/// Parses a channel's name from a request.
///
/// # Errors
/// 400 if it is not a channel name, or if its namespace is not configured.
pub(crate) fn channel(name: &str, namespaces: &Namespaces) -> Result<Channel, Problem> {
    let bad = |detail: String| Problem::new(ProblemType::BadChannel, detail);
    let channel: Channel = name.parse().map_err(|error: crewcast_events::BadChannel| bad(error.to_string()))?;
    if namespaces.of(&channel).is_none() {
        return Err(bad(format!("the namespace {} is not configured", channel.namespace())));
    }
    Ok(channel)
}

fn live(event: &str) -> Result<Bytes, Problem> {
    // Copied, so that a ring that keeps one event does not keep the whole request.
    let event = Event::parse(Bytes::copy_from_slice(event.as_bytes())).map_err(|why| bad_event(why.into()))?;
    Ok(event.raw().clone())
}

fn bad_event(why: BodyError) -> Problem {
    Problem::new(ProblemType::BadEvent, why.to_string())
}

fn state_of(state: StateRequest<'_>, rules: PublishRules<'_>) -> Result<State, Problem> {
    let key = state.key;
    check_state_key(&key).map_err(|_| bad_key("state.key", MAX_STATE_KEY))?;
    within("a state document", state.value.get(), rules.max_event)?;
    let value = (state.value.get() != "null").then(|| state.value.to_owned().into());
    Ok(State { key, value })
}

fn lease_of(lease: LeaseRequest<'_>) -> Result<LeaseStep, Problem> {
    let malformed = |detail: String| Problem::new(ProblemType::Malformed, format!("\"lease\": {detail}"));
    let name = lease.name.into();
    let ttl = match lease.ttl {
        Some(Ttl::Seconds(seconds)) => Some(Duration::from_secs(seconds)),
        Some(Ttl::Text(text)) => Some(parse_duration(&text).map_err(|why| malformed(format!("\"ttl\": {why}")))?),
        None => None,
    };
    let step = match (ttl, lease.end) {
        (Some(ttl), false) => LeaseStep::Hold { name, ttl, about: lease.about.map(|about| about.to_owned().into()) },
        (None, true) => LeaseStep::Release { name },
        _ => return Err(malformed("set \"ttl\" to hold or renew it, or \"end\": true to end it".to_owned())),
    };
    step.check().map_err(malformed)?;
    Ok(step)
}

fn within(what: &str, text: &str, max: usize) -> Result<(), Problem> {
    if text.len() <= max {
        return Ok(());
    }
    Err(Problem::new(ProblemType::TooLarge, format!("{what} has at most {max} bytes, this one has {}", text.len())))
}

fn idempotency_key(key: String) -> Result<String, Problem> {
    let fits = !key.is_empty() && key.chars().count() <= MAX_KEY && !key.chars().any(char::is_control);
    fits.then_some(key).ok_or_else(|| bad_key("idempotency_key", MAX_KEY))
}

fn bad_key(field: &str, most: usize) -> Problem {
    Problem::new(ProblemType::Malformed, format!("\"{field}\" is 1 to {most} printable characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, ndjson: bool) -> Result<Vec<PublishItem>, Problem> {
        parse(text, ndjson, PublishRules { namespaces: &Namespaces::default(), max_event: 1000 })
    }

    fn refused(text: &str) -> Problem {
        read(text, false).unwrap_err()
    }

    #[test]
    fn one_object_may_span_several_lines() {
        let items = read("{\"channel\":\"graph:a\",\n \"event\": {\"type\":\"x\",\n\"n\": 1.50} }\n", false).unwrap();
        let How::Logged { body, state: None, lease: None, key: None } = &items[0].how else { panic!("{items:?}") };
        assert_eq!(&body.object()[..], b"{\"type\":\"x\",\n\"n\": 1.50}");
    }

    #[test]
    fn ndjson_is_distinguished_from_one_object() {
        let line = r#"{"channel":"graph:a","event":{"type":"x"}}"#;
        for text in [format!("{line}\n{line}"), format!("\n{line}\r\n\n{line}\n")] {
            assert_eq!(read(&text, false).unwrap().len(), 2, "{text:?}");
        }
        assert_eq!(read(line, true).unwrap().len(), 1);
        assert_eq!(refused(&format!("{line}\n\n{{]")).detail(), "line 3, column 2: key must be a string");
        assert!(refused("{\n{").detail().starts_with("line 2, column 1: "));
        assert!(refused("").detail().starts_with("line 1, column 0: "));
        assert_eq!(read(" \n", true).unwrap_err().detail(), "the body holds no event");
    }

    #[test]
    fn unknown_and_duplicate_fields_are_named() {
        let problem = refused(r#"{"channel":"graph:a","event":{"type":"x"},"chanel":1}"#);
        assert!(problem.detail().contains("unknown field `chanel`"), "{}", problem.detail());
        let problem = refused(r#"{"channel":"graph:a","event":{"type":"x"},"state":{"key":"k","value":1,"ttl":3}}"#);
        assert!(problem.detail().contains("unknown field `ttl`"), "{}", problem.detail());
        let problem = refused(r#"{"channel":"graph:a","channel":"graph:b","event":{"type":"x"}}"#);
        assert!(problem.detail().contains("duplicate field `channel`"), "{}", problem.detail());
        assert!(refused(r#"{"channel":"graph:a"}"#).detail().contains("missing field `event`"));
    }

    #[test]
    fn size_limits_are_enforced() {
        let line = r#"{"channel":"graph:a","event":{"type":"x"}}"#;
        let lines = format!("{line}\n").repeat(MAX_LINES);
        assert_eq!(read(&lines, true).unwrap().len(), MAX_LINES);
        let problem = read(&format!("{lines}{line}"), true).unwrap_err();
        assert_eq!(problem.kind(), ProblemType::TooLarge);

        let sized = |n: usize| format!(r#"{{"channel":"graph:a","event":{{"type":"{}"}}}}"#, "x".repeat(n - 11));
        assert_eq!(refused(&sized(1000)).kind(), ProblemType::BadEvent);
        assert_eq!(refused(&sized(1001)).kind(), ProblemType::TooLarge);
        let state = |key: &str, value: &str| {
            format!(r#"{{"channel":"graph:a","event":{{"type":"x"}},"state":{{"key":"{key}","value":{value}}}}}"#)
        };
        assert!(read(&state(&"é".repeat(MAX_STATE_KEY), "null"), false).is_ok());
        assert_eq!(refused(&state(&"k".repeat(MAX_STATE_KEY + 1), "1")).kind(), ProblemType::Malformed);
        assert_eq!(refused(&state("", "1")).kind(), ProblemType::Malformed);
        assert_eq!(refused(&state("a\\nb", "1")).kind(), ProblemType::Malformed);
        let keyed = |n: usize| {
            let key = "k".repeat(n);
            format!(r#"{{"channel":"graph:a","event":{{"type":"x"}},"idempotency_key":"{key}"}}"#)
        };
        assert!(read(&keyed(MAX_KEY), false).is_ok());
        assert_eq!(refused(&keyed(MAX_KEY + 1)).kind(), ProblemType::Malformed);
        assert_eq!(refused(&state("k", &format!("\"{}\"", "x".repeat(999)))).kind(), ProblemType::TooLarge);
    }

    #[test]
    fn a_state_document_keeps_its_bytes_and_null_removes_it() {
        let with = |value: &str| {
            let text =
                format!(r#"{{"channel":"graph:a","event":{{"type":"x"}},"state":{{"key":"k","value":{value}}}}}"#);
            match read(&text, false).unwrap().remove(0).how {
                How::Logged { state: Some(state), .. } => state.value.map(|value| value.get().to_owned()),
                how => panic!("{how:?}"),
            }
        };
        assert_eq!(with("{ \"n\": 1.50 }").as_deref(), Some("{ \"n\": 1.50 }"));
        assert_eq!(with("null"), None);
    }

    #[test]
    fn a_lease_is_held_or_ended() {
        let with = |lease: &str| {
            let text = format!(r#"{{"channel":"tracking:a","event":{{"type":"x"}},"lease":{lease}}}"#);
            read(&text, false).map(|mut items| match items.remove(0).how {
                How::Logged { lease: Some(lease), .. } => lease.wire(),
                how => panic!("{how:?}"),
            })
        };
        assert_eq!(with(r#"{"name":"s1","ttl":"30s"}"#).unwrap(), "hold 30000 s1 ");
        let about = r#"{"name":"s1","ttl":30,"about":{"session_id": "s1"}}"#;
        assert_eq!(with(about).unwrap(), r#"hold 30000 s1 {"session_id": "s1"}"#);
        assert_eq!(with(r#"{"name":"s1","end":true}"#).unwrap(), "release 0 s1");
        for wrong in [
            r#"{"name":"s1"}"#,
            r#"{"name":"s1","ttl":1,"end":true}"#,
            r#"{"name":"a b","ttl":30}"#,
            r#"{"name":"s1","ttl":0}"#,
            r#"{"name":"s1","ttl":"soon"}"#,
            r#"{"name":"s1","ttl":30,"about":[1]}"#,
            r#"{"name":"s1","ttl":30,"owner":"x"}"#,
        ] {
            assert_eq!(with(wrong).unwrap_err().kind(), ProblemType::Malformed, "{wrong}");
        }
    }

    #[test]
    fn live_and_logged_events_have_different_rules() {
        let live = |more: &str| format!(r#"{{"channel":"graph:a","event":{{"id":7,"type":"x"}},"live":true{more}}}"#);
        assert!(
            matches!(&read(&live(""), false).unwrap()[0].how, How::Live(raw) if &raw[..] == br#"{"id":7,"type":"x"}"#)
        );
        assert_eq!(refused(&live(r#","idempotency_key":"k""#)).kind(), ProblemType::Malformed);
        assert_eq!(refused(&live(r#","state":{"key":"k","value":1}"#)).kind(), ProblemType::Malformed);
        assert_eq!(refused(&live(r#","lease":{"name":"n","ttl":9}"#)).kind(), ProblemType::Malformed);
        assert_eq!(refused(r#"{"channel":"graph:a","event":{"id":7,"type":"x"}}"#).kind(), ProblemType::BadEvent);

        let mut namespaces = Namespaces::default();
        namespaces.0.get_mut("graph").unwrap().log.length = 0;
        let rules = PublishRules { namespaces: &namespaces, max_event: 1000 };
        assert!(parse(&live(""), false, rules).is_ok());
        let problem = parse(r#"{"channel":"graph:a","event":{"type":"x"}}"#, false, rules).unwrap_err();
        assert!(problem.detail().contains("keeps no log"), "{}", problem.detail());
    }
}
