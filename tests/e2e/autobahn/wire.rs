//! A client that writes single frames, valid or not, and reads single frames.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::support::{PATIENCE, gateway::Gateway, token::token};

pub(super) const FIN: u8 = 0x80;
pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;

/// What a client sees of the gateway.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// The answer to [`message`]: its payload.
    Echo(String),
    /// Any other text: its `code`, or its `type`.
    Answer(String),
    Pong(Vec<u8>),
    Close(u16),
    /// The TCP connection has ended in an orderly manner.
    End,
}

pub(super) struct Wire {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl Wire {
    pub(super) async fn connect(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(&gateway.public).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (from, mut to) = stream.into_split();
        let token = token(json!({ "streams": ["w"] }));
        let head = format!(
            "GET /ws/stream HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: token, {token}\r\n\r\n",
            gateway.public
        );
        to.write_all(head.as_bytes()).await.unwrap();
        let mut from = BufReader::new(from);
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(timeout(PATIENCE, from.read_u8()).await.unwrap().unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        Self { from, to }
    }

    /// Writes in pieces. The gateway may have closed before the last one.
    pub(super) async fn send(&mut self, bytes: &[u8], pieces: usize) {
        let size = if pieces == 0 { bytes.len().max(1) } else { pieces };
        for piece in bytes.chunks(size) {
            if self.to.write_all(piece).await.is_err() {
                return;
            }
        }
    }

    /// The next frame, or the end.
    pub(super) async fn seen(&mut self) -> Seen {
        loop {
            let Some((first, payload)) = timeout(PATIENCE, self.frame()).await.expect("a frame in time") else {
                return Seen::End;
            };
            match first ^ FIN {
                PING => {}
                PONG => return Seen::Pong(payload),
                CLOSE => return Seen::Close(u16::from_be_bytes([payload[0], payload[1]])),
                TEXT => return answer(&payload),
                _ => panic!("a frame that begins with {first:#x}"),
            }
        }
    }

    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.from.read_u8().await.ok()?;
        let length = match self.from.read_u8().await.unwrap() {
            126 => usize::from(self.from.read_u16().await.unwrap()),
            127 => self.from.read_u64().await.unwrap() as usize,
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.from.read_exact(&mut payload).await.unwrap();
        Some((first, payload))
    }
}

fn answer(payload: &[u8]) -> Seen {
    let answer: Value = serde_json::from_slice(payload).unwrap();
    match answer["ref"].as_str() {
        Some(payload) if answer["type"] == "pong" => Seen::Echo(payload.to_owned()),
        _ => Seen::Answer(answer["code"].as_str().or(answer["type"].as_str()).unwrap().to_owned()),
    }
}

/// The text that the gateway answers by repeating `payload`.
pub(super) fn message(payload: &str) -> Vec<u8> {
    format!(r#"{{"action":"ping","ref":{}}}"#, Value::from(payload)).into_bytes()
}

/// The same, padded to exactly `length` bytes. The payload stands behind the padding, so that all of it is read.
pub(super) fn padded(payload: &str, length: usize) -> Vec<u8> {
    let message = message(payload);
    let mut padded = vec![b' '; length - message.len()];
    padded.extend(message);
    padded
}

/// A masked frame that begins with `first`: FIN, the reserved bits, the opcode.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(FIN | length as u8),
        length @ 126..0x1_0000 => {
            frame.push(FIN | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(FIN | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

pub(super) fn text(payload: &[u8]) -> Vec<u8> {
    frame(FIN | TEXT, payload)
}

pub(super) fn ping(payload: &[u8]) -> Vec<u8> {
    frame(FIN | PING, payload)
}

pub(super) fn close(code: u16) -> Vec<u8> {
    frame(FIN | CLOSE, &code.to_be_bytes())
}

/// A message whose fragments are these.
pub(super) fn fragments<'a>(opcode: u8, payloads: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut payloads = payloads.into_iter().peekable();
    let (mut frames, mut first) = (Vec::new(), opcode);
    while let Some(payload) = payloads.next() {
        let fin = if payloads.peek().is_none() { FIN } else { 0 };
        frames.extend(frame(fin | first, payload));
        first = 0;
    }
    frames
}
