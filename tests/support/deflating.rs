//! A WebSocket client that offers compression and works on single frames, exactly as they are on the wire.

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, decompress, inflate_flags},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    time::timeout,
};

use super::{PATIENCE, gateway::Gateway};

pub struct Deflating {
    stream: BufStream<TcpStream>,
    /// The `Sec-WebSocket-Extensions` of the gateway's response.
    pub agreed: Option<String>,
    /// The deflate window: the end of the text of all compressed messages so far.
    window: Vec<u8>,
}

/// One frame of the gateway.
#[derive(Debug)]
pub struct Frame {
    /// FIN, RSV1 and the opcode.
    pub first: u8,
    pub payload: Vec<u8>,
    /// The payload, inflated if it was compressed.
    plain: Vec<u8>,
}

pub const TEXT: u8 = 0x81;
pub const DEFLATED_TEXT: u8 = 0xC1;
pub const CLOSE: u8 = 0x88;

impl Deflating {
    /// Connects and offers this value of `Sec-WebSocket-Extensions`.
    pub async fn connect(gateway: &Gateway, path: &str, token: &str, offer: &str) -> Self {
        let mut stream = BufStream::new(TcpStream::connect(&gateway.public).await.unwrap());
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\n\
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
        Self { stream, agreed: answer.lines().find_map(named), window: Vec::new() }
    }

    /// The next frame that is not a ping.
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
        let plain = if first == DEFLATED_TEXT { self.inflate(&payload) } else { payload.clone() };
        Frame { first, payload, plain }
    }

    /// Inflates a compressed message after the client's window, with a library that the gateway does not use.
    fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        let stream = [payload, &[0, 0, 0xFF, 0xFF], &[1, 0, 0, 0xFF, 0xFF]].concat();
        let agreed = self.agreed.as_deref().unwrap_or_default();
        let span = if agreed.contains("server_no_context_takeover") { 0 } else { 32 << 10 };
        self.window.drain(..self.window.len().saturating_sub(span));
        let before = self.window.len();
        self.window.resize(before + (2 << 20), 0);
        let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let mut inflater = DecompressorOxide::new();
        let (status, _, length) = decompress(&mut inflater, &stream, &mut self.window, before, flags);
        assert_eq!(status, TINFLStatus::Done);
        self.window.truncate(before + length);
        self.window[before..].to_vec()
    }

    /// The text of the next frame that is not one of the gateway's own messages.
    pub async fn event(&mut self) -> String {
        loop {
            let text = self.frame().await.text();
            if !text.contains(r#""source":"gateway""#) {
                return text;
            }
        }
    }

    /// Reads until the close frame and returns its code.
    pub async fn closed(&mut self) -> u16 {
        loop {
            let frame = self.frame().await;
            if frame.first == CLOSE {
                return u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            }
        }
    }

    /// Sends one frame that begins with the byte `first`.
    pub async fn send(&mut self, first: u8, payload: &[u8]) {
        let is_control = first & 0x08 != 0;
        let mut frame = vec![first, 0x80 | if is_control { payload.len() as u8 } else { 127 }];
        if !is_control {
            frame.extend((payload.len() as u64).to_be_bytes());
        }
        // The mask is zero, so the payload is sent as it is.
        frame.extend([0; 4]);
        frame.extend(payload);
        // The gateway may close before it has read the whole frame.
        let _ = self.stream.write_all(&frame).await;
        let _ = self.stream.flush().await;
    }
}

impl Frame {
    /// The text of a frame that holds a whole text message.
    pub fn text(&self) -> String {
        assert!(
            matches!(self.first, TEXT | DEFLATED_TEXT),
            "expected a text frame, got one that begins with {:#x}",
            self.first
        );
        String::from_utf8(self.plain.clone()).unwrap()
    }

    /// The size of the frame on the wire, in bytes.
    pub fn length(&self) -> usize {
        length_on_wire(self.payload.len())
    }

    /// The size that the frame would have without compression, in bytes.
    pub fn plain_length(&self) -> usize {
        length_on_wire(self.plain.len())
    }
}

fn length_on_wire(payload: usize) -> usize {
    payload
        + match payload {
            0..126 => 2,
            126..65_536 => 4,
            _ => 10,
        }
}

/// Compresses a text as a client does (RFC 7692 section 7.2.3.4).
pub fn deflated(text: &[u8]) -> Vec<u8> {
    let mut compressed = miniz_oxide::deflate::compress_to_vec(text, 9);
    compressed.push(0);
    compressed
}
