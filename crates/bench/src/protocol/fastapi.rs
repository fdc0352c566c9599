use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use super::{Outgoing, Plan, Progress, Protocol, Request};
use crate::wire::resp;

/// Seconds for which the token is valid: longer than any run.
const TOKEN_LIFE: u64 = 24 * 3600;
/// The gateway's message after it has subscribed to the socket's channel in Redis.
const CONNECTED: &[u8] = br#"{"type":"connected"}"#;

/// The gateway of `peers/fastapi` with sockets on `/ws/graph/<crew>`. Events are published with a plain `PUBLISH`.
pub struct FastApi {
    token: String,
}

impl FastApi {
    /// The protocol with a token signed with `secret` (HS256).
    ///
    /// # Errors
    /// If the token cannot be signed.
    pub fn new(secret: &str) -> Result<Self> {
        let expires = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + TOKEN_LIFE;
        let claims = json!({ "sub": "bench", "exp": expires });
        let key = EncodingKey::from_secret(secret.as_bytes());
        Ok(Self { token: jsonwebtoken::encode(&Header::default(), &claims, &key)? })
    }
}

impl Protocol for FastApi {
    fn name(&self) -> &'static str {
        "fastapi"
    }

    fn handshake(&self, socket: &Plan) -> Request {
        Request {
            path: format!("/ws/graph/c{}", socket.channel),
            headers: vec![("Sec-WebSocket-Protocol", format!("token, {}", self.token))],
        }
    }

    fn subscribed_by_handshake(&self) -> bool {
        false
    }

    fn on_other(&self, _socket: &Plan, payload: &[u8], _reply: &mut Vec<Outgoing>) -> Progress {
        if payload == CONNECTED { Progress::Subscribed } else { Progress::Waiting }
    }

    fn publish(&self, channel: usize, event: &[u8], out: &mut Vec<u8>) {
        resp::command(out, &[b"PUBLISH", format!("graph:c{channel}").as_bytes(), event]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_the_gateway_confirms_the_subscription() {
        let protocol = FastApi::new("a secret that is 32 bytes long, or more").unwrap();
        let plan = Plan { channel: 4, ..Plan::default() };
        let request = protocol.handshake(&plan);
        assert_eq!(request.path, "/ws/graph/c4");
        assert!(request.headers[0].1.starts_with("token, ey"), "{request:?}");
        let mut reply = Vec::new();
        assert_eq!(protocol.on_other(&plan, b"{\"type\":\"error\"}", &mut reply), Progress::Waiting);
        assert_eq!(protocol.on_other(&plan, CONNECTED, &mut reply), Progress::Subscribed);
        assert_eq!(reply, []);
    }
}
