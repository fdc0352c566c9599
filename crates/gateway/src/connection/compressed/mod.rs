//! Compressed frames of events. Each frame is made once for all sockets that agreed on compression.

use std::sync::LazyLock;

use bytes::Bytes;
use crewcast_websocket::{Agreed, Compression, frame::payload_of};
use metrics::Counter;

use super::Connection;
use crate::{
    hub::{DeflatePeer, EncodingSlot, Entry, WindowPosition},
    outbox::Outbox,
    telemetry::metrics::{Metric, counter},
};

static COMPRESSIONS: LazyLock<Counter> = LazyLock::new(|| counter(Metric::Compressions, &[]));

impl<O: Outbox> Connection<O> {
    /// The frame of an entry for this peer: compressed if the handshake agreed on it, else `plain`.
    pub(super) fn frame_for_peer(&mut self, plain: Bytes, encoding: EncodingSlot, entry: &Entry) -> Bytes {
        match (self.outbox.agreed(), self.shared.compression) {
            (Some(agreed), Some(compression)) => {
                compressed(compression, agreed, self.window_position.get_or_insert_default(), &plain, encoding, entry)
                    .unwrap_or(plain)
            }
            _ => plain,
        }
    }
}

/// The compressed frame. `None`: send the plain frame, which leaves the peer's window as it is.
fn compressed(
    compression: Compression,
    agreed: Agreed,
    window_position: &mut WindowPosition,
    plain: &Bytes,
    encoding: EncodingSlot,
    entry: &Entry,
) -> Option<Bytes> {
    let text = plain.slice_ref(payload_of(plain));
    if text.len() < compression.threshold || !agreed.takes(text.len()) {
        return None;
    }
    let (is_made, taker) = (entry.is_compressed(encoding), DeflatePeer { run: window_position, span: agreed.span() });
    let take = || {
        entry.compressed(encoding, &text, taker, |window| {
            COMPRESSIONS.increment(1);
            compression.compressed(plain, window)
        })
    };
    // If another thread is compressing the frame, waiting for it takes as long as compressing it.
    if is_made { take() } else { Compression::aside(text.len(), take) }
}

#[cfg(test)]
mod tests;
