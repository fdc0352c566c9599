//! Inflates messages of permessage-deflate (RFC 7692).

use flate2::{Decompress, FlushDecompress};

/// The bytes that a sender removes from the end of each message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const LARGEST: usize = 1 << 20;

/// The window of one socket: what earlier messages contained.
pub struct InflateWindow(Decompress);

impl Default for InflateWindow {
    fn default() -> Self {
        Self(Decompress::new(false))
    }
}

/// Inflates messages, each with the window of its socket.
#[derive(Default)]
pub struct Inflater {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Inflater {
    /// Inflates a message. `None` if the message is damaged or larger than 1 MiB.
    pub fn inflate(&mut self, window: &mut InflateWindow, payload: &[u8]) -> Option<&[u8]> {
        self.input.clear();
        self.input.extend_from_slice(payload);
        self.input.extend_from_slice(&TAIL);
        self.output.clear();
        self.output.reserve(LARGEST);
        window.0.decompress_vec(&self.input, &mut self.output, FlushDecompress::Sync).ok()?;
        Some(&self.output)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    #[test]
    fn messages_are_inflated_against_those_before() {
        let (mut inflater, mut window) = (Inflater::default(), InflateWindow::default());
        let mut compress = Compress::new(Compression::fast(), false);
        let mut lengths = Vec::new();
        for text in [r#"{"type":"tool_end","a":1}"#, r#"{"type":"tool_end","a":1}"#, r#"{"type":"tool_end","a":2}"#] {
            let mut packed = Vec::with_capacity(200);
            compress.compress_vec(text.as_bytes(), &mut packed, FlushCompress::Sync).unwrap();
            let message = packed.strip_suffix(&TAIL).unwrap();
            lengths.push(message.len());
            assert_eq!(inflater.inflate(&mut window, message), Some(text.as_bytes()));
        }
        assert!(lengths[1] < lengths[0] / 2, "{lengths:?}");
        assert_eq!(inflater.inflate(&mut window, &[0xff, 0xff, 0xff]), None);
    }
}
