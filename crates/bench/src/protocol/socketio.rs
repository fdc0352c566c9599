use serde_json::{Value, json};

use super::{Outgoing, Plan, Progress, Protocol, Request};
use crate::wire::resp;

/// Socket.IO 4 with its Redis adapter, `peers/socketio`: a socket names its room when it connects. Events are published
/// like by `@socket.io/redis-emitter`.
///
/// A text frame begins with a digit of Engine.IO (0 open, 2 ping, 3 pong, 4 message). In a message a digit of Socket.IO
/// follows (0 connect, 2 event, 4 error), then JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct SocketIo;

impl Protocol for SocketIo {
    fn name(&self) -> &'static str {
        "socketio"
    }

    fn handshake(&self, _socket: &Plan) -> Request {
        Request { path: "/socket.io/?EIO=4&transport=websocket".into(), headers: Vec::new() }
    }

    fn subscribed_by_handshake(&self) -> bool {
        false
    }

    fn on_other(&self, socket: &Plan, payload: &[u8], reply: &mut Vec<Outgoing>) -> Progress {
        match payload {
            [b'0', ..] => reply.push(Outgoing::Text(format!("40{}", json!({ "room": room(socket.channel) })).into())),
            b"2" => reply.push(Outgoing::Text(b"3".to_vec())),
            [b'4', b'0', ..] => return Progress::Subscribed,
            _ => {}
        }
        Progress::Waiting
    }

    fn publish(&self, channel: usize, event: &[u8], out: &mut Vec<u8>) {
        let room = room(channel);
        let data: Value = serde_json::from_slice(event).unwrap_or_default();
        let packet = json!({ "type": 2, "data": ["event", data], "nsp": "/" });
        let options = json!({ "rooms": [room], "except": [], "flags": {} });
        let mut message = Vec::with_capacity(event.len() + 128);
        msgpack(&json!(["emitter", packet, options]), &mut message);
        resp::command(out, &[b"PUBLISH", format!("socket.io#/#{room}#").as_bytes(), &message]);
    }
}

fn room(channel: usize) -> String {
    format!("graph:c{channel}")
}

/// Appends a value as MessagePack.
fn msgpack(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(no) if !no => out.push(0xc2),
        Value::Bool(_) => out.push(0xc3),
        Value::Number(number) => match number.as_u64() {
            Some(small) if small < 128 => out.push(small as u8),
            Some(large) => tagged(0xcf, &large.to_be_bytes(), out),
            None => match number.as_i64() {
                Some(negative) => tagged(0xd3, &negative.to_be_bytes(), out),
                None => tagged(0xcb, &number.as_f64().unwrap_or_default().to_be_bytes(), out),
            },
        },
        Value::String(text) => string(text, out),
        Value::Array(values) => {
            head(values.len(), 0x90, 0xdc, out);
            values.iter().for_each(|value| msgpack(value, out));
        }
        Value::Object(fields) => {
            head(fields.len(), 0x80, 0xde, out);
            for (name, value) in fields {
                string(name, out);
                msgpack(value, out);
            }
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    match text.len() {
        short @ 0..32 => out.push(0xa0 | short as u8),
        medium @ 32..256 => out.extend([0xd9, medium as u8]),
        long @ 256..65_536 => tagged(0xda, &(long as u16).to_be_bytes(), out),
        longer => tagged(0xdb, &(longer as u32).to_be_bytes(), out),
    }
    out.extend_from_slice(text.as_bytes());
}

/// Appends the head of an array or a map. The first byte holds a length below 16; otherwise two or four bytes follow.
fn head(length: usize, short: u8, long: u8, out: &mut Vec<u8>) {
    match length {
        0..16 => out.push(short | length as u8),
        16..65_536 => tagged(long, &(length as u16).to_be_bytes(), out),
        _ => tagged(long + 1, &(length as u32).to_be_bytes(), out),
    }
}

fn tagged(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(value: Value) -> Vec<u8> {
        let mut out = Vec::new();
        msgpack(&value, &mut out);
        out
    }

    #[test]
    fn values_are_packed_as_the_specification_shows() {
        assert_eq!(packed(json!({ "compact": true, "schema": 0 })), b"\x82\xa7compact\xc3\xa6schema\x00");
        assert_eq!(
            packed(json!([null, false, 127, 128, -1])),
            [
                [0x95, 0xc0, 0xc2, 0x7f].as_slice(),
                &[0xcf, 0, 0, 0, 0, 0, 0, 0, 128],
                &[0xd3, 255, 255, 255, 255, 255, 255, 255, 255]
            ]
            .concat()
        );
        assert_eq!(packed(json!(1.5)), [0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(packed(json!("x".repeat(31)))[..2], [0xbf, b'x']);
        assert_eq!(packed(json!("x".repeat(32)))[..3], [0xd9, 32, b'x']);
        assert_eq!(packed(json!("x".repeat(256)))[..4], [0xda, 1, 0, b'x']);
        assert_eq!(packed(json!("x".repeat(65_536)))[..6], [0xdb, 0, 1, 0, 0, b'x']);
        assert_eq!(packed(json!(vec![0; 16]))[..4], [0xdc, 0, 16, 0]);
    }

    #[test]
    fn an_event_is_published_like_by_the_emitter() {
        let mut out = Vec::new();
        SocketIo.publish(1, br#"{"a":1}"#, &mut out);
        let message = b"\x93\xa7emitter\
            \x83\xa4data\x92\xa5event\x81\xa1a\x01\xa3nsp\xa1/\xa4type\x02\
            \x83\xa6except\x90\xa5flags\x80\xa5rooms\x91\xa8graph:c1";
        let mut expected = Vec::new();
        resp::command(&mut expected, &[b"PUBLISH", b"socket.io#/#graph:c1#", message]);
        assert_eq!(out, expected);
    }

    #[test]
    fn the_session_follows_engine_io() {
        let (plan, mut reply) = (Plan::default(), Vec::new());
        let open = br#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
        assert_eq!(SocketIo.on_other(&plan, open, &mut reply), Progress::Waiting);
        assert_eq!(reply, [Outgoing::Text(br#"40{"room":"graph:c0"}"#.to_vec())]);
        reply.clear();
        assert_eq!(SocketIo.on_other(&plan, br#"44{"message":"no"}"#, &mut reply), Progress::Waiting);
        assert_eq!(SocketIo.on_other(&plan, br#"40{"sid":"wZX3oN0bSVIhsaknAAAI"}"#, &mut reply), Progress::Subscribed);
        assert_eq!(reply, []);
        SocketIo.on_other(&plan, b"2", &mut reply);
        assert_eq!(reply, [Outgoing::Text(b"3".to_vec())]);
    }
}
