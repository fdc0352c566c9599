//! The part of the Redis protocol that publishing and the raw write loop need.

use std::io::Write;

/// Appends a command.
pub fn command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let _ = write!(out, "*{}\r\n", parts.len());
    for part in parts {
        let _ = write!(out, "${}\r\n", part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// A message from Redis on a subscribed connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A message of a subscribed channel.
    Message {
        /// The channel.
        channel: &'a [u8],
        /// The published payload.
        payload: &'a [u8],
    },
    /// Any other array, such as a confirmation.
    Other,
}

/// The first reply of a subscribed connection and its length. `None` while the reply is incomplete.
pub fn pushed(bytes: &[u8]) -> Option<(Reply<'_>, usize)> {
    let (count, mut at) = number(bytes, b'*', 0)?;
    let mut parts: [&[u8]; 3] = [b""; 3];
    for n in 0..count {
        if bytes.get(at) == Some(&b':') {
            at = number(bytes, b':', at)?.1;
            continue;
        }
        let (length, begin) = number(bytes, b'$', at)?;
        at = begin + length + 2;
        let part = bytes.get(begin..at)?;
        if let Some(slot) = parts.get_mut(n) {
            *slot = &part[..length];
        }
    }
    let reply = match parts {
        [b"message", channel, payload] => Reply::Message { channel, payload },
        _ => Reply::Other,
    };
    Some((reply, at))
}

/// The number after `kind` at `at`, and the beginning of the next line.
fn number(bytes: &[u8], kind: u8, at: usize) -> Option<(usize, usize)> {
    let rest = bytes.get(at..)?;
    (rest.first() == Some(&kind)).then_some(())?;
    let end = memchr::memchr(b'\r', rest)?;
    rest.get(end + 1)?;
    let digits = rest[1..end].iter().fold(0, |sum, digit| sum * 10 + usize::from(digit.wrapping_sub(b'0')));
    Some((digits, at + end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cut_anywhere_is_incomplete() {
        let mut bytes = Vec::new();
        command(&mut bytes, &[b"message", b"graph:c1", b"{\"a\":1}"]);
        let whole = bytes.len();
        bytes.extend_from_slice(b"*3\r\n");
        for cut in 0..whole {
            assert_eq!(pushed(&bytes[..cut]), None, "{cut}");
        }
        let message = Reply::Message { channel: b"graph:c1", payload: b"{\"a\":1}" };
        assert_eq!(pushed(&bytes), Some((message, whole)));
    }

    #[test]
    fn a_confirmation_is_skipped() {
        let bytes = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
        assert_eq!(pushed(bytes), Some((Reply::Other, bytes.len())));
    }
}
