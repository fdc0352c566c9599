//! The messages that a listen-only client may send: `pong`, and a fresh token.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Action, Actions, Dialect, control};
use crewcast_websocket::close::CloseCode;

/// A socket is closed after this many messages that are not understood.
pub(super) const MAX_REJECTED: u32 = 10;

/// Reads the messages of a listen-only client.
pub(crate) struct ClientInput {
    rejected: u32,
    /// The hint that answers an invalid message.
    may_send: &'static str,
}

impl Default for ClientInput {
    fn default() -> Self {
        Self::new(r#"a client may send {"type":"pong"} or {"action":"auth","token":…}"#)
    }
}

/// A message of the client.
#[derive(Debug)]
pub(crate) enum ClientMessage {
    /// No action needed.
    Nothing,
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
    /// `may_send` answers messages that are not understood.
    pub(crate) fn new(may_send: &'static str) -> Self {
        Self { rejected: 0, may_send }
    }

    /// Parses a text message of the client.
    pub(crate) fn parse(&mut self, text: &str) -> ClientMessage {
        match serde_json::from_str(text) {
            Ok(RawClientMessage { kind: Some(kind), action: None, .. }) if kind == "pong" => ClientMessage::Nothing,
            Ok(RawClientMessage { action: Some(action), token: Some(token), .. }) if action == "auth" => {
                ClientMessage::Token(token)
            }
            _ => self.reject(),
        }
    }

    fn reject(&mut self) -> ClientMessage {
        self.rejected += 1;
        let close = (self.rejected >= MAX_REJECTED).then(|| {
            let reason = "too many messages that are not understood: a client may send pong or auth";
            Action::Close(CloseCode::BadMessage, Cow::Borrowed(reason))
        });
        ClientMessage::Invalid(control::error("unknown_action", self.may_send), close)
    }
}

/// Acts on a client's message. Answers go through `on_notice`, in the form that the dialect gives to the gateway's
/// messages.
pub(crate) fn answer(dialect: &mut impl Dialect, message: ClientMessage, out: &mut Actions) {
    match message {
        ClientMessage::Nothing => {}
        ClientMessage::Token(token) => out.push(Action::Authenticate(token)),
        ClientMessage::Invalid(answer, close) => {
            dialect.on_notice(&answer, out);
            out.extend(close);
        }
    }
}
