//! Inflates a client's messages, never beyond a limit.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress, Status};

/// Put behind a message: the tail that its sender left out (RFC 7692 section 7.2.2), and then an empty last block. If
/// the message is whole, the stream ends with exactly these bytes; if it was cut off or goes on, it does not.
const END: [u8; 9] = [0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF];

/// The initial capacity, as a multiple of the compressed size: JSON is inflated to about this.
const FACTOR: usize = 4;

/// The smallest initial capacity.
const LEAST: usize = 64;

thread_local! {
    /// The inflater's working memory, 40 KB, is kept per thread: a socket keeps nothing between messages, and inside
    /// one only what has arrived.
    static INFLATER: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

/// Why a message could not be inflated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InflateError {
    /// The data violates RFC 1951 or RFC 7692.
    Invalid,
    /// The inflated message is over the limit.
    TooBig,
}

/// Inflates a whole message: the joined payloads of its frames.
///
/// # Errors
/// See [`InflateError`]. The inflated text never takes more than `limit` bytes of memory, whatever `compressed` holds.
pub fn inflate(compressed: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    INFLATER.with_borrow_mut(|kept| {
        let state = kept.get_or_insert_with(|| Decompress::new(false));
        state.reset(false);
        inflate_with(state, compressed, limit)
    })
}

fn inflate_with(state: &mut Decompress, compressed: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    let mut text = Vec::new();
    let (mut input, mut behind) = (compressed, &END[..]);
    loop {
        if input.is_empty() {
            input = std::mem::take(&mut behind);
        }
        let is_full = text.len() == limit;
        if text.len() == text.capacity() {
            let wanted = (2 * text.len()).max(FACTOR * compressed.len()).max(LEAST).min(limit);
            text.reserve_exact(wanted - text.len());
        }
        let before = (state.total_in(), state.total_out());
        let status = if is_full {
            // Blocks without content may still follow.
            state.decompress(input, &mut [0], FlushDecompress::None)
        } else {
            state.decompress_vec(input, &mut text, FlushDecompress::None)
        };
        let (taken, made) = (state.total_in() - before.0, state.total_out() - before.1);
        if is_full && made > 0 {
            return Err(InflateError::TooBig);
        }
        input = &input[taken as usize..];
        match status {
            Err(_) => return Err(InflateError::Invalid),
            Ok(Status::StreamEnd) if input.is_empty() && behind.is_empty() => return Ok(text),
            // A block inside the message was marked as the last (RFC 7692 section 7.2.3.4).
            Ok(Status::StreamEnd) => state.reset(false),
            Ok(Status::Ok | Status::BufError) if taken == 0 && made == 0 => return Err(InflateError::Invalid),
            Ok(Status::Ok | Status::BufError) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    /// Compressed by another library, with a last block and an empty one behind it (RFC 7692 section 7.2.3.4).
    fn deflate(text: &[u8], level: u8) -> Vec<u8> {
        let mut compressed = miniz_oxide::deflate::compress_to_vec(text, level);
        compressed.push(0);
        compressed
    }

    #[test]
    fn the_examples_of_the_rfc_are_inflated() {
        let examples: [&[u8]; 4] = [
            // Section 7.2.3.1: one block.
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            // 7.2.3.3: no compression.
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            // 7.2.3.4: a last block, and an empty one behind it.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            // 7.2.3.5: two blocks.
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ];
        for example in examples {
            assert_eq!(inflate(example, LIMIT).as_deref(), Ok(&b"Hello"[..]), "{example:02x?}");
            assert_eq!(inflate(example, 5).as_deref(), Ok(&b"Hello"[..]), "exactly at the limit");
            assert_eq!(inflate(example, 4), Err(InflateError::TooBig));
        }
        // 7.2.3.2: a shared window was not agreed on, so the second "Hello" has nothing to refer to.
        assert_eq!(inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00], LIMIT), Err(InflateError::Invalid));
        // 7.2.3.6: an empty message.
        assert_eq!(inflate(&[0x00], LIMIT).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn truncated_and_invalid_data_is_refused() {
        let text = r#"{"action":"publish","channel":"graph:abc"}"#.repeat(20);
        let whole = deflate(text.as_bytes(), 6);
        assert_eq!(inflate(&whole, LIMIT).as_deref(), Ok(text.as_bytes()));
        for cut in 0..whole.len() {
            assert_eq!(inflate(&whole[..cut], LIMIT), Err(InflateError::Invalid), "cut at {cut}");
        }
        let with_tail = [&whole[..], &[0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF]].concat();
        for junk in [&b""[..], &[0x07], &[0xFF; 40], b"plain text", &[0x01, 0, 0, 0xFF, 0xFF], &with_tail] {
            assert_eq!(inflate(junk, LIMIT), Err(InflateError::Invalid), "{junk:02x?}");
        }
    }

    #[test]
    fn a_bomb_is_refused_and_takes_no_more_than_the_limit() {
        let bomb = deflate(&vec![b'a'; 200 << 20], 9);
        assert!(bomb.len() < LIMIT / 4, "the bomb is small");
        for limit in [1, 100, LIMIT] {
            assert_eq!(inflate(&bomb, limit), Err(InflateError::TooBig));
        }
        for length in [1, 63, 64, 65, 5000, LIMIT - 1, LIMIT] {
            let text = inflate(&deflate(&vec![b'a'; length], 9), length).unwrap();
            assert_eq!((text.len(), text.capacity()), (length, length), "not a byte over the limit");
            let text = inflate(&deflate(&vec![b'a'; length], 9), LIMIT).unwrap();
            assert!(text.len() == length && text.capacity() <= LIMIT);
        }
    }

    #[test]
    fn a_message_of_many_streams_costs_little() {
        let began = Instant::now();
        let mut many = [0x03, 0x00].repeat(LIMIT / 2);
        many.push(0);
        assert_eq!(inflate(&many, LIMIT).as_deref(), Ok(&b""[..]));
        assert_eq!(
            inflate(&[&[0, 0, 0, 0xFF, 0xFF].repeat(LIMIT / 5)[..], &[0]].concat(), LIMIT).as_deref(),
            Ok(&b""[..])
        );
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[test]
    fn junk_never_panics_and_leaves_nothing_behind() {
        let text = "a text, a text, and a text again".repeat(50);
        let good = deflate(text.as_bytes(), 6);
        for seed in 0..3000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = good.clone();
            if seed % 2 == 0 {
                bytes = (0..random.usize(..500)).map(|_| random.u8(..)).collect();
            } else {
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(..bytes.len());
                    bytes[at] = random.u8(..);
                }
            }
            let limit = random.usize(1..5000);
            if let Ok(text) = inflate(&bytes, limit) {
                assert!(text.capacity() <= limit, "seed {seed}");
            }
            assert_eq!(inflate(&good, LIMIT).as_deref(), Ok(text.as_bytes()), "after seed {seed}");
        }
    }

    proptest! {
        #[test]
        fn output_of_another_compressor_is_inflated(text in "\\PC{0,300}", times in 0..30usize, level in 0..=9u8) {
            let text = text.repeat(times);
            let compressed = deflate(text.as_bytes(), level);
            let read = inflate(&compressed, LIMIT);
            prop_assert_eq!(read.as_deref(), Ok(text.as_bytes()));
        }
    }
}
