use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use jsonwebtoken::{EncodingKey, Header};
use serde::Deserialize;
use serde_json::json;

use super::{Framing, Outgoing, Plan, Progress, Protocol, Request, Via};
use crate::wire::http;

/// Seconds for which the token is valid: longer than any run.
const TOKEN_LIFE: u64 = 24 * 3600;
/// Connections that publish: several, for the same reason as with nchan.
const CONNECTIONS: usize = 16;
/// Number of the command that subscribes. The command that connects has number 1.
const SUBSCRIBE: u32 = 2;

/// Version 2 of Centrifugo's JSON protocol over WebSockets. Events are published through the HTTP API.
///
/// Commands and replies are lines, and a frame can hold several. An empty object is a ping or its answer.
pub struct Centrifugo {
    token: String,
    api_key: String,
}

/// A line from the server, without fields that are not needed.
#[derive(Default, Deserialize)]
struct ServerLine {
    #[serde(default)]
    id: u32,
    subscribe: Option<serde::de::IgnoredAny>,
    push: Option<serde::de::IgnoredAny>,
}

impl Centrifugo {
    /// Connects with a token signed with `secret` (`client.token.hmac_secret_key`), and publishes with `api_key`
    /// (`http_api.key`).
    ///
    /// # Errors
    /// If the token cannot be signed.
    pub fn new(secret: &str, api_key: &str) -> Result<Self> {
        let expires = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + TOKEN_LIFE;
        let claims = json!({ "sub": "bench", "exp": expires });
        let key = EncodingKey::from_secret(secret.as_bytes());
        Ok(Self { token: jsonwebtoken::encode(&Header::default(), &claims, &key)?, api_key: api_key.into() })
    }
}

impl Protocol for Centrifugo {
    fn name(&self) -> &'static str {
        "centrifugo"
    }

    fn handshake(&self, _socket: &Plan) -> Request {
        Request { path: "/connection/websocket".into(), headers: Vec::new() }
    }

    fn hello(&self, socket: &Plan) -> Vec<Outgoing> {
        let connect = json!({ "id": 1, "connect": { "token": self.token } });
        let subscribe = json!({ "id": SUBSCRIBE, "subscribe": { "channel": channel_name(socket.channel) } });
        vec![Outgoing::Text(format!("{connect}\n{subscribe}").into())]
    }

    fn subscribed_by_handshake(&self) -> bool {
        false
    }

    fn on_other(&self, _socket: &Plan, payload: &[u8], reply: &mut Vec<Outgoing>) -> Progress {
        let mut progress = Progress::Waiting;
        for line in payload.split(|byte| *byte == b'\n') {
            if line.trim_ascii() == b"{}" {
                reply.push(Outgoing::Text(b"{}".to_vec()));
                continue;
            }
            let Ok(line) = serde_json::from_slice::<ServerLine>(line) else { continue };
            if line.id == SUBSCRIBE && line.subscribe.is_some() && line.push.is_none() {
                progress = Progress::Subscribed;
            }
        }
        progress
    }

    fn framing(&self) -> Framing {
        Framing::SeveralPerFrame
    }

    fn publish(&self, channel: usize, event: &[u8], out: &mut Vec<u8>) {
        let begin = format!("{{\"channel\":\"{}\",\"data\":", channel_name(channel));
        let body = [begin.as_bytes(), event, b"}"].concat();
        let headers = [("Content-Type", "application/json"), ("X-API-Key", self.api_key.as_str())];
        http::post(out, "/api/publish", &headers, &body);
    }

    fn publish_over(&self) -> Via {
        Via::Tcp { connections: CONNECTIONS, preamble: Vec::new() }
    }
}

/// The name of a channel, without a colon, which would separate a namespace.
fn channel_name(channel: usize) -> String {
    format!("c{channel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol() -> Centrifugo {
        Centrifugo::new("a secret that is 32 bytes long, or more", "key").unwrap()
    }

    #[test]
    fn one_frame_with_two_lines_connects_and_subscribes() {
        let Outgoing::Text(hello) = protocol().hello(&Plan::default()).remove(0) else { panic!("JSON is text") };
        let lines: Vec<serde_json::Value> =
            hello.split(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
        assert!(lines[0]["connect"]["token"].as_str().unwrap().starts_with("ey"));
        assert_eq!(lines[1], json!({ "id": 2, "subscribe": { "channel": "c0" } }));
    }

    #[test]
    fn the_reply_to_subscribe_confirms_wherever_it_stands() {
        let (protocol, plan, mut reply) = (protocol(), Plan::default(), Vec::new());
        let connected = r#"{"id":1,"connect":{"client":"9ac9de4e","version":"6.0.0","ping":25,"pong":true}}"#;
        let subscribed = r#"{"id":2,"subscribe":{}}"#;
        let refused = r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
        assert_eq!(protocol.on_other(&plan, connected.as_bytes(), &mut reply), Progress::Waiting);
        assert_eq!(protocol.on_other(&plan, refused.as_bytes(), &mut reply), Progress::Waiting);
        assert_eq!(protocol.on_other(&plan, subscribed.as_bytes(), &mut reply), Progress::Subscribed);
        let both = format!("{connected}\n{subscribed}\n");
        assert_eq!(protocol.on_other(&plan, both.as_bytes(), &mut reply), Progress::Subscribed);
        assert_eq!(reply, []);
    }

    #[test]
    fn an_empty_object_is_a_ping() {
        let mut reply = Vec::new();
        assert_eq!(protocol().on_other(&Plan::default(), b"{}", &mut reply), Progress::Waiting);
        assert_eq!(reply, [Outgoing::Text(b"{}".to_vec())]);
    }

    #[test]
    fn an_event_is_published_as_data() {
        let mut out = Vec::new();
        protocol().publish(1, br#"{"value":"test_value"}"#, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("POST /api/publish HTTP/1.1\r\n") && text.contains("\r\nX-API-Key: key\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\n{\"channel\":\"c1\",\"data\":{\"value\":\"test_value\"}}"), "{text}");
    }

    #[test]
    fn pushes_are_no_answers() {
        let mut reply = Vec::new();
        let push = br#"{"push":{"channel":"c0","join":{"info":{"user":"42","client":"9ac9de4e"}}}}"#;
        assert_eq!(protocol().on_other(&Plan::default(), push, &mut reply), Progress::Waiting);
        assert_eq!(reply, []);
    }
}
