//! The opening handshake of a WebSocket client.

use std::io::Write;

use anyhow::{Result, bail};

/// The offer of compression, as browsers make it: the server may keep its window between messages.
const OFFER: &str = "permessage-deflate; client_no_context_takeover";

/// The part of a WebSocket handshake that depends on the protocol. The generator adds `Host`, `Upgrade`, `Connection`,
/// version, key and the offer of compression.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Path and query, such as `/ws/graph/c1?since=0`.
    pub path: String,
    /// Further headers: name and value.
    pub headers: Vec<(&'static str, String)>,
}

/// Appends the request. The key is always the same, because the client does not check the answer to it.
pub fn request(out: &mut Vec<u8>, request: &Request, deflate: bool) {
    let _ = write!(
        out,
        "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        request.path
    );
    if deflate {
        let _ = write!(out, "Sec-WebSocket-Extensions: {OFFER}\r\n");
    }
    for (name, value) in &request.headers {
        let _ = write!(out, "{name}: {value}\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// A successful answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Length of the head in bytes.
    pub length: usize,
    /// Whether the server agreed to compression.
    pub deflate: bool,
}

/// The server's answer at the beginning of `bytes`. `None` while the answer is incomplete.
///
/// # Errors
/// If the answer is not a 101.
pub fn answer(bytes: &[u8]) -> Result<Option<Accepted>> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]);
    if !head.starts_with("HTTP/1.1 101") {
        bail!("the server refused the handshake: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
    }
    let deflate = head.to_ascii_lowercase().contains("permessage-deflate");
    Ok(Some(Accepted { length: end + 4, deflate }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cut_anywhere_is_incomplete() {
        let text = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(answer(&text[..cut]).unwrap(), None);
        }
        assert_eq!(answer(text).unwrap(), Some(Accepted { length: text.len(), deflate: true }));
        assert!(answer(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
    }

    #[test]
    fn compression_is_offered_only_when_asked_for() {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        request(&mut with, &Request::default(), true);
        request(&mut without, &Request::default(), false);
        assert!(memchr::memmem::find(&with, b"permessage-deflate").is_some());
        assert!(memchr::memmem::find(&without, b"permessage-deflate").is_none());
    }
}
