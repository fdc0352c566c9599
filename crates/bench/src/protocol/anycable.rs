use serde::Deserialize;
use serde_json::json;

use super::{Outgoing, Plan, Progress, Protocol, Request};
use crate::wire::resp;

/// AnyCable with Action Cable's protocol, public streams and no RPC (`--norpc --public`). Events are published through
/// its Redis channel (`--broadcast_adapter=redis`).
#[derive(Debug, Clone, Copy, Default)]
pub struct AnyCable;

/// A message from the server, without fields that are not needed.
#[derive(Deserialize)]
struct CableMessage<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'a str>,
}

impl Protocol for AnyCable {
    fn name(&self) -> &'static str {
        "anycable"
    }

    fn handshake(&self, _socket: &Plan) -> Request {
        Request { path: "/cable".into(), headers: vec![("Sec-WebSocket-Protocol", "actioncable-v1-json".into())] }
    }

    fn subscribed_by_handshake(&self) -> bool {
        false
    }

    fn on_other(&self, socket: &Plan, payload: &[u8], reply: &mut Vec<Outgoing>) -> Progress {
        match serde_json::from_slice::<CableMessage<'_>>(payload).ok().and_then(|frame| frame.kind) {
            Some("welcome") => {
                // The identifier is JSON in a string, which the server repeats letter for letter.
                let identifier = json!({ "channel": "$pubsub", "stream_name": stream(socket.channel) }).to_string();
                let subscribe = json!({ "command": "subscribe", "identifier": identifier });
                reply.push(Outgoing::Text(subscribe.to_string().into()));
                Progress::Waiting
            }
            Some("confirm_subscription") => Progress::Subscribed,
            // Pings need no answer; `reject_subscription` and `disconnect` leave the socket waiting.
            _ => Progress::Waiting,
        }
    }

    fn publish(&self, channel: usize, event: &[u8], out: &mut Vec<u8>) {
        let message = json!({ "stream": stream(channel), "data": String::from_utf8_lossy(event) }).to_string();
        resp::command(out, &[b"PUBLISH", b"__anycable__", message.as_bytes()]);
    }
}

fn stream(channel: usize) -> String {
    format!("c{channel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_welcomed_socket_subscribes() {
        let (plan, mut reply) = (Plan { channel: 7, ..Plan::default() }, Vec::new());
        assert_eq!(AnyCable.on_other(&plan, br#"{"type":"welcome"}"#, &mut reply), Progress::Waiting);
        let Some(Outgoing::Text(command)) = reply.pop() else { panic!("no command") };
        let command: serde_json::Value = serde_json::from_slice(&command).unwrap();
        assert_eq!(command["command"], "subscribe");
        let identifier: serde_json::Value = serde_json::from_str(command["identifier"].as_str().unwrap()).unwrap();
        assert_eq!(identifier, json!({ "channel": "$pubsub", "stream_name": "c7" }));
    }

    #[test]
    fn only_a_confirmation_confirms_and_pings_need_no_answer() {
        let (plan, mut reply) = (Plan::default(), Vec::new());
        let identifier = r#""identifier":"{\"channel\":\"$pubsub\",\"stream_name\":\"c0\"}""#;
        for (frame, progress) in [
            (r#"{"type":"ping","message":1714646400}"#.to_owned(), Progress::Waiting),
            (format!(r#"{{{identifier},"type":"reject_subscription"}}"#), Progress::Waiting),
            (r#"{"type":"disconnect","reason":"server_restart","reconnect":true}"#.to_owned(), Progress::Waiting),
            (format!(r#"{{{identifier},"type":"confirm_subscription"}}"#), Progress::Subscribed),
        ] {
            assert_eq!(AnyCable.on_other(&plan, frame.as_bytes(), &mut reply), progress, "{frame}");
        }
        assert_eq!(reply, []);
    }

    #[test]
    fn an_event_is_published_as_a_string_in_json() {
        let mut out = Vec::new();
        AnyCable.publish(0, br#"{"text":"Hello, world!"}"#, &mut out);
        let mut expected = Vec::new();
        // Fields in another order are the same message.
        let message = br#"{"data":"{\"text\":\"Hello, world!\"}","stream":"c0"}"#;
        resp::command(&mut expected, &[b"PUBLISH", b"__anycable__", message]);
        assert_eq!(out, expected);
    }
}
