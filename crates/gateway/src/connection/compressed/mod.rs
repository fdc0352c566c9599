//! The compressed frames of events: each made once, for all sockets that agreed on compression.

use std::sync::LazyLock;

use bytes::Bytes;
use metrics::Counter;

use super::Connection;
use crate::{
    hub::{DeflatePeer, EncodingSlot, Entry, WindowPosition},
    telemetry::metrics::{Metric, counter},
};
use crewcast_websocket::{Agreed, Compression, frame::payload_of};

static COMPRESSIONS: LazyLock<Counter> = LazyLock::new(|| counter(Metric::Compressions, &[]));

impl Connection {
    /// An entry's frame as this socket takes it.
    pub(super) fn frame_for_peer(&mut self, plain: Bytes, encoding: EncodingSlot, entry: &Entry) -> Bytes {
        match (self.socket.agreed(), self.shared.compression) {
            (Some(agreed), Some(compression)) => {
                compressed(compression, agreed, self.run.get_or_insert_default(), &plain, encoding, entry)
                    .unwrap_or(plain)
            }
            _ => plain,
        }
    }
}

/// `None`: the plain frame, which touches no window.
fn compressed(
    compression: Compression,
    agreed: Agreed,
    run: &mut WindowPosition,
    plain: &Bytes,
    encoding: EncodingSlot,
    entry: &Entry,
) -> Option<Bytes> {
    let text = plain.slice_ref(payload_of(plain));
    if text.len() < compression.threshold || !agreed.takes(text.len()) {
        return None;
    }
    let (is_made, taker) = (entry.is_compressed(encoding), DeflatePeer { run, span: agreed.span() });
    let take = || {
        entry.compressed(encoding, &text, taker, |window| {
            COMPRESSIONS.increment(1);
            compression.compressed(plain, window)
        })
    };
    // Waiting for another one's compressor is as long as using one's own.
    if is_made { take() } else { Compression::aside(text.len(), take) }
}

#[cfg(test)]
mod tests;
