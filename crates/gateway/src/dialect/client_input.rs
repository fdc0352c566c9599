//! What the client of a dialect may say that only listens: `pong`, and a fresh token.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Action, Actions, Dialect, control};
use crate::transport::close::CloseCode;

/// After how many messages that are not understood a socket is closed.
pub(super) const MAX_REJECTED: u32 = 10;

/// A client that has nothing to ask for.
pub struct ClientInput {
    rejected: u32,
    /// What it is told that it may send.
    may_send: &'static str,
}

impl Default for ClientInput {
    fn default() -> Self {
        Self::new(r#"a client may send {"type":"pong"} or {"action":"auth","token":…}"#)
    }
}

/// What became of a client's message.
#[derive(Debug)]
pub enum ClientMessage {
    /// There is nothing to do.
    Nothing,
    /// A fresh token.
    Token(String),
    /// It was not understood: the answer's text, and the close that follows when there were too many.
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
    /// One that is told this when it is not understood.
    pub fn new(may_send: &'static str) -> Self {
        Self { rejected: 0, may_send }
    }

    /// Reads a client's text message.
    pub fn parse(&mut self, text: &str) -> ClientMessage {
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

/// Does what a client's message is answered with, in the form that the dialect gives to what the gateway says.
pub fn answer(dialect: &mut impl Dialect, said: ClientMessage, out: &mut Actions) {
    match said {
        ClientMessage::Nothing => {}
        ClientMessage::Token(token) => out.push(Action::Authenticate(token)),
        ClientMessage::Invalid(answer, close) => {
            dialect.on_notice(&answer, out);
            out.extend(close);
        }
    }
}
