//! The encodings of the dialects: each has a slot in every entry, so that an event is encoded once for all readers.
//!
//! A new encoding takes the next number, and [`EncodingSlot::COUNT`] grows with it.

use crate::hub::EncodingSlot;

/// One text frame with the event's bytes (dialects `crew`, `forge` and `tracking`).
pub(crate) const RAW_FRAME: EncodingSlot = EncodingSlot::new(0);
/// One server-sent event (dialect `sse`).
pub(crate) const SSE: EncodingSlot = EncodingSlot::new(1);
/// One text frame with the event's envelope (dialect `hub`).
pub(crate) const HUB: EncodingSlot = EncodingSlot::new(2);
/// One text frame with the event in an envelope (dialect `stream`).
pub(crate) const STREAM: EncodingSlot = EncodingSlot::new(3);
/// One text frame with the event as a message of the dialect `tracking`.
pub(crate) const TRACKING: EncodingSlot = EncodingSlot::new(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_has_a_slot_of_its_own_and_no_slot_is_left_over() {
        let all: [EncodingSlot; EncodingSlot::COUNT] = [RAW_FRAME, SSE, HUB, STREAM, TRACKING];
        for (index, slot) in all.iter().enumerate() {
            assert!(!all[..index].contains(slot), "{slot:?}");
        }
    }
}
