use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use super::{Plan, Protocol, Request};
use crate::wire::resp;

/// How long the tokens hold: longer than any run.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Crewcast: a socket on `/ws/graph/<crew>` for each channel, its events published with a plain `PUBLISH`, or logged.
pub struct Crewcast {
    tokens: Vec<String>,
}

impl Crewcast {
    /// For as many channels, with tokens signed with `secret` (HS256).
    ///
    /// # Errors
    /// When a token cannot be signed.
    pub fn new(channels: usize, secret: &str) -> Result<Self> {
        let expires = (SystemTime::now() + TOKEN_LIFE).duration_since(UNIX_EPOCH)?.as_secs();
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = |channel| {
            let crew = crew(channel);
            let claims = json!({ "sub": crew, "org": "bench", "crews": [crew], "exp": expires });
            jsonwebtoken::encode(&Header::default(), &claims, &key)
        };
        Ok(Self { tokens: (0..channels).map(token).collect::<Result<_, _>>()? })
    }
}

impl Protocol for Crewcast {
    fn name(&self) -> &'static str {
        "crewcast"
    }

    fn handshake(&self, socket: &Plan) -> Request {
        let query = [("types", &socket.types), ("since", &socket.since)]
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={value}")))
            .collect::<Vec<_>>();
        let mark = if query.is_empty() { "" } else { "?" };
        Request {
            path: format!("/ws/graph/{}{mark}{}", crew(socket.channel), query.join("&")),
            headers: vec![("Authorization", format!("Bearer {}", self.tokens[socket.channel]))],
        }
    }

    fn publish(&self, channel: usize, event: &[u8], out: &mut Vec<u8>) {
        resp::command(out, &[b"PUBLISH", format!("graph:{}", crew(channel)).as_bytes(), event]);
    }

    fn logged_channel(&self, channel: usize) -> Option<String> {
        Some(format!("graph:{}", crew(channel)))
    }
}

fn crew(channel: usize) -> String {
    format!("c{channel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_and_a_filter_stand_in_the_query() {
        let protocol = Crewcast::new(3, "a secret that is 32 bytes long, or more").unwrap();
        let socket = Plan { channel: 2, types: Some("tool_end".into()), since: Some("7-x".into()), ..Plan::default() };
        assert_eq!(protocol.handshake(&socket).path, "/ws/graph/c2?types=tool_end&since=7-x");
        assert_eq!(protocol.handshake(&Plan::default()).path, "/ws/graph/c0");
    }
}
