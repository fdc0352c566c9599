//! The deflate window that all readers of a channel share: what was compressed right before an entry.
//!
//! A channel's compressed messages, in one encoding, are the segments of its shared window. A segment is compressed
//! against the texts of the segments right before it, or alone for a reader that has not had them. Its text enters the
//! receiver's window either way: a reader that began with any segment soon takes those that are compressed against the
//! window. The gateway keeps no window per reader, only the [`WindowPosition`]: the segments that the reader had last.

use std::{
    collections::VecDeque,
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::EncodingSlot;

/// How many bytes of earlier segments a segment is compressed against.
///
/// Measured on events of the dialects' catalogs, 184 to 278 bytes in the mean, with ids, times and words changed at
/// random. Of their bytes, 0.67 to 0.78 remain without a window (6.7 us each), 0.30 to 0.38 with 2 KiB (7.0 us), 0.27
/// to 0.33 with 4 KiB (8.1 us), 0.25 to 0.31 with 8 KiB (10.4 us). A reader that joins late first takes as many bytes
/// compressed alone.
pub(crate) const WINDOW: usize = 4 << 10;

/// How many bytes of segment texts are kept, counted back from the newest: a reader that takes a segment alone may come
/// to it before those that take it against the window.
const KEPT: usize = 2 * WINDOW;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The shared windows of one channel, or of one range of its log: one for each encoding that a reader takes compressed.
#[derive(Debug, Default)]
pub(crate) struct SharedWindows(Mutex<Vec<SharedWindow>>);

/// A compressed message's place in its shared window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    window_id: NonZeroU64,
    number: u32,
    /// The first segment of which the window holds something; the segment itself if the window is empty.
    from: u32,
}

/// The segments of one shared window that a socket has had in a row, with no other compressed message between or behind
/// them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WindowPosition(Option<SegmentRange>);

#[derive(Clone, Copy, Debug)]
struct SegmentRange {
    window_id: NonZeroU64,
    first: u32,
    last: u32,
}

/// The newest segments of one shared window.
#[derive(Debug)]
pub(super) struct SharedWindow {
    encoding: EncodingSlot,
    id: NonZeroU64,
    /// The number of the next segment.
    next: u32,
    /// The sequence number of the last segment's entry in the channel.
    place: i64,
    /// The texts of the last segments, or the ends of long ones.
    texts: VecDeque<Bytes>,
    /// Their size in bytes.
    bytes: usize,
}

impl SharedWindows {
    /// The window of one encoding. The holder of the lock decides what the next segment is.
    pub(super) fn of(&self, encoding: EncodingSlot) -> MappedMutexGuard<'_, SharedWindow> {
        MutexGuard::map(self.0.lock(), |windows| {
            let index = windows.iter().position(|window| window.encoding == encoding).unwrap_or_else(|| {
                windows.push(SharedWindow::new(encoding));
                windows.len() - 1
            });
            &mut windows[index]
        })
    }

    /// Forgets every text: what follows begins other windows.
    pub(crate) fn clear(&self) {
        *self.0.lock() = Vec::new();
    }
}

impl SharedWindow {
    fn new(encoding: EncodingSlot) -> Self {
        // The counter never wraps to zero, nor to an id that a socket remembers.
        let id = NonZeroU64::MIN.saturating_add(NEXT_ID.fetch_add(1, Ordering::Relaxed));
        Self { encoding, id, next: 0, place: i64::MIN, texts: VecDeque::new(), bytes: 0 }
    }

    /// The segment that an entry would be; `None` if a later entry already became one: readers that continue expect no
    /// earlier one.
    pub(super) fn segment(&mut self, place: i64) -> Option<Segment> {
        if place <= self.place {
            return None;
        }
        if self.next == u32::MAX {
            *self = Self::new(self.encoding);
        }
        let (mut from, mut bytes) = (self.next, 0);
        for text in self.texts.iter().rev() {
            if bytes >= WINDOW {
                break;
            }
            from -= 1;
            bytes += text.len();
        }
        Some(Segment { window_id: self.id, number: self.next, from })
    }

    /// Appends the segment that [`SharedWindow::segment`] has just returned.
    pub(super) fn push(&mut self, place: i64, text: &Bytes) {
        // Keeps a copy of a large text's end, so that the rest does not stay in memory.
        let tail = text.len().checked_sub(WINDOW).filter(|before| *before > 0);
        let text = tail.map_or_else(|| text.clone(), |before| Bytes::copy_from_slice(&text[before..]));
        (self.place, self.next) = (place, self.next + 1);
        self.bytes += text.len();
        self.texts.push_back(text);
        while let Some(oldest) = self.texts.front()
            && self.bytes - oldest.len() >= KEPT
        {
            self.bytes -= oldest.len();
            self.texts.pop_front();
        }
    }

    /// The window before a segment: the same on every call. `None`: its texts were dropped.
    pub(super) fn window(&self, segment: Segment) -> Option<Vec<u8>> {
        let oldest = self.next - self.texts.len() as u32;
        if segment.window_id != self.id || segment.from < oldest {
            return None;
        }
        let texts = self.texts.range((segment.from - oldest) as usize..(segment.number - oldest) as usize);
        let mut excess = texts.clone().map(Bytes::len).sum::<usize>().saturating_sub(WINDOW);
        let mut window = Vec::with_capacity(WINDOW);
        for text in texts {
            let left_out = excess.min(text.len());
            window.extend_from_slice(&text[left_out..]);
            excess -= left_out;
        }
        Some(window)
    }
}

impl WindowPosition {
    /// Whether the receiver's window ends with exactly what precedes the segment.
    pub(super) fn leads_to(self, segment: Segment) -> bool {
        let is_next = |had: SegmentRange| {
            had.window_id == segment.window_id && had.last + 1 == segment.number && had.first <= segment.from
        };
        segment.from < segment.number && self.0.is_some_and(is_next)
    }

    /// Records a compressed message that the socket took; `None`: it is not a segment.
    pub(super) fn took(&mut self, segment: Option<Segment>) {
        self.0 = segment.map(|segment| match self.0 {
            Some(had) if had.window_id == segment.window_id && had.last + 1 == segment.number => {
                SegmentRange { last: segment.number, ..had }
            }
            _ => SegmentRange { window_id: segment.window_id, first: segment.number, last: segment.number },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: EncodingSlot = EncodingSlot::new(0);

    fn push(windows: &SharedWindows, place: i64, text: &str) -> Segment {
        let mut shared = windows.of(SLOT);
        let segment = shared.segment(place).unwrap();
        shared.push(place, &Bytes::from(text.to_owned()));
        segment
    }

    #[test]
    fn a_window_is_the_text_of_the_last_segments_and_stays_the_same() {
        let windows = SharedWindows::default();
        let segments: Vec<Segment> =
            ["one", "two", "three"].iter().zip(0..).map(|(text, n)| push(&windows, n, text)).collect();
        for (segment, window) in segments.into_iter().zip(["", "one", "onetwo"]) {
            assert_eq!(windows.of(SLOT).window(segment).unwrap(), window.as_bytes());
        }
        assert_eq!(windows.of(EncodingSlot::new(1)).segment(0).unwrap().number, 0, "each encoding has its own");
    }

    #[test]
    fn the_window_and_the_kept_texts_are_bounded() {
        let windows = SharedWindows::default();
        push(&windows, 0, &"x".repeat(10 * WINDOW));
        let text = "y".repeat(100);
        let segments: Vec<Segment> = (1..500).map(|place| push(&windows, place, &text)).collect();
        let shared = windows.of(SLOT);
        let second = shared.window(segments[0]);
        assert_eq!(second, None, "its texts were dropped");
        assert_eq!(shared.window(segments[498]).unwrap(), "y".repeat(WINDOW).as_bytes());
        assert_eq!(segments[498].number - segments[498].from, WINDOW.div_ceil(100) as u32);
        assert!(shared.bytes < KEPT + 100 && shared.bytes == shared.texts.iter().map(Bytes::len).sum::<usize>());
        assert_eq!(segments[0].from, 0);
    }

    #[test]
    fn only_the_end_of_a_large_text_is_kept() {
        let windows = SharedWindows::default();
        push(&windows, 0, &format!("{}end", "x".repeat(10 * WINDOW)));
        let segment = push(&windows, 1, "next");
        let shared = windows.of(SLOT);
        assert_eq!((shared.bytes, segment.from), (WINDOW + 4, 0));
        assert!(shared.window(segment).unwrap().ends_with(b"xend"));
    }

    #[test]
    fn a_position_leads_to_a_segment_whose_whole_window_it_has_had() {
        let windows = SharedWindows::default();
        let text = "z".repeat(WINDOW / 4);
        let segments: Vec<Segment> = (0..20).map(|place| push(&windows, place, &text)).collect();
        let mut position = WindowPosition::default();
        assert!(!position.leads_to(segments[0]), "there is nothing before it");
        for segment in &segments[7..12] {
            assert_eq!(position.leads_to(*segment), segment.number >= 11, "{segment:?}");
            position.took(Some(*segment));
        }
        assert!(
            position.leads_to(segments[12]) && !position.leads_to(segments[13]) && !position.leads_to(segments[11])
        );
        let mut other = position;
        other.took(None);
        assert!(!other.leads_to(segments[12]), "another message was in between");
        position.took(Some(segments[13]));
        assert!(!position.leads_to(segments[14]), "one segment was skipped");
    }

    #[test]
    fn segments_come_in_order_and_a_cleared_window_is_not_continued() {
        let windows = SharedWindows::default();
        let before = push(&windows, 5, "five");
        assert_eq!(windows.of(SLOT).segment(5), None);
        assert_eq!(windows.of(SLOT).segment(4), None);
        windows.clear();
        let after = push(&windows, 4, "four");
        assert!(after.number == 0 && after.window_id != before.window_id);
        assert_eq!(windows.of(SLOT).window(before), None);
    }

    #[test]
    fn a_window_out_of_numbers_is_replaced_by_another() {
        let windows = SharedWindows::default();
        let first = push(&windows, 0, "first");
        windows.of(SLOT).next = u32::MAX;
        let next = push(&windows, 1, "next");
        assert!(next.number == 0 && next.from == 0 && next.window_id != first.window_id);
    }

    #[test]
    fn a_window_position_is_small() {
        assert_eq!(size_of::<WindowPosition>(), 16);
    }
}
