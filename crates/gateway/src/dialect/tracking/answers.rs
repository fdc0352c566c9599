//! The messages of this dialect. What producers wrote is spliced in as it is. Timestamps of messages are Unix seconds,
//! those inside are the producers'.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Event, timestamp};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{json, value::RawValue};

use crate::{
    dialect::{Action, control},
    hub::{Encoding, Entry},
    replay::StateDocuments,
    transport::frame::text_frame,
};

/// The list of active sessions, as the field `data` has it. What is no object is none.
pub fn sessions(state: &StateDocuments) -> String {
    let documents = state.documents.iter().filter_map(|(_, document)| object(document));
    let listed: Vec<&str> = documents.collect();
    format!(r#"{{"total_sessions":{},"sessions":[{}]}}"#, listed.len(), listed.join(","))
}

/// `active_sessions` with that.
pub fn active_sessions(data: &str) -> Action {
    send(&format!(r#"{{"type":"active_sessions","timestamp":{},"data":{data}}}"#, now()))
}

/// `session_state` as it was asked for; `None` when the document is no object.
pub fn session_state(session: &str, document: &[u8]) -> Option<Action> {
    Some(send(&state_text(session, object(document)?, &now())))
}

/// `session_state` of an event, made once for all sockets; `None` when it does not say the state.
pub fn state_changed(session: &str, entry: &Arc<Entry>) -> Option<Action> {
    #[derive(Deserialize)]
    struct Change<'a> {
        #[serde(borrow)]
        state: &'a RawValue,
    }
    let change: Change<'_> = serde_json::from_str(entry.event()?.text()).ok()?;
    let frame =
        entry.encoded(Encoding::Tracking, || control::frame(&state_text(session, change.state.get(), &time_of(entry))));
    Some(Action::Deliver(frame, Encoding::Tracking, entry.clone()))
}

/// `session_logs` as they were asked for.
pub fn session_logs(session: &str, lines: &[Arc<Entry>]) -> Action {
    send(&logs_text(session, lines, &now()))
}

/// `session_logs` of what is streamed. One line alone is made once for all sockets.
pub fn streamed(session: &str, lines: &[Arc<Entry>]) -> Action {
    if let [line] = lines {
        let frame = line.encoded(Encoding::Tracking, || control::frame(&logs_text(session, lines, &time_of(line))));
        return Action::Deliver(frame, Encoding::Tracking, line.clone());
    }
    Action::DeliverBatch { frame: control::frame(&logs_text(session, lines, &now())), events: lines.len() }
}

/// An event as it is.
pub fn event(event: &Event, entry: &Arc<Entry>) -> Action {
    let frame = entry.encoded(Encoding::RawFrame, || text_frame(event.raw()));
    Action::Deliver(frame, Encoding::RawFrame, entry.clone())
}

/// `ping`.
pub fn ping() -> Action {
    let timestamp = serde_json::from_str(&now()).unwrap_or_default();
    send(&control::message("ping", &[("timestamp", timestamp)]))
}

/// `error`.
pub fn error(code: &str, message: &str) -> Action {
    send(&control::error(code, message))
}

/// `error`: there is no such session, or none for this token.
pub fn unknown_session() -> Action {
    error("unknown_session", "the session is unknown, or the token does not grant it")
}

fn state_text(session: &str, state: &str, timestamp: &str) -> String {
    format!(r#"{{"type":"session_state","session_id":{},"state":{state},"timestamp":{timestamp}}}"#, json!(session))
}

fn logs_text(session: &str, lines: &[Arc<Entry>], timestamp: &str) -> String {
    let mut text = format!(r#"{{"type":"session_logs","session_id":{},"logs":["#, json!(session));
    for (n, event) in lines.iter().filter_map(|line| line.event()).enumerate() {
        text.push_str(if n > 0 { "," } else { "" });
        text.push_str(event.text());
    }
    // Writing to a String cannot fail.
    let _ = write!(text, r#"],"timestamp":{timestamp}}}"#);
    text
}

/// The text of a JSON object.
fn object(document: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(document).ok()?.trim();
    let is_object = text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
    is_object.then_some(text)
}

fn send(text: &str) -> Action {
    let frame: Bytes = control::frame(text);
    Action::Send(frame)
}

/// When an event was published, or now.
fn time_of(entry: &Entry) -> String {
    entry.published_at().map_or_else(now, seconds)
}

fn now() -> String {
    seconds(timestamp::since_epoch())
}

/// Unix seconds with a fraction.
fn seconds(since_epoch: Duration) -> String {
    format!("{}.{:03}", since_epoch.as_secs(), since_epoch.subsec_millis())
}
