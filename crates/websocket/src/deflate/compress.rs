//! Compresses outgoing messages, once for all sockets that agreed on compression.
//!
//! The library is zlib-rs. Measured at level 5 against miniz_oxide, the other pure Rust library: 200 bytes take 5.6 us
//! against 22, 4 KB 17 against 39, 64 KB 0.28 ms against 0.51. The sizes are within two per cent of each other
//! (`figures` below prints ours).

use std::{
    cell::RefCell,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use flate2::{Compress, FlushCompress};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::TAIL;
use crate::frame::{deflated_text_frame, payload_of};

/// Message size in bytes from which a worker's other tasks do not wait for the compressor.
///
/// Measured on JSON: 64 KiB take 0.17 to 0.28 ms at level 5 and up to 1 ms at level 8, 1 MiB takes 3 to 5 ms at level
/// 5. A smaller event takes 6 to 60 us.
const LARGE: usize = 64 << 10;

/// Maximum number of threads that compress a large message, or wait for one, while other threads take over their tasks.
/// Beyond it, workers compress in place: each of these threads holds a compressor.
const MAX_ASIDE: usize = 8;

static ASIDE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// A compressor's working memory, 300 KB, is made once per thread and not per event: with a new one for each, an
    /// event of 200 bytes takes 9.0 us instead of 5.5.
    static COMPRESSOR: RefCell<Option<(u32, Compress)>> = const { RefCell::new(None) };
}

/// How messages are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compression {
    /// Messages with fewer bytes are sent uncompressed.
    pub threshold: usize,
    /// 1 (fast) to 9 (small).
    pub level: u32,
}

impl Compression {
    /// The compressed frame of a whole text message; `None` if it would not be smaller.
    ///
    /// `window` is what the receiver's window ends with: the message is compressed against it. An empty message never
    /// becomes smaller, so the rule for compressed empty messages (RFC 7692 section 7.2.3.6) never applies.
    pub fn compressed(self, plain: &[u8], window: &[u8]) -> Option<Bytes> {
        let text = payload_of(plain);
        if text.len() < self.threshold {
            return None;
        }
        COMPRESSOR.with_borrow_mut(|compressor| {
            let (_, state) = match compressor {
                Some(kept) if kept.0 == self.level => kept,
                _ => compressor.insert((self.level, Compress::new(flate2::Compression::new(self.level), false))),
            };
            compress(state, window, text).map(|compressed| deflated_text_frame(&compressed))
        })
    }

    /// Runs `work`, which waits for a message of `length` bytes to be compressed. A large message does not hold up this
    /// worker's other tasks if another thread can take them.
    pub fn aside<T>(length: usize, work: impl FnOnce() -> T) -> T {
        let has_others = || Handle::try_current().is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
        if length < LARGE || !has_others() {
            return work();
        }
        match Aside::enter() {
            Some(_place) => tokio::task::block_in_place(work),
            None => work(),
        }
    }
}

/// One of the [`MAX_ASIDE`] threads.
struct Aside;

impl Aside {
    fn enter() -> Option<Self> {
        let taken = ASIDE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < MAX_ASIDE).then(|| n + 1));
        taken.is_ok().then_some(Self)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        ASIDE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Compresses a message, without the tail that the receiver knows; `None` if it does not become smaller.
fn compress(state: &mut Compress, window: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    state.reset();
    if !window.is_empty() {
        state.set_dictionary(window).ok()?;
    }
    // Output that does not fit is not smaller, so it is not written to its end.
    let mut compressed = Vec::with_capacity(text.len() + TAIL.len());
    state.compress_vec(text, &mut compressed, FlushCompress::Sync).ok()?;
    // Spare capacity shows that everything has been flushed.
    if compressed.len() == compressed.capacity() || !compressed.ends_with(&TAIL) {
        return None;
    }
    compressed.truncate(compressed.len() - TAIL.len());
    Some(compressed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text_frame;

    const ALL: Compression = Compression { threshold: 0, level: 5 };

    /// The text of a compressed frame, inflated by another library. The tail is put back (RFC 7692 section 7.2.2), and
    /// a last block follows, which a complete deflate stream needs.
    fn read(frame: &[u8]) -> Vec<u8> {
        assert_eq!(frame[0], 0x80 | 0x40 | 0x1, "a whole text message, compressed");
        let stream = [payload_of(frame), &[0, 0, 0xFF, 0xFF], &[1, 0, 0, 0xFF, 0xFF]].concat();
        miniz_oxide::inflate::decompress_to_vec(&stream).unwrap()
    }

    #[test]
    fn compressed_text_is_smaller_and_inflates_to_the_same_text() {
        for length in [40, 100, 300, 1000, 100_000, 1 << 20] {
            let text = r#"{"type":"tool_start","tool":"bash"},"#.repeat(length / 36 + 1);
            let plain = text_frame(text.as_bytes());
            let frame = ALL.compressed(&plain, &[]).unwrap();
            assert!(frame.len() < plain.len());
            assert_eq!(read(&frame), text.as_bytes());
        }
    }

    #[test]
    fn text_that_does_not_become_smaller_is_not_compressed() {
        let mut random = fastrand::Rng::with_seed(7);
        for length in 0..200 {
            let noise: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            assert_eq!(ALL.compressed(&text_frame(&noise), &[]), None, "{length}");
        }
        assert_eq!(ALL.compressed(&text_frame(b"{\"a\":1}"), &[]), None);
    }

    #[test]
    fn messages_below_the_threshold_are_not_compressed() {
        let compression = Compression { threshold: 128, level: 5 };
        assert_eq!(compression.compressed(&text_frame(&[b'a'; 127]), &[]), None);
        assert!(compression.compressed(&text_frame(&[b'a'; 128]), &[]).is_some());
    }

    #[test]
    fn a_thread_switches_between_levels() {
        let text = include_str!("../../../../CHANGELOG.md");
        let sizes = [1, 9, 1].map(|level| {
            let frame = Compression { threshold: 0, level }.compressed(&text_frame(text.as_bytes()), &[]).unwrap();
            assert_eq!(read(&frame), text.as_bytes());
            frame.len()
        });
        assert!(sizes[0] == sizes[2] && sizes[1] < sizes[0], "{sizes:?}");
    }

    #[test]
    fn large_messages_are_compressed_in_any_runtime_and_without_one() {
        let text = text_frame("abc ".repeat(LARGE).as_bytes());
        let expected = ALL.compressed(&text, &[]);
        let make = || Compression::aside(text.len(), || ALL.compressed(&text, &[]));
        assert_eq!(make(), expected);
        let one = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(one.block_on(async { make() }), expected);
        let several = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        assert_eq!(several.block_on(async { make() }), expected);
        assert_eq!(
            several.block_on(async { tokio::spawn(async { Compression::aside(LARGE, || 5) }).await.unwrap() }),
            5
        );
    }

    #[test]
    fn beyond_the_limit_workers_compress_in_place() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let places: Vec<_> = std::iter::from_fn(Aside::enter).collect();
            assert!(places.len() <= MAX_ASIDE);
            assert_eq!(Compression::aside(LARGE, || 7), 7);
        });
    }

    /// The events of the typed catalog as their emitters write them, logged.
    fn catalog() -> Vec<(String, String)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/catalog");
        let mut events = Vec::new();
        for dialect in ["crew", "stream", "hub", "tracking", "forge"] {
            for line in std::fs::read_to_string(format!("{folder}/{dialect}.jsonl")).unwrap().lines() {
                let Some((_, event)) = line.split_once(r#""event":{"#) else { continue };
                let event = format!(r#"{{"id":"4711-k3x9q0b7m2za",{}"#, event.strip_suffix('}').unwrap());
                let kind = serde_json::from_str::<serde_json::Value>(&event).unwrap()["type"].to_string();
                events.push((format!("{dialect} {kind}"), event));
            }
        }
        events
    }

    /// Prints sizes and times: `cargo test --release -p crewcast-websocket figures -- --ignored --nocapture`.
    #[test]
    #[ignore = "prints figures"]
    fn figures() {
        let output = |length: usize| {
            let mut random = fastrand::Rng::with_seed(1);
            let head = r#"{"id":"4711-k3x9q0b7m2za","type":"tool_end","crew_id":"atlas","run_id":"r-81f2","agent_id":"coder","call_id":"c17","output":""#;
            let mut text = head.to_owned();
            while text.len() < length {
                let (case, time) = (random.u32(..1000), random.f32() * 100.0);
                text.push_str(&format!("test relay::tests::case_{case} ... ok in {time:.1} ms\\n"));
            }
            text.push_str("\"}");
            text
        };
        let mut events = catalog();
        events.extend(
            [400, 1000, 4096, 65_536, 1 << 20].map(|length| (format!("a tool's output of {length}"), output(length))),
        );
        let mut sums = [0; 10];
        for (name, event) in &events {
            let plain = text_frame(event.as_bytes());
            print!("{name:45} {:>7}", plain.len());
            sums[0] += plain.len() * usize::from(event.len() < 1000);
            for level in [1, 3, 5, 6, 9] {
                let compression = Compression { threshold: 0, level };
                let times = 1 + 2_000_000 / (event.len() + 1000);
                let began = std::time::Instant::now();
                let length =
                    (0..times).map(|_| compression.compressed(&plain, &[]).map_or(plain.len(), |it| it.len())).max();
                let (length, took) = (length.unwrap_or_default(), began.elapsed() / times as u32);
                sums[level as usize] += length * usize::from(event.len() < 1000);
                print!(
                    " | {level}: {length:>6} {:.2} {:>7.1} us",
                    length as f64 / plain.len() as f64,
                    took.as_secs_f64() * 1e6
                );
            }
            println!();
        }
        println!("those under 1000 bytes together, by level: {sums:?}");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let aside = || (0..1000).for_each(|_| Compression::aside(LARGE, || ()));
        let took = runtime.block_on(runtime.spawn(async move {
            let began = std::time::Instant::now();
            aside();
            began.elapsed() / 1000
        }));
        println!("giving a worker's tasks to another thread: {:?}", took.unwrap());
    }

    /// Prints the gain of windows, run as above. Events are drawn at random, with every trace id and every digit but
    /// the day's and the hour's changed.
    #[test]
    #[ignore = "prints figures"]
    fn figures_of_windows() {
        let mut random = fastrand::Rng::with_seed(1);
        let events = catalog();
        for dialect in ["crew", "stream", "hub", "tracking", "forge"] {
            let mut drawn = Vec::new();
            for _ in 0..500 {
                let of_dialect: Vec<_> = events.iter().filter(|(name, _)| name.starts_with(dialect)).collect();
                let (_, event) = random.choice(of_dialect).unwrap();
                let (mut text, mut in_trace, mut in_day) = (String::new(), 0, 0);
                for (index, c) in event.char_indices() {
                    in_trace = if text.ends_with(r#""traceparent":"00-"#) { 49 } else { 0.max(in_trace - 1) };
                    in_day = if event[index..].starts_with("2026-") { 14 } else { 0.max(in_day - 1) };
                    text.push(match c {
                        '0'..='9' | 'a'..='f' if in_trace > 0 => random.digit(16),
                        '0'..='9' if in_day == 0 => random.digit(10),
                        _ => c,
                    });
                }
                drawn.push(text_frame(text.as_bytes()));
            }
            let bytes: usize = drawn.iter().map(Bytes::len).sum();
            print!("{dialect:10} {:>4}", bytes / drawn.len());
            for size in [0, 1024, 2048, 4096, 8192] {
                let (mut before, mut length, mut took) = (Vec::new(), 0, std::time::Duration::ZERO);
                for plain in &drawn {
                    let window = &before[before.len().saturating_sub(size)..];
                    let began = std::time::Instant::now();
                    let frame = ALL.compressed(plain, window);
                    took += began.elapsed();
                    length += frame.map_or(plain.len(), |frame| frame.len());
                    before.extend_from_slice(payload_of(plain));
                }
                let (left, took) = (length as f64 / bytes as f64, took / drawn.len() as u32);
                print!(" | {size:>4}: {left:.3} {:.1} us", took.as_secs_f64() * 1e6);
            }
            println!();
        }
    }

    #[test]
    fn a_frame_compressed_against_a_window_is_readable_only_behind_it() {
        let text = r#"{"type":"tool_end","tool":"bash","output":"all is well"}"#;
        let plain = text_frame(text.as_bytes());
        let behind = ALL.compressed(&plain, text.as_bytes()).unwrap();
        assert!(behind.len() < 15 && behind.len() < ALL.compressed(&plain, &[]).unwrap().len());
        let stream = [payload_of(&behind), &[0, 0, 0xFF, 0xFF], &[1, 0, 0, 0xFF, 0xFF]].concat();
        assert!(miniz_oxide::inflate::decompress_to_vec(&stream).is_err(), "the frame refers to the window before it");
        let again = ALL.compressed(&plain, text.as_bytes()).unwrap();
        assert_eq!(again, behind, "the kept compressor starts afresh");
        assert_eq!(read(&ALL.compressed(&plain, &[]).unwrap()), text.as_bytes());
    }

    proptest! {
        #[test]
        fn any_text_is_sent_smaller_or_unchanged(text in "\\PC{0,400}", times in 1..20usize, level in 1..=9u32) {
            let text = text.repeat(times);
            let plain = text_frame(text.as_bytes());
            if let Some(frame) = (Compression { threshold: 0, level }).compressed(&plain, &[]) {
                prop_assert!(frame.len() < plain.len());
                prop_assert_eq!(read(&frame), text.as_bytes());
            }
        }
    }
}
