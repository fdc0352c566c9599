use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use crewcast_publisher::slot_of;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use super::{Plan, Protocol, Request, Via};
use crate::wire::{resp, slots};

/// How long tokens are valid: longer than any run.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Crewcast with sockets on `/ws/graph/<crew>`. Events are published with a plain `PUBLISH`, or logged.
pub struct Crewcast {
    tokens: Vec<String>,
    cluster: Vec<SocketAddr>,
}

impl Crewcast {
    /// The protocol for `channels` channels, with tokens signed with `secret` (HS256).
    ///
    /// # Errors
    /// If a token cannot be signed.
    pub fn new(channels: usize, secret: &str) -> Result<Self> {
        let expires = (SystemTime::now() + TOKEN_LIFE).duration_since(UNIX_EPOCH)?.as_secs();
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = |channel| {
            let crew = crew(channel);
            let claims = json!({ "sub": crew, "org": "bench", "crews": [crew], "exp": expires });
            jsonwebtoken::encode(&Header::default(), &claims, &key)
        };
        Ok(Self { tokens: (0..channels).map(token).collect::<Result<_, _>>()?, cluster: Vec::new() })
    }

    /// The protocol with a Cluster of these masters: `SPUBLISH` publishes each event on the master of its channel.
    pub fn on_cluster(self, masters: Vec<SocketAddr>) -> Self {
        Self { cluster: masters, ..self }
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
        let publish: &[u8] = if self.cluster.is_empty() { b"PUBLISH" } else { b"SPUBLISH" };
        resp::command(out, &[publish, name(channel).as_bytes(), event]);
    }

    fn publish_over(&self) -> Via {
        if self.cluster.is_empty() { Via::Redis } else { Via::Cluster(self.cluster.clone()) }
    }

    fn connection(&self, channel: usize, connections: usize) -> usize {
        if self.cluster.is_empty() {
            channel % connections
        } else {
            slots::master_of(slot_of(name(channel).as_bytes()), connections)
        }
    }

    fn logged_channel(&self, channel: usize) -> Option<String> {
        Some(name(channel))
    }
}

fn name(channel: usize) -> String {
    format!("graph:{}", crew(channel))
}

fn crew(channel: usize) -> String {
    format!("c{channel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_contains_position_and_filter() {
        let protocol = Crewcast::new(3, "a secret that is 32 bytes long, or more").unwrap();
        let socket = Plan { channel: 2, types: Some("tool_end".into()), since: Some("7-x".into()), ..Plan::default() };
        assert_eq!(protocol.handshake(&socket).path, "/ws/graph/c2?types=tool_end&since=7-x");
        assert_eq!(protocol.handshake(&Plan::default()).path, "/ws/graph/c0");
    }
}
