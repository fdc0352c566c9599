//! What a ring holds: events, and the marks that say what is missing between them.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{Event, EventId, Field, ResetReason, timestamp};

use super::shared_window::{Segment, SharedWindows, WINDOW, WindowPosition};

/// From so many bytes a message is compressed by itself, and its channel's chain not held meanwhile: what it finds in
/// itself leaves little to find before it.
const LONG: usize = 16 << 10;

/// The place in each entry for its bytes in one encoding. The dialects name theirs in `dialect/encoding.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EncodingSlot(u8);

impl EncodingSlot {
    /// The slots of an entry.
    pub const COUNT: usize = 5;

    /// The slot with this number.
    ///
    /// # Panics
    /// If there are not that many: at compile time, in a constant.
    pub const fn new(number: u8) -> Self {
        assert!((number as usize) < Self::COUNT);
        Self(number)
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What happened in a channel.
#[derive(Clone, Debug)]
pub enum Item {
    /// An event, logged if it has an id.
    Event(Event),
    /// The history that follows does not continue the one before.
    Reset {
        /// Why.
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

/// One item in its place.
#[derive(Debug)]
pub struct Entry {
    item: Item,
    /// The channel's position behind this entry.
    position: Option<EventId>,
    published_at: Option<Duration>,
    frames: [OnceLock<Bytes>; EncodingSlot::COUNT],
    /// The same compressed, where somebody takes it so. Apart, since an entry that nobody does is not to be twice as large.
    compressed: OnceLock<Box<[OnceLock<Box<Compressed>>; EncodingSlot::COUNT]>>,
    /// The chains of the channel, and where in it the entry stands.
    place: Option<(Arc<SharedWindows>, i64)>,
}

/// An entry compressed in one encoding.
#[derive(Debug, Default)]
struct Compressed {
    /// What the first who took it so was given; `None`: it did not become smaller, and nobody tries again.
    first: OnceLock<Option<First>>,
    /// Of its two frames, by itself and against its chain, the one that the first did not take.
    other: OnceLock<Option<Bytes>>,
}

#[derive(Debug)]
struct First {
    frame: Bytes,
    /// Whether the frame is compressed against the link's window.
    is_chained: bool,
    link: Option<Segment>,
}

/// How a socket takes what is compressed.
#[derive(Debug)]
pub struct DeflatePeer<'a> {
    /// What it took before.
    pub run: &'a mut WindowPosition,
    /// Bytes that its window spans, what is taken included; 0: it keeps none from one message to the next.
    pub span: usize,
}

impl DeflatePeer<'_> {
    fn takes_chained(&self, link: Segment, length: usize) -> bool {
        length < LONG && WINDOW + length <= self.span && self.run.leads_to(link)
    }
}

impl Entry {
    /// An item that leaves its channel at `position`.
    pub fn new(item: Item, position: Option<EventId>) -> Self {
        let published_at = match &item {
            Item::Event(event) => event.field(Field::Timestamp).and_then(|text| timestamp::parse(&text)),
            Item::Reset { .. } | Item::Gap { .. } => None,
        };
        let (frames, compressed) = (Default::default(), OnceLock::new());
        Self { item, position, published_at, frames, compressed, place: None }
    }

    /// The same, at a place of a channel whose readers share what they were sent before.
    pub(crate) fn at(self, chains: &Arc<SharedWindows>, place: i64) -> Self {
        Self { place: Some((chains.clone(), place)), ..self }
    }

    /// What happened.
    pub fn item(&self) -> &Item {
        &self.item
    }

    /// The event, if it is one.
    pub fn event(&self) -> Option<&Event> {
        match &self.item {
            Item::Event(event) => Some(event),
            Item::Reset { .. } | Item::Gap { .. } => None,
        }
    }

    /// The id of a logged event.
    pub fn id(&self) -> Option<EventId> {
        self.event().and_then(Event::id)
    }

    /// Whether this is an event without an id.
    pub fn is_live(&self) -> bool {
        self.event().is_some_and(|event| event.id().is_none())
    }

    /// The last logged id up to and including this entry.
    pub fn position(&self) -> Option<EventId> {
        self.position
    }

    /// When the producer says that the event happened, since the Unix epoch.
    pub fn published_at(&self) -> Option<Duration> {
        self.published_at
    }

    /// The entry's bytes in one encoding, made by `encode` when nobody needed them before.
    pub fn encoded(&self, encoding: EncodingSlot, encode: impl FnOnce() -> Bytes) -> Bytes {
        // A clone's clones cost a count and no more; the first one's look whether they are the first.
        self.frames[encoding.index()].get_or_init(|| encode().clone()).clone()
    }

    /// Whether the entry was compressed in one encoding, or that was tried.
    pub fn is_compressed(&self, encoding: EncodingSlot) -> bool {
        self.in_encoding(encoding).is_some_and(|compressed| compressed.first.get().is_some())
    }

    /// The entry's compressed frame as a socket takes it; `None`: it takes the plain one. `text` is the message in this
    /// encoding, `compress` makes the frame of it behind a window; `None` where that would not be smaller. Each entry is
    /// compressed at most twice in each encoding, by itself and against its chain. Who comes meanwhile waits.
    pub fn compressed(
        &self,
        encoding: EncodingSlot,
        text: &Bytes,
        taker: DeflatePeer<'_>,
        compress: impl Fn(&[u8]) -> Option<Bytes>,
    ) -> Option<Bytes> {
        let compressed = self.compressed.get_or_init(Box::default)[encoding.index()].get_or_init(Box::default);
        let first = compressed.first.get_or_init(|| self.compress_first(encoding, text, &taker, &compress)).as_ref()?;
        let chained_to = first.link.filter(|link| taker.takes_chained(*link, text.len()));
        let frame = match chained_to {
            _ if chained_to.is_some() == first.is_chained => first.frame.clone(),
            None => compressed.other.get_or_init(|| compress(&[])).clone()?,
            Some(link) => {
                let chained = || {
                    let (chains, _) = self.place.as_ref()?;
                    let window = chains.of(encoding).window(link)?;
                    compress(&window).filter(|frame| frame.len() < first.frame.len())
                };
                compressed.other.get_or_init(chained).as_ref().unwrap_or(&first.frame).clone()
            }
        };
        taker.run.took(first.link);
        Some(frame)
    }

    /// Compresses the entry as the first taker can read it. What becomes smaller is the chain's next link, which is decided
    /// here, once, while the chain is held.
    fn compress_first(
        &self,
        encoding: EncodingSlot,
        text: &Bytes,
        taker: &DeflatePeer<'_>,
        compress: impl Fn(&[u8]) -> Option<Bytes>,
    ) -> Option<First> {
        let alone = |frame| First { frame, is_chained: false, link: None };
        let Some((chains, place)) = &self.place else { return compress(&[]).map(alone) };
        // Before the chain is held.
        let long = if text.len() >= LONG { Some(compress(&[])?) } else { None };
        let mut chain = chains.of(encoding);
        let link = chain.link(*place);
        let (frame, is_chained) = match (long, link) {
            (Some(frame), _) => (frame, false),
            (None, None) => {
                drop(chain);
                return compress(&[]).map(alone);
            }
            (None, Some(link)) => {
                let window = if taker.takes_chained(link, text.len()) { chain.window(link) } else { None };
                (compress(window.as_deref().unwrap_or_default())?, window.is_some())
            }
        };
        if link.is_some() {
            chain.push(*place, text);
        }
        Some(First { frame, is_chained, link })
    }

    fn in_encoding(&self, encoding: EncodingSlot) -> Option<&Compressed> {
        self.compressed.get().and_then(|all| all[encoding.index()].get()).map(Box::as_ref)
    }

    /// What the entry weighs in a ring: its text, once more for an encoded copy (compressed ones are small beside it), and
    /// the bookkeeping.
    pub(crate) fn weight(&self) -> usize {
        self.event().map_or(0, |event| 2 * event.raw().len()) + size_of::<Self>()
    }
}
