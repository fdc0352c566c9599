use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crewcast_events::Event;
use http::{HeaderMap, HeaderValue, header};
use miniz_oxide::inflate::{TINFLStatus, core};

use super::*;
use crate::{
    dialect::encoding,
    hub::{Item, SharedWindows},
};
use crewcast_websocket::{deflate::agree, frame::is_deflated, text_frame};

const COMPRESSION: Compression = Compression { threshold: 100, level: 5 };

/// More bytes than any text of these tests has.
const LARGEST: usize = 100 << 10;

fn agreed(offer: &'static str) -> Agreed {
    let mut headers = HeaderMap::new();
    headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(offer));
    agree(&headers).unwrap().agreed
}

fn entry(text: &str) -> (Entry, Bytes) {
    let event = Event::parse(format!(r#"{{"type":"x","text":"{text}"}}"#).into()).unwrap();
    let frame = text_frame(event.raw());
    (Entry::new(Item::Event(event), None), frame)
}

/// A client with its window. Its inflater (miniz_oxide) is independent of the gateway's code.
struct Client {
    agreed: Agreed,
    window_position: WindowPosition,
    /// The texts of the last compressed messages, as far back as its window reaches.
    window: Vec<u8>,
}

impl Client {
    fn new(agreed: Agreed) -> Self {
        Self { agreed, window_position: WindowPosition::default(), window: Vec::new() }
    }

    fn frame_for(&mut self, entry: &Entry, plain: &Bytes) -> Bytes {
        compressed(COMPRESSION, self.agreed, &mut self.window_position, plain, encoding::RAW_FRAME, entry)
            .unwrap_or_else(|| plain.clone())
    }

    fn read(&mut self, frame: &[u8]) -> Vec<u8> {
        if !is_deflated(frame) {
            return payload_of(frame).to_vec();
        }
        let stream = [payload_of(frame), &[0, 0, 0xFF, 0xFF], &[1, 0, 0, 0xFF, 0xFF]].concat();
        let before = self.window.len();
        self.window.resize(before + LARGEST, 0);
        let flags = core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let mut inflater = core::DecompressorOxide::new();
        let (status, _, length) = core::decompress(&mut inflater, &stream, &mut self.window, before, flags);
        assert_eq!(status, TINFLStatus::Done);
        self.window.truncate(before + length);
        let text = self.window[before..].to_vec();
        self.window.drain(..self.window.len().saturating_sub(self.agreed.span().min(32 << 10)));
        text
    }
}

#[test]
fn peers_that_take_an_event_compressed_share_one_frame() {
    let (entry, plain) = entry(&"abc ".repeat(50_000));
    let all = agreed("permessage-deflate");
    let take =
        |encoding| compressed(COMPRESSION, all, &mut WindowPosition::default(), &plain, encoding, &entry).unwrap();
    let frames: Vec<Bytes> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| take(encoding::RAW_FRAME))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(is_deflated(&frames[0]) && frames[0].len() < plain.len() / 10);
    assert!(frames.iter().all(|frame| frame.as_ptr() == frames[0].as_ptr()), "one frame");
    assert_ne!(take(encoding::HUB).as_ptr(), frames[0].as_ptr(), "each encoding has its own");
}

#[test]
fn a_window_or_an_event_that_is_too_small_gets_the_plain_frame() {
    let (entry, plain) = entry(&"abc ".repeat(100));
    let take = |threshold, offer| {
        let compression = Compression { threshold, level: 5 };
        compressed(compression, agreed(offer), &mut WindowPosition::default(), &plain, encoding::RAW_FRAME, &entry)
    };
    assert_eq!(take(100, "permessage-deflate; server_max_window_bits=8"), None);
    assert_eq!(take(1000, "permessage-deflate"), None);
    assert!(!entry.is_compressed(encoding::RAW_FRAME), "nothing was compressed for that");
}

#[test]
fn an_event_that_does_not_shrink_is_sent_plain_and_tried_once() {
    let mut random = fastrand::Rng::with_seed(3);
    let (entry, plain) = entry(&noise(&mut random, 100));
    let tried = AtomicUsize::new(0);
    for _ in 0..2 {
        let (text, taker) = (
            plain.slice_ref(payload_of(&plain)),
            DeflatePeer { run: &mut WindowPosition::default(), span: usize::MAX },
        );
        let frame = entry.compressed(encoding::RAW_FRAME, &text, taker, |window| {
            tried.fetch_add(1, Ordering::Relaxed);
            COMPRESSION.compressed(&plain, window)
        });
        assert_eq!(frame, None);
    }
    assert_eq!(tried.into_inner(), 1);
}

fn noise(random: &mut fastrand::Rng, length: usize) -> String {
    (0..length).map(|_| random.char('!'..='~')).filter(|c| !matches!(c, '"' | '\\')).collect()
}

/// An event of a channel, and how many times it was compressed.
struct Sent {
    entry: Entry,
    plain: Bytes,
    compressions: AtomicUsize,
}

/// The text of a tool call. All calls resemble each other.
fn call(random: &mut fastrand::Rng) -> String {
    let (agent, tool) = (random.choice(["coder", "planner"]).unwrap(), random.choice(["bash", "search"]).unwrap());
    let (id, time) = (random.u32(..), random.u32(..100_000));
    format!("crew atlas, run r-81f2, agent {agent}, tool {tool}, call c{id:08x}: completed without error in {time} ms ")
}

fn channel(random: &mut fastrand::Rng, count: usize) -> Vec<Sent> {
    let windows = Arc::new(SharedWindows::default());
    let mut channel = Vec::new();
    for sequence in 0..count {
        let text = match random.u32(..20) {
            0..2 => "small".to_owned(),
            2..4 => {
                let length = random.usize(100..6000);
                noise(random, length)
            }
            4 => call(random).repeat(random.usize(30..500)),
            _ => call(random).repeat(random.usize(1..3)),
        };
        let (entry, plain) = entry(&text);
        channel.push(Sent { entry: entry.at(&windows, sequence as i64), plain, compressions: AtomicUsize::new(0) });
    }
    channel
}

impl Client {
    /// Reads an event and returns the size of its frame: only the size shows whether the frame uses the shared window.
    fn check(&mut self, sent: &Sent, seed: u64) -> usize {
        let text = sent.plain.slice_ref(payload_of(&sent.plain));
        let taker = DeflatePeer { run: &mut self.window_position, span: self.agreed.span() };
        let mut frame = None;
        if text.len() >= COMPRESSION.threshold && self.agreed.takes(text.len()) {
            frame = sent.entry.compressed(encoding::RAW_FRAME, &text, taker, |window| {
                sent.compressions.fetch_add(1, Ordering::Relaxed);
                COMPRESSION.compressed(&sent.plain, window)
            });
        }
        let frame = frame.unwrap_or_else(|| sent.plain.clone());
        assert!(frame.len() <= sent.plain.len(), "seed {seed}");
        assert!(self.read(&frame) == text, "seed {seed}");
        frame.len()
    }
}

/// A client with or without a window that starts somewhere, skips some events, and reads two channels alternately.
fn read_at_random(channels: &[Vec<Sent>; 2], read: Range<usize>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let offers = [
        "permessage-deflate",
        "permessage-deflate",
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=13",
    ];
    let mut client = Client::new(agreed(random.choice(offers).unwrap()));
    let skipped = random.choice([0.0, 0.0, 0.02, 0.3]).unwrap();
    let batch = random.choice([1, 10, 100_000]).unwrap();
    let mut next = [read.start; 2];
    while next[0] < read.end || next[1] < read.end {
        for (channel, next) in channels.iter().zip(&mut next) {
            for _ in 0..random.usize(0..batch).min(read.end - *next) {
                *next += 1;
                if random.f64() >= skipped {
                    client.check(&channel[*next - 1], seed);
                }
                if random.u32(..50) == 0 {
                    std::thread::yield_now();
                }
            }
            // A client that reads event by event makes progress too.
            if batch == 1 && *next < read.end {
                client.check(&channel[*next], seed);
                *next += 1;
            }
        }
    }
}

#[test]
fn every_client_reads_every_event_byte_for_byte() {
    let first = fastrand::u64(..1 << 40);
    for seed in first..first + 12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let channels = [120, 120].map(|count| channel(&mut random, count));
        std::thread::scope(|scope| {
            for reader in 0..12 {
                let (channels, start) = (&channels, random.usize(..100) * usize::from(reader > 2));
                scope.spawn(move || read_at_random(channels, start..120, seed * 100 + reader));
            }
        });
        for sent in channels.iter().flatten() {
            assert!(sent.compressions.load(Ordering::Relaxed) <= 2, "seed {seed}");
        }
    }
}

#[test]
fn clients_share_the_frames_of_a_window_and_late_ones_soon_join() {
    let mut random = fastrand::Rng::with_seed(5);
    let windows = Arc::new(SharedWindows::default());
    let mut clients: Vec<Client> = (0..3).map(|_| Client::new(agreed("permessage-deflate"))).collect();
    let mut windowless = Client::new(agreed("permessage-deflate; server_no_context_takeover"));
    let (mut plain_bytes, mut bytes, mut bytes_alone) = (0, 0, 0);
    for n in 0..100 {
        if n == 50 {
            clients.push(Client::new(agreed("permessage-deflate")));
        }
        let (entry, plain) = entry(&call(&mut random));
        let entry = entry.at(&windows, n);
        let frames: Vec<Bytes> = clients.iter_mut().map(|client| client.frame_for(&entry, &plain)).collect();
        for (client, frame) in clients.iter_mut().zip(&frames) {
            assert_eq!(client.read(frame), payload_of(&plain));
        }
        assert!(frames[..3].iter().all(|frame| frame.as_ptr() == frames[0].as_ptr()), "the shared frame");
        let alone = windowless.frame_for(&entry, &plain);
        assert_eq!(windowless.read(&alone), payload_of(&plain));
        match n {
            0 => assert_eq!(alone.as_ptr(), frames[0].as_ptr(), "the first event has no window yet"),
            50..54 => assert_eq!(frames[3].as_ptr(), alone.as_ptr(), "it has not read enough of the window"),
            90.. => assert_eq!(frames[3].as_ptr(), frames[0].as_ptr(), "it has read enough of the window"),
            _ => {}
        }
        plain_bytes += plain.len();
        bytes += frames[0].len();
        bytes_alone += alone.len();
    }
    assert!(bytes * 3 < plain_bytes && bytes * 2 < bytes_alone, "{bytes} and {bytes_alone} of {plain_bytes}");
}

#[test]
fn an_event_that_does_not_shrink_does_not_interrupt_the_window() {
    let mut random = fastrand::Rng::with_seed(6);
    let windows = Arc::new(SharedWindows::default());
    let mut client = Client::new(agreed("permessage-deflate"));
    for n in 0..40 {
        let (entry, plain) = match n % 3 {
            1 => (entry("").0, text_frame(noise(&mut random, 110).as_bytes())),
            2 => entry("small"),
            _ => entry(&call(&mut random)),
        };
        let frame = client.frame_for(&entry.at(&windows, n), &plain);
        assert_eq!(client.read(&frame), payload_of(&plain));
        assert_eq!(is_deflated(&frame), n % 3 == 0);
        assert!(n % 3 != 0 || n == 0 || frame.len() * 2 < plain.len(), "{n}: {} of {}", frame.len(), plain.len());
    }
}

#[test]
fn an_entry_that_the_window_has_passed_is_compressed_alone() {
    let mut random = fastrand::Rng::with_seed(7);
    let windows = Arc::new(SharedWindows::default());
    let mut client = Client::new(agreed("permessage-deflate"));
    let mut late = Client::new(agreed("permessage-deflate"));
    let sent: Vec<_> = (0..20)
        .map(|n| {
            let (entry, plain) = entry(&call(&mut random));
            (entry.at(&windows, n), plain)
        })
        .collect();
    for (entry, plain) in &sent[10..] {
        let frame = client.frame_for(entry, plain);
        assert_eq!(client.read(&frame), payload_of(plain));
    }
    for (entry, plain) in &sent {
        let frame = late.frame_for(entry, plain);
        assert_eq!(late.read(&frame), payload_of(plain));
    }
    // A cleared channel begins a new window.
    windows.clear();
    for _ in 0..2 {
        let (entry, plain) = entry(&call(&mut random));
        let frame = client.frame_for(&entry.at(&windows, 20), &plain);
        assert_eq!(client.read(&frame), payload_of(&plain));
    }
}
