//! WebSocket frames (RFC 6455) of a client.

/// Opcode of a text frame.
pub const TEXT: u8 = 1;
/// Opcode of a binary frame.
pub const BINARY: u8 = 2;
/// Opcode of a close frame.
pub const CLOSE: u8 = 8;
/// Opcode of a ping.
pub const PING: u8 = 9;
/// Opcode of a pong.
pub const PONG: u8 = 10;

/// A frame from a server, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The opcode; 0 continues a message.
    pub opcode: u8,
    /// Whether the payload is deflated (RSV1).
    pub compressed: bool,
    /// The payload. Servers do not mask.
    pub payload: &'a [u8],
}

/// The first frame of `bytes` and its length. `None` while the frame is incomplete.
#[inline]
pub fn first(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (&head, &short) = (bytes.first()?, bytes.get(1)?);
    let (begin, length): (usize, usize) = match short {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short & 0x7f)),
    };
    let end = begin.checked_add(length)?;
    let payload = bytes.get(begin..end)?;
    Some((Frame { opcode: head & 0x0f, compressed: head & 0x40 != 0, payload }, end))
}

/// Appends a frame of a server: final and not masked.
pub fn push(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_head(out, opcode, payload.len(), 0);
    out.extend_from_slice(payload);
}

/// Appends a frame of a client. The masking key is zero, which costs the client nothing; servers apply it all the same.
pub fn push_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_head(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

fn push_head(out: &mut Vec<u8>, opcode: u8, length: usize, mask: u8) {
    out.push(0x80 | opcode);
    match length {
        0..=125 => out.push(mask | length as u8),
        126..=0xffff => {
            out.push(mask | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_any_length_cut_anywhere_is_incomplete() {
        for length in [0, 1, 125, 126, 200, 65_535, 65_536] {
            let mut bytes = Vec::new();
            push(&mut bytes, TEXT, &vec![b'x'; length]);
            let whole = bytes.len();
            bytes.extend_from_slice(b"\x81");
            for cut in (0..whole).filter(|cut| *cut < 20 || *cut > whole - 20) {
                assert_eq!(first(&bytes[..cut]), None, "{length} {cut}");
            }
            let (frame, end) = first(&bytes).unwrap();
            assert_eq!((frame.opcode, frame.payload.len(), end), (TEXT, length, whole));
        }
    }

    #[test]
    fn the_compression_bit_is_read() {
        assert!(first(&[0xc1, 1, b'x']).unwrap().0.compressed);
        assert!(!first(&[0x81, 1, b'x']).unwrap().0.compressed);
    }

    #[test]
    fn a_clients_frame_is_masked() {
        let mut bytes = Vec::new();
        push_masked(&mut bytes, PONG, b"ab");
        assert_eq!(bytes, [0x8a, 0x82, 0, 0, 0, 0, b'a', b'b']);
    }
}
