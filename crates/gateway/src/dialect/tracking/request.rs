//! The client's side of this dialect: its id and its messages.

use crewcast_events::Channel;
use serde::Deserialize;

/// Most characters of a client id.
const MAX_ID: usize = 128;

/// Whether a client id is valid: `^[A-Za-z0-9._-]{1,128}$`, strictly also `^client_[0-9]+_[a-z0-9]+$`.
pub(crate) fn is_client_id(id: &str, strict: bool) -> bool {
    let all = |text: &str, is: fn(u8) -> bool| !text.is_empty() && text.bytes().all(is);
    let is_sound =
        id.len() <= MAX_ID && all(id, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let is_strict = || {
        let (number, name) = id.strip_prefix("client_").and_then(|rest| rest.split_once('_')).unwrap_or_default();
        all(number, |byte| byte.is_ascii_digit())
            && all(name, |byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
    };
    is_sound && (!strict || is_strict())
}

/// A client's message.
#[derive(Debug, PartialEq)]
pub(crate) enum TrackingRequest {
    /// The answer to `ping`.
    Pong,
    /// Asks for a session's log.
    Logs(Channel),
    /// Asks for a session's state.
    State(Channel),
    /// Starts streaming a session's log.
    Start {
        /// The session.
        channel: Channel,
        /// Whether lines that the socket has been sent are sent again.
        backlog: bool,
    },
    /// Stops streaming.
    Stop,
    /// A fresh token.
    Token(String),
}

/// Why a message is refused.
#[derive(Debug, PartialEq)]
pub(crate) enum Ignored {
    /// What is wrong with the message.
    BadMessage(&'static str),
    /// No session can have this id.
    UnknownSession,
}

#[derive(Deserialize)]
struct RawRequest {
    #[serde(rename = "type")]
    kind: Option<String>,
    session_id: Option<String>,
    #[serde(default)]
    backlog: bool,
    action: Option<String>,
    token: Option<String>,
}

impl TrackingRequest {
    /// Reads a text message.
    pub(crate) fn read(text: &str) -> Result<Self, Ignored> {
        let bad = Ignored::BadMessage;
        let message: RawRequest =
            serde_json::from_str(text).map_err(|_| bad("not a JSON object with a text \"type\" and \"session_id\""))?;
        if let (Some("auth"), Some(token)) = (message.action.as_deref(), message.token) {
            return Ok(TrackingRequest::Token(token));
        }
        let session = || {
            let id = message.session_id.as_deref().ok_or(bad("\"session_id\" is missing"))?;
            Channel::new("session", id).map_err(|_| Ignored::UnknownSession)
        };
        match message.kind.as_deref() {
            Some("pong") => Ok(TrackingRequest::Pong),
            Some("get_session_logs") => session().map(TrackingRequest::Logs),
            Some("get_session_state") => session().map(TrackingRequest::State),
            Some("start_log_streaming") => {
                session().map(|channel| TrackingRequest::Start { channel, backlog: message.backlog })
            }
            Some("stop_log_streaming") => Ok(TrackingRequest::Stop),
            _ => Err(bad(
                "\"type\" is get_session_logs, get_session_state, start_log_streaming, stop_log_streaming or pong",
            )),
        }
    }
}
