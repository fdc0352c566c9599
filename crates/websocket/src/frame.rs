//! Encoding of server frames (RFC 6455 section 5.2).
//!
//! A frame is one contiguous [`Bytes`], header first, so that it is encoded once and shared by every socket that sends
//! it. Server frames are never masked.

use bytes::Bytes;

/// Maximum payload of a control frame in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL: usize = 125;

/// Frame types (RFC 6455 section 11.8).
pub(super) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0x0;
    pub(crate) const TEXT: u8 = 0x1;
    pub(crate) const BINARY: u8 = 0x2;
    pub(crate) const CLOSE: u8 = 0x8;
    pub(crate) const PING: u8 = 0x9;
    pub(crate) const PONG: u8 = 0xA;
}

const FIN: u8 = 0x80;

/// Set on a message's first frame if the message is compressed (RFC 7692 section 6).
pub(super) const RSV1: u8 = 0x40;

/// A whole text message. `payload` must be UTF-8, as every event and every gateway message is.
pub fn text_frame(payload: &[u8]) -> Bytes {
    frame(opcode::TEXT, payload)
}

/// A whole text message that was compressed.
pub fn deflated_text_frame(compressed: &[u8]) -> Bytes {
    frame(RSV1 | opcode::TEXT, compressed)
}

/// The same frame as a binary message, for clients that ask for those.
pub fn binary_frame(text_frame: &Bytes) -> Bytes {
    let mut frame = Vec::from(&text_frame[..]);
    if let Some(first) = frame.first_mut().filter(|first| **first & 0x0F == opcode::TEXT) {
        *first = *first & 0xF0 | opcode::BINARY;
    }
    frame.into()
}

/// Whether the message that this frame begins is compressed.
pub fn is_deflated(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & RSV1 != 0)
}

/// The payload of a whole frame made by [`text_frame`] or [`deflated_text_frame`].
pub fn payload_of(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(0..=125) => 2,
        Some(126) => 4,
        _ => 10,
    };
    frame.get(header..).unwrap_or_default()
}

/// A ping; a payload over [`MAX_CONTROL`] is cut.
pub fn ping_frame(payload: &[u8]) -> Bytes {
    frame(opcode::PING, &payload[..payload.len().min(MAX_CONTROL)])
}

/// The answer to a ping, with the ping's payload; one over [`MAX_CONTROL`] is cut.
pub fn pong_frame(payload: &[u8]) -> Bytes {
    frame(opcode::PONG, &payload[..payload.len().min(MAX_CONTROL)])
}

/// A close frame. `reason` is cut to the 123 bytes that fit behind the code, at a character boundary.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let mut cut = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut payload = [0; MAX_CONTROL];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + cut].copy_from_slice(&reason.as_bytes()[..cut]);
    frame(opcode::CLOSE, &payload[..2 + cut])
}

/// Builds a frame. `first` is the first byte without the FIN bit.
fn frame(first: u8, payload: &[u8]) -> Bytes {
    let length = payload.len();
    // A vector without spare capacity becomes `Bytes` without a copy.
    let mut frame = Vec::with_capacity(length + header_len(length));
    frame.push(FIN | first);
    match length {
        0..=125 => frame.push(length as u8),
        126..=0xFFFF => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    Bytes::from(frame)
}

fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tokio_tungstenite::tungstenite::{Message, protocol::Role, protocol::WebSocket};

    use super::*;

    /// How tungstenite reads the bytes as a client.
    fn read_as_client(bytes: &Bytes) -> Message {
        WebSocket::from_raw_socket(Cursor::new(bytes.to_vec()), Role::Client, None).read().unwrap()
    }

    #[test]
    fn text_of_every_length_class_reads_back() {
        for length in [0, 1, 125, 126, 127, 0xFFFF, 0x10000, 1 << 20] {
            let text = "x".repeat(length);
            let frame = text_frame(text.as_bytes());
            assert_eq!(payload_of(&frame), text.as_bytes());
            assert!(!is_deflated(&frame) && is_deflated(&deflated_text_frame(text.as_bytes())));
            assert_eq!(read_as_client(&frame), Message::text(text));
        }
    }

    #[test]
    fn pings_and_pongs_read_back_and_are_cut_to_the_control_limit() {
        assert_eq!(read_as_client(&ping_frame(b"a")), Message::Ping(Bytes::from_static(b"a")));
        assert_eq!(read_as_client(&pong_frame(&[])), Message::Pong(Bytes::new()));
        assert_eq!(read_as_client(&pong_frame(&[7; 126])), Message::Pong(Bytes::from(vec![7; 125])));
        assert_eq!(read_as_client(&ping_frame(&[7; 126])), Message::Ping(Bytes::from(vec![7; 125])));
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        for (reason, kept) in [
            ("stalled".to_owned(), "stalled".to_owned()),
            ("a".repeat(200), "a".repeat(123)),
            ("é".repeat(100), "é".repeat(61)),
            ("a".repeat(121) + "😀", "a".repeat(121)),
            (String::new(), String::new()),
        ] {
            let Message::Close(Some(close)) = read_as_client(&close_frame(4408, &reason)) else { panic!() };
            assert_eq!((u16::from(close.code), close.reason.as_str()), (4408, kept.as_str()));
        }
    }
}
