//! What the client of a dialect may say that only listens: `pong`, and a fresh token.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Action, Actions, Dialect, control};
use crate::transport::close::CloseCode;

/// After how many messages that are not understood a socket is closed.
pub(super) const MAX_MISUNDERSTOOD: u32 = 10;

/// A client that has nothing to ask for.
pub struct Listener {
    misunderstood: u32,
    /// What it is told that it may send.
    may_send: &'static str,
}

impl Default for Listener {
    fn default() -> Self {
        Self::new(r#"a client may send {"type":"pong"} or {"action":"auth","token":…}"#)
    }
}

/// What became of a client's message.
#[derive(Debug)]
pub enum Said {
    /// There is nothing to do.
    Nothing,
    /// A fresh token.
    Token(String),
    /// It was not understood: the answer's text, and the close that follows when there were too many.
    Nonsense(String, Option<Action>),
}

#[derive(Deserialize)]
struct ClientMessage {
    #[serde(rename = "type")]
    kind: Option<String>,
    action: Option<String>,
    token: Option<String>,
}

impl Listener {
    /// One that is told this when it is not understood.
    pub fn new(may_send: &'static str) -> Self {
        Self { misunderstood: 0, may_send }
    }

    /// Reads a client's text message.
    pub fn hear(&mut self, text: &str) -> Said {
        match serde_json::from_str(text) {
            Ok(ClientMessage { kind: Some(kind), action: None, .. }) if kind == "pong" => Said::Nothing,
            Ok(ClientMessage { action: Some(action), token: Some(token), .. }) if action == "auth" => {
                Said::Token(token)
            }
            _ => self.misunderstand(),
        }
    }

    fn misunderstand(&mut self) -> Said {
        self.misunderstood += 1;
        let close = (self.misunderstood >= MAX_MISUNDERSTOOD).then(|| {
            let reason = "too many messages that are not understood: a client may send pong or auth";
            Action::Close(CloseCode::BadMessage, Cow::Borrowed(reason))
        });
        Said::Nonsense(control::error("unknown_action", self.may_send), close)
    }
}

/// Does what a client's message is answered with, in the form that the dialect gives to what the gateway says.
pub fn answer(dialect: &mut impl Dialect, said: Said, out: &mut Actions) {
    match said {
        Said::Nothing => {}
        Said::Token(token) => out.push(Action::Authenticate(token)),
        Said::Nonsense(answer, close) => {
            dialect.on_notice(&answer, out);
            out.extend(close);
        }
    }
}
