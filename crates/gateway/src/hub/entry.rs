//! What a ring holds: events, and the marks that say what is missing between them.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{Event, EventId, Field, ResetReason, timestamp};

use super::shared_window::{Segment, SharedWindows, WINDOW, WindowPosition};

/// Messages from this size on, in bytes, are compressed without the shared window, and the window's lock is not held
/// meanwhile: a large message gains little from the text before it.
const LONG: usize = 16 << 10;

/// The place in each entry for its bytes in one encoding. The dialects name theirs in `dialect/encoding.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EncodingSlot(u8);

impl EncodingSlot {
    /// The slots of an entry.
    pub(crate) const COUNT: usize = 5;

    /// The slot with this number.
    ///
    /// # Panics
    /// If there are not that many: at compile time, in a constant.
    pub(crate) const fn new(number: u8) -> Self {
        assert!((number as usize) < Self::COUNT);
        Self(number)
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What happened in a channel.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// An event, logged if it has an id.
    Event(Event),
    /// The history that follows does not continue the one before.
    Reset {
        /// Why the history was reset.
        reason: ResetReason,
        /// The first id that follows, if the log holds any.
        from: Option<EventId>,
    },
    /// Live events are missing.
    Gap {
        /// How many, if that can be known.
        missed: Option<u64>,
    },
}

/// One item and the channel's position after it.
#[derive(Debug)]
pub(crate) struct Entry {
    item: Item,
    /// The channel's position behind this entry.
    position: Option<EventId>,
    published_at: Option<Duration>,
    /// When this replica took it in, for what neither id nor timestamp tells; else zero.
    arrived_at: Duration,
    frames: [OnceLock<Bytes>; EncodingSlot::COUNT],
    /// The compressed frames, if any socket takes them. Boxed, so that an uncompressed entry is not twice as large.
    compressed: OnceLock<Box<[OnceLock<Box<Compressed>>; EncodingSlot::COUNT]>>,
    /// The shared windows of the channel, and the entry's sequence number in it.
    place: Option<(Arc<SharedWindows>, i64)>,
}

/// An entry compressed in one encoding.
#[derive(Debug, Default)]
struct Compressed {
    /// The first peer's frame; `None`: compression did not make it smaller, and is not tried again.
    first: OnceLock<Option<First>>,
    /// The other of the two frames, alone and against the shared window: the one that the first peer did not take.
    other: OnceLock<Option<Bytes>>,
}

#[derive(Debug)]
struct First {
    frame: Bytes,
    /// Whether the frame is compressed against the segment's window.
    is_windowed: bool,
    segment: Option<Segment>,
}

/// The deflate state of a socket that takes compressed frames.
#[derive(Debug)]
pub(crate) struct DeflatePeer<'a> {
    /// The segments that the socket took last.
    pub run: &'a mut WindowPosition,
    /// The span of its window in bytes, including the message taken; 0: it keeps no window between messages.
    pub span: usize,
}

impl DeflatePeer<'_> {
    fn takes_windowed(&self, segment: Segment, length: usize) -> bool {
        length < LONG && WINDOW + length <= self.span && self.run.leads_to(segment)
    }
}

impl Entry {
    /// An item that leaves its channel at `position`.
    pub(crate) fn new(item: Item, position: Option<EventId>) -> Self {
        let published_at = match &item {
            Item::Event(event) => event.field(Field::Timestamp).and_then(|text| timestamp::parse(&text)),
            Item::Reset { .. } | Item::Gap { .. } => None,
        };
        let (frames, compressed) = (Default::default(), OnceLock::new());
        let is_told = matches!(&item, Item::Event(event) if event.id().is_some() && published_at.is_some());
        let arrived_at = if is_told { Duration::ZERO } else { timestamp::since_epoch() };
        Self { item, position, published_at, arrived_at, frames, compressed, place: None }
    }

    /// Places the entry in a channel whose readers share a window.
    pub(crate) fn at(self, windows: &Arc<SharedWindows>, place: i64) -> Self {
        Self { place: Some((windows.clone(), place)), ..self }
    }

    /// The item.
    pub(crate) fn item(&self) -> &Item {
        &self.item
    }

    /// The event, if it is one.
    pub(crate) fn event(&self) -> Option<&Event> {
        match &self.item {
            Item::Event(event) => Some(event),
            Item::Reset { .. } | Item::Gap { .. } => None,
        }
    }

    /// When this replica took in an event that is live or has no timestamp, since the Unix epoch.
    pub(crate) fn arrived_at(&self) -> Duration {
        self.arrived_at
    }

    /// The id of a logged event.
    pub(crate) fn id(&self) -> Option<EventId> {
        self.event().and_then(Event::id)
    }

    /// Whether this is an event without an id.
    pub(crate) fn is_live(&self) -> bool {
        self.event().is_some_and(|event| event.id().is_none())
    }

    /// The last logged id up to and including this entry.
    pub(crate) fn position(&self) -> Option<EventId> {
        self.position
    }

    /// The producer's timestamp of the event, since the Unix epoch.
    pub(crate) fn published_at(&self) -> Option<Duration> {
        self.published_at
    }

    /// The entry's bytes in one encoding. `encode` is called if they have not been made yet.
    pub(crate) fn encoded(&self, encoding: EncodingSlot, encode: impl FnOnce() -> Bytes) -> Bytes {
        // A clone of a clone only counts up; clones of the first handle also check whether they are the first.
        self.frames[encoding.index()].get_or_init(|| encode().clone()).clone()
    }

    /// Whether the entry was compressed in one encoding, or that was tried.
    pub(crate) fn is_compressed(&self, encoding: EncodingSlot) -> bool {
        self.in_encoding(encoding).is_some_and(|compressed| compressed.first.get().is_some())
    }

    /// The compressed frame that a socket takes; `None`: it takes the plain one.
    ///
    /// `text` is the message in this encoding. `compress` makes its frame behind a window, and returns `None` if that
    /// would not be smaller. Each entry is compressed at most twice in each encoding: alone and against the shared
    /// window. Other peers wait in the meantime.
    pub(crate) fn compressed(
        &self,
        encoding: EncodingSlot,
        text: &Bytes,
        peer: DeflatePeer<'_>,
        compress: impl Fn(&[u8]) -> Option<Bytes>,
    ) -> Option<Bytes> {
        let compressed = self.compressed.get_or_init(Box::default)[encoding.index()].get_or_init(Box::default);
        let first = compressed.first.get_or_init(|| self.compress_first(encoding, text, &peer, &compress)).as_ref()?;
        let windowed = first.segment.filter(|segment| peer.takes_windowed(*segment, text.len()));
        let frame = match windowed {
            _ if windowed.is_some() == first.is_windowed => first.frame.clone(),
            None => compressed.other.get_or_init(|| compress(&[])).clone()?,
            Some(segment) => {
                let compress_windowed = || {
                    let (windows, _) = self.place.as_ref()?;
                    let window = windows.of(encoding).window(segment)?;
                    compress(&window).filter(|frame| frame.len() < first.frame.len())
                };
                compressed.other.get_or_init(compress_windowed).as_ref().unwrap_or(&first.frame).clone()
            }
        };
        peer.run.took(first.segment);
        Some(frame)
    }

    /// Compresses the entry as the first peer can read it.
    ///
    /// A frame that becomes smaller becomes the next segment of the shared window. That is decided here, once, while
    /// the window is locked.
    fn compress_first(
        &self,
        encoding: EncodingSlot,
        text: &Bytes,
        peer: &DeflatePeer<'_>,
        compress: impl Fn(&[u8]) -> Option<Bytes>,
    ) -> Option<First> {
        let alone = |frame| First { frame, is_windowed: false, segment: None };
        let Some((windows, place)) = &self.place else { return compress(&[]).map(alone) };
        // Before the window is locked.
        let long = if text.len() >= LONG { Some(compress(&[])?) } else { None };
        let mut shared = windows.of(encoding);
        let segment = shared.segment(*place);
        let (frame, is_windowed) = match (long, segment) {
            (Some(frame), _) => (frame, false),
            (None, None) => {
                drop(shared);
                return compress(&[]).map(alone);
            }
            (None, Some(segment)) => {
                let window = if peer.takes_windowed(segment, text.len()) { shared.window(segment) } else { None };
                (compress(window.as_deref().unwrap_or_default())?, window.is_some())
            }
        };
        if segment.is_some() {
            shared.push(*place, text);
        }
        Some(First { frame, is_windowed, segment })
    }

    fn in_encoding(&self, encoding: EncodingSlot) -> Option<&Compressed> {
        self.compressed.get().and_then(|all| all[encoding.index()].get()).map(Box::as_ref)
    }

    /// What the entry weighs in a ring, in bytes: its text, an encoded copy (compressed ones are small in comparison),
    /// and the bookkeeping.
    pub(crate) fn weight(&self) -> usize {
        self.event().map_or(0, |event| 2 * event.raw().len()) + size_of::<Self>()
    }
}
