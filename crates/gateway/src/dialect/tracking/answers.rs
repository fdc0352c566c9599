//! The messages of this dialect. JSON from producers is inserted unchanged. Timestamps of messages are Unix seconds;
//! timestamps inside are the producers'.

use std::{borrow::Cow, fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Event, timestamp};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{json, value::RawValue};

use crate::{
    dialect::{Action, control, encoding},
    hub::Entry,
    replay::StateDocuments,
};
use crewcast_websocket::frame::text_frame;

/// The list of active sessions, as the value of the field `data`. Documents that are not objects are left out. The
/// sessions of a live list follow, unless a document tells of them.
pub(crate) fn sessions(state: &StateDocuments) -> String {
    let documents = state.documents.iter().filter_map(|(key, document)| Some((key, object(document)?)));
    let (known, mut listed): (Vec<&String>, Vec<&str>) = documents.unzip();
    let live: Option<LiveList<'_>> = state.live.as_ref().and_then(|message| serde_json::from_slice(message).ok());
    for session in live.iter().flat_map(|live| &live.data.sessions) {
        let id = serde_json::from_str(session.get()).map(|SessionId { session_id }| session_id);
        if id.is_ok_and(|id| known.iter().all(|known| **known != id)) {
            listed.push(session.get());
        }
    }
    format!(r#"{{"total_sessions":{},"sessions":[{}]}}"#, listed.len(), listed.join(","))
}

#[derive(Deserialize)]
struct LiveList<'a> {
    #[serde(borrow)]
    data: LiveSessions<'a>,
}

#[derive(Deserialize)]
struct LiveSessions<'a> {
    #[serde(borrow)]
    sessions: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct SessionId<'a> {
    #[serde(borrow)]
    session_id: Cow<'a, str>,
}

/// A live message as its producer wrote it.
pub(crate) fn unchanged(message: &Bytes) -> Action {
    Action::Send(text_frame(message))
}

/// `active_sessions` with this `data`.
pub(crate) fn active_sessions(data: &str) -> Action {
    send(&format!(r#"{{"type":"active_sessions","timestamp":{},"data":{data}}}"#, now()))
}

/// `session_state` as the answer to a request; `None` if the document is not an object.
pub(crate) fn session_state(session: &str, document: &[u8]) -> Option<Action> {
    Some(send(&state_text(session, object(document)?, &now())))
}

/// `session_state` for an event, encoded once for all sockets; `None` if the event contains no state.
pub(crate) fn state_changed(session: &str, entry: &Arc<Entry>) -> Option<Action> {
    #[derive(Deserialize)]
    struct Change<'a> {
        #[serde(borrow)]
        state: &'a RawValue,
    }
    let change: Change<'_> = serde_json::from_str(entry.event()?.text()).ok()?;
    let frame =
        entry.encoded(encoding::TRACKING, || control::frame(&state_text(session, change.state.get(), &time_of(entry))));
    Some(Action::Deliver(frame, encoding::TRACKING, entry.clone()))
}

/// `session_logs` as the answer to a request, with the lines of live events behind the others.
pub(crate) fn session_logs(session: &str, lines: &[Arc<Entry>], live: &[String]) -> Action {
    send(&logs_text(session, lines, live, &now()))
}

/// `session_logs` of a streamed log. A single line is encoded once for all sockets.
pub(crate) fn streamed(session: &str, lines: &[Arc<Entry>]) -> Action {
    if let [line] = lines {
        let frame =
            line.encoded(encoding::TRACKING, || control::frame(&logs_text(session, lines, &[], &time_of(line))));
        return Action::Deliver(frame, encoding::TRACKING, line.clone());
    }
    Action::DeliverBatch { frame: control::frame(&logs_text(session, lines, &[], &now())), events: lines.len() }
}

/// An event, unchanged.
pub(crate) fn event(event: &Event, entry: &Arc<Entry>) -> Action {
    let frame = entry.encoded(encoding::RAW_FRAME, || text_frame(event.raw()));
    Action::Deliver(frame, encoding::RAW_FRAME, entry.clone())
}

/// `ping`.
pub(crate) fn ping() -> Action {
    let timestamp = serde_json::from_str(&now()).unwrap_or_default();
    send(&control::message("ping", &[("timestamp", timestamp)]))
}

/// `pong`: the answer to a page's own `ping`.
pub(crate) fn pong() -> Action {
    send(&format!(r#"{{"type":"pong","timestamp":{}}}"#, now()))
}

/// `error`.
pub(crate) fn error(code: &str, message: &str) -> Action {
    send(&control::error(code, message))
}

/// `error`: the session does not exist, or the token does not grant it.
pub(crate) fn unknown_session() -> Action {
    error("unknown_session", "the session is unknown, or the token does not grant it")
}

fn state_text(session: &str, state: &str, timestamp: &str) -> String {
    format!(r#"{{"type":"session_state","session_id":{},"state":{state},"timestamp":{timestamp}}}"#, json!(session))
}

fn logs_text(session: &str, lines: &[Arc<Entry>], live: &[String], timestamp: &str) -> String {
    let mut text = format!(r#"{{"type":"session_logs","session_id":{},"logs":["#, json!(session));
    let logged = lines.iter().filter_map(|line| line.event()).map(Event::text);
    for (n, line) in logged.chain(live.iter().map(String::as_str)).enumerate() {
        text.push_str(if n > 0 { "," } else { "" });
        text.push_str(line);
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

/// When the event was published, or now.
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
