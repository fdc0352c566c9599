//! The messages that a listen-only client may send: `ping`, `pong`, and a fresh token.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Action, Actions, Dialect, control};
use crewcast_websocket::close::CloseCode;

/// A socket is closed after this many messages that are not understood.
pub(super) const MAX_REJECTED: u32 = 10;

/// Answers a message that is not understood.
const MAY_SEND: &str = r#"a client may send {"type":"ping"}, {"type":"pong"} or {"action":"auth","token":…}"#;

/// Reads the messages of a listen-only client.
#[derive(Default)]
pub(crate) struct ClientInput {
    rejected: u32,
}

/// A message of the client.
#[derive(Debug)]
pub(crate) enum ClientMessage {
    /// No action needed.
    Nothing,
    /// A page checks whether the connection lives: answered with `pong`.
    Ping,
    /// A fresh token.
    Token(String),
    /// The message is invalid: the text of the answer, and the close that follows after too many.
    Invalid(String, Option<Action>),
}

#[derive(Deserialize)]
struct RawClientMessage {
    #[serde(rename = "type")]
    kind: Option<String>,
    action: Option<String>,
    token: Option<String>,
}

impl ClientInput {
    /// Parses a text message of the client.
    pub(crate) fn parse(&mut self, text: &str) -> ClientMessage {
        if is_bare_ping(text) {
            return ClientMessage::Ping;
        }
        match serde_json::from_str(text) {
            Ok(RawClientMessage { kind: Some(kind), action: None, .. }) if kind == "pong" => ClientMessage::Nothing,
            Ok(
                RawClientMessage { kind: Some(word), action: None, .. } | RawClientMessage { action: Some(word), .. },
            ) if word == "ping" => ClientMessage::Ping,
            Ok(RawClientMessage { action: Some(action), token: Some(token), .. }) if action == "auth" => {
                ClientMessage::Token(token)
            }
            _ => self.reject(),
        }
    }

    fn reject(&mut self) -> ClientMessage {
        self.rejected += 1;
        let close = (self.rejected >= MAX_REJECTED).then(|| {
            let reason = "too many messages that are not understood: a client may send ping, pong or auth";
            Action::Close(CloseCode::BadMessage, Cow::Borrowed(reason))
        });
        ClientMessage::Invalid(control::error("unknown_action", MAY_SEND), close)
    }
}

/// Whether the text is `ping`, as a bare word or as a JSON string.
pub(crate) fn is_bare_ping(text: &str) -> bool {
    matches!(text.trim(), "ping" | r#""ping""#)
}

/// Acts on a client's message. Answers go through `on_notice`, in the form that the dialect gives to the gateway's
/// messages.
pub(crate) fn answer(dialect: &mut impl Dialect, message: ClientMessage, out: &mut Actions) {
    match message {
        ClientMessage::Nothing => {}
        ClientMessage::Ping => dialect.on_notice(&control::pong(), out),
        ClientMessage::Token(token) => out.push(Action::Authenticate(token)),
        ClientMessage::Invalid(answer, close) => {
            dialect.on_notice(&answer, out);
            out.extend(close);
        }
    }
}
