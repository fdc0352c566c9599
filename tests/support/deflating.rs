//! A WebSocket client that offers compression, frame by frame: what is written is what goes over the wire.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    time::timeout,
};

use super::{PATIENCE, gateway::Gateway};

pub struct Deflating {
    stream: BufStream<TcpStream>,
    /// The gateway's `Sec-WebSocket-Extensions`.
    pub agreed: Option<String>,
}

/// One frame of the gateway.
#[derive(Debug)]
pub struct Frame {
    /// FIN, RSV1 and the opcode.
    pub first: u8,
    pub payload: Vec<u8>,
}

pub const TEXT: u8 = 0x81;
pub const DEFLATED_TEXT: u8 = 0xC1;
pub const CLOSE: u8 = 0x88;

impl Deflating {
    /// Connects with this value of `Sec-WebSocket-Extensions`.
    pub async fn connect(gateway: &Gateway, path: &str, token: &str, offer: &str) -> Self {
        let mut stream = BufStream::new(TcpStream::connect(&gateway.public).await.unwrap());
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: token, {token}\r\n\
             Sec-WebSocket-Extensions: {offer}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let named = |line: &str| line.strip_prefix("sec-websocket-extensions: ").map(str::to_owned);
        Self { stream, agreed: answer.lines().find_map(named) }
    }

    /// The next frame that is no ping.
    pub async fn frame(&mut self) -> Frame {
        loop {
            let frame = timeout(PATIENCE, self.any_frame()).await.expect("a frame in time");
            if frame.first != 0x89 {
                return frame;
            }
        }
    }

    async fn any_frame(&mut self) -> Frame {
        let first = self.stream.read_u8().await.unwrap();
        let length = match self.stream.read_u8().await.unwrap() {
            126 => u64::from(self.stream.read_u16().await.unwrap()),
            127 => self.stream.read_u64().await.unwrap(),
            length => u64::from(length),
        };
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.unwrap();
        Frame { first, payload }
    }

    /// The text of the next frame that the gateway did not make itself.
    pub async fn event(&mut self) -> String {
        loop {
            let text = self.frame().await.text();
            if !text.contains(r#""source":"gateway""#) {
                return text;
            }
        }
    }

    /// Reads on until the close frame; its code.
    pub async fn closed(&mut self) -> u16 {
        loop {
            let frame = self.frame().await;
            if frame.first == CLOSE {
                return u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            }
        }
    }

    /// Sends one frame; `first` is its first byte.
    pub async fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first, 0x80 | 127];
        frame.extend((payload.len() as u64).to_be_bytes());
        // Masked with zeros.
        frame.extend([0; 4]);
        frame.extend(payload);
        // The gateway may close before it has read everything.
        let _ = self.stream.write_all(&frame).await;
        let _ = self.stream.flush().await;
    }
}

impl Frame {
    /// What a whole text message says, inflated by a library that is not the gateway's.
    pub fn text(&self) -> String {
        let bytes = match self.first {
            TEXT => self.payload.clone(),
            DEFLATED_TEXT => {
                let stream = [&self.payload[..], &[0, 0, 0xFF, 0xFF], &[1, 0, 0, 0xFF, 0xFF]].concat();
                miniz_oxide::inflate::decompress_to_vec(&stream).unwrap()
            }
            first => panic!("no text but a frame that begins with {first:#x}"),
        };
        String::from_utf8(bytes).unwrap()
    }
}

/// A text as a compressing client sends it (RFC 7692 section 7.2.3.4).
pub fn deflated(text: &[u8]) -> Vec<u8> {
    let mut compressed = miniz_oxide::deflate::compress_to_vec(text, 9);
    compressed.push(0);
    compressed
}
