//! Compressed messages. The first two bytes choose the limit; the rest is a message, and the text of another one.
#![no_main]

use crewcast_websocket::{
    Compression,
    deflate::{InflateError, inflate},
    frame::{is_deflated, payload_of, text_frame},
};
use libfuzzer_sys::fuzz_target;

/// Larger texts are not compared with another library.
const MOST: usize = 1 << 16;

/// What another library makes of a message that has no block marked as the last.
fn inflate_with_miniz(compressed: &[u8]) -> Option<Vec<u8>> {
    let whole = [compressed, &[0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF]].concat();
    let mut state = miniz_oxide::inflate::stream::InflateState::new_boxed(miniz_oxide::DataFormat::Raw);
    let mut text = vec![0; MOST];
    let result = miniz_oxide::inflate::stream::inflate(&mut state, &whole, &mut text, miniz_oxide::MZFlush::Finish);
    let is_whole = result.status == Ok(miniz_oxide::MZStatus::StreamEnd) && result.bytes_consumed == whole.len();
    text.truncate(result.bytes_written);
    is_whole.then_some(text)
}

fn check_inflated(compressed: &[u8], limit: usize) {
    match inflate(compressed, limit) {
        Ok(text) => {
            assert!(text.len() <= limit && text.capacity() <= limit, "{} of {limit}", text.capacity());
            assert_eq!(inflate(compressed, text.len()).as_ref(), Ok(&text), "its own length is enough");
            assert_eq!(inflate(compressed, limit + 1).as_ref(), Ok(&text), "a larger limit changes nothing");
            if !text.is_empty() {
                assert_eq!(inflate(compressed, text.len() - 1), Err(InflateError::TooBig));
            }
        }
        Err(InflateError::TooBig) => {
            assert_ne!(inflate(compressed, limit + 1).map(|text| text.len() <= limit), Ok(true))
        }
        Err(InflateError::Invalid) => assert_ne!(inflate(compressed, 0), Ok(Vec::new())),
    }
    if let Some(text) = inflate_with_miniz(compressed) {
        assert_eq!(inflate(compressed, MOST), Ok(text), "as another library reads it");
    }
}

/// What is sent compressed is read back, with and without a window.
fn check_round_trip(text: &[u8], level: u8) {
    let compression = Compression { threshold: 0, level: u32::from(level % 9) + 1 };
    if let Some(frame) = compression.compressed(&text_frame(text), &[]) {
        assert!(is_deflated(&frame));
        assert_eq!(inflate(payload_of(&frame), text.len()).as_deref(), Ok(text));
    }
}

fuzz_target!(|input: &[u8]| {
    let Some(([high, low], data)) = input.split_first_chunk::<2>() else { return };
    check_inflated(data, usize::from(u16::from_be_bytes([*high, *low])));
    check_round_trip(data, *low);
});
