//! Inflating messages of permessage-deflate (RFC 7692) that keep no context.

use flate2::{Decompress, FlushDecompress};

/// What a sender cuts off the end of each message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const LARGEST: usize = 1 << 20;

/// Inflates messages, and remembers the last: all sockets of a channel get the same bytes where a server compresses once.
pub struct Inflater {
    decompress: Decompress,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { decompress: Decompress::new(false), input: Vec::new(), output: Vec::with_capacity(LARGEST) }
    }
}

impl Inflater {
    /// The message; `None` where it is damaged or larger than 1 MiB.
    pub fn inflate(&mut self, payload: &[u8]) -> Option<&[u8]> {
        if !self.output.is_empty() && self.input.strip_suffix(&TAIL) == Some(payload) {
            return Some(&self.output);
        }
        self.input.clear();
        self.input.extend_from_slice(payload);
        self.input.extend_from_slice(&TAIL);
        self.output.clear();
        self.decompress.reset(false);
        self.decompress.decompress_vec(&self.input, &mut self.output, FlushDecompress::Sync).ok()?;
        Some(&self.output)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    #[test]
    fn messages_are_inflated_one_by_one() {
        let mut inflater = Inflater::default();
        for text in ["{\"a\":1}", "{\"a\":1}", "{\"b\":[1,2,3,1,2,3]}"] {
            let mut packed = Vec::with_capacity(200);
            let mut compress = Compress::new(Compression::fast(), false);
            compress.compress_vec(text.as_bytes(), &mut packed, FlushCompress::Sync).unwrap();
            let message = packed.strip_suffix(&TAIL).unwrap();
            assert_eq!(inflater.inflate(message), Some(text.as_bytes()));
        }
        assert_eq!(inflater.inflate(&[0xff, 0xff, 0xff]), None);
    }
}
