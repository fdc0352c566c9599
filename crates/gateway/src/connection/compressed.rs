//! The compressed frames of events: each made once, for all sockets that agreed on compression.

use std::sync::LazyLock;

use bytes::Bytes;
use metrics::Counter;

use super::Connection;
use crate::{
    hub::{Encoding, Entry},
    telemetry::metrics::{Metric, counter},
    transport::{Agreed, Compression, frame::payload_of},
};

static COMPRESSIONS: LazyLock<Counter> = LazyLock::new(|| counter(Metric::Compressions, &[]));

impl Connection {
    /// An entry's frame as this socket takes it.
    pub(super) fn fitting(&self, plain: Bytes, encoding: Encoding, entry: &Entry) -> Bytes {
        match (self.socket.agreed(), self.shared.compression) {
            (Some(agreed), Some(compression)) => compressed(compression, agreed, plain, encoding, entry),
            _ => plain,
        }
    }
}

fn compressed(compression: Compression, agreed: Agreed, plain: Bytes, encoding: Encoding, entry: &Entry) -> Bytes {
    let length = payload_of(&plain).len();
    if length < compression.threshold || !agreed.takes(length) {
        return plain;
    }
    if let Some(frame) = entry.compressed(encoding) {
        return frame;
    }
    // Waiting for another one's compressor is as long as using one's own.
    Compression::aside(length, || {
        entry.compress(encoding, || {
            COMPRESSIONS.increment(1);
            // Where it would not be smaller, all share the plain frame, and nobody tries again.
            compression.compressed(&plain).unwrap_or(plain)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crewcast_events::Event;
    use http::{HeaderMap, HeaderValue, header};

    use super::*;
    use crate::{
        hub::Item,
        transport::{deflate::agree, frame::is_deflated, text_frame},
    };

    const COMPRESSION: Compression = Compression { threshold: 100, level: 5 };

    fn agreed(offer: &'static str) -> Agreed {
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(offer));
        agree(&headers).unwrap().agreed
    }

    fn entry(text: &str) -> (Arc<Entry>, Bytes) {
        let event = Event::parse(format!(r#"{{"type":"x","text":"{text}"}}"#).into()).unwrap();
        let frame = text_frame(event.raw());
        (Arc::new(Entry::new(Item::Event(event), None)), frame)
    }

    #[test]
    fn all_who_take_an_event_compressed_share_one_frame() {
        let (entry, plain) = entry(&"abc ".repeat(50_000));
        let all = agreed("permessage-deflate");
        let take = |encoding| compressed(COMPRESSION, all, plain.clone(), encoding, &entry);
        let frames: Vec<Bytes> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| take(Encoding::RawFrame))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(is_deflated(&frames[0]) && frames[0].len() < plain.len() / 10);
        assert!(frames.iter().all(|frame| frame.as_ptr() == frames[0].as_ptr()), "one frame");
        assert_ne!(take(Encoding::Hub).as_ptr(), frames[0].as_ptr(), "each encoding has its own");
    }

    #[test]
    fn a_window_that_is_too_small_and_an_event_that_is_get_the_plain_frame() {
        let (entry, plain) = entry(&"abc ".repeat(100));
        let small = agreed("permessage-deflate; server_max_window_bits=8");
        assert_eq!(compressed(COMPRESSION, small, plain.clone(), Encoding::RawFrame, &entry), plain);
        let high = Compression { threshold: 1000, level: 5 };
        assert_eq!(compressed(high, agreed("permessage-deflate"), plain.clone(), Encoding::RawFrame, &entry), plain);
        assert_eq!(entry.compressed(Encoding::RawFrame), None, "nothing was compressed for that");
    }

    #[test]
    fn what_does_not_become_smaller_is_shared_plain_and_tried_once() {
        let mut random = fastrand::Rng::with_seed(3);
        let noise: String = (0..100).map(|_| random.char('!'..='~')).filter(|c| !matches!(c, '"' | '\\')).collect();
        let (entry, plain) = entry(&noise);
        let all = agreed("permessage-deflate");
        let frame = compressed(COMPRESSION, all, plain.clone(), Encoding::RawFrame, &entry);
        assert!(!is_deflated(&frame));
        assert_eq!((frame.as_ptr(), entry.compressed(Encoding::RawFrame)), (plain.as_ptr(), Some(plain)));
    }
}
