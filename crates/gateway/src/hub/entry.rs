//! What a ring holds: events, and the marks that say what is missing between them.

use std::{sync::OnceLock, time::Duration};

use bytes::Bytes;
use crewcast_events::{Event, EventId, Field, ResetReason, timestamp};

/// A way in which an event is put on the wire. Each entry is encoded at most once in each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Encoding {
    /// One text frame with the event's bytes (dialect `crew`).
    RawFrame,
    /// One server-sent event.
    Sse,
    /// One text frame with the event's envelope (dialect `hub`).
    Hub,
    /// One text frame with the event in an envelope (dialect `stream`).
    Stream,
    /// One text frame with the event as the message that it is in the dialect `tracking`.
    Tracking,
}

const ENCODINGS: usize = 5;

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
    frames: Frames,
    /// The same compressed, where somebody takes it so. Apart, since an entry that nobody does is not to be twice as large.
    compressed: OnceLock<Box<Frames>>,
}

type Frames = [OnceLock<Bytes>; ENCODINGS];

impl Entry {
    /// An item that leaves its channel at `position`.
    pub fn new(item: Item, position: Option<EventId>) -> Self {
        let published_at = match &item {
            Item::Event(event) => event.field(Field::Timestamp).and_then(|text| timestamp::parse(&text)),
            Item::Reset { .. } | Item::Gap { .. } => None,
        };
        Self { item, position, published_at, frames: Default::default(), compressed: OnceLock::new() }
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
    pub fn encoded(&self, encoding: Encoding, encode: impl FnOnce() -> Bytes) -> Bytes {
        // A clone's clones cost a count and no more; the first one's look whether they are the first.
        self.frames[encoding as usize].get_or_init(|| encode().clone()).clone()
    }

    /// The compressed form of the entry's bytes in one encoding, if it was made.
    pub fn compressed(&self, encoding: Encoding) -> Option<Bytes> {
        self.compressed.get().and_then(|frames| frames[encoding as usize].get().cloned())
    }

    /// The same, made by `compress` when nobody needed it before. Who comes meanwhile waits.
    pub fn compress(&self, encoding: Encoding, compress: impl FnOnce() -> Bytes) -> Bytes {
        let frames = self.compressed.get_or_init(Box::default);
        frames[encoding as usize].get_or_init(compress).clone()
    }

    /// What the entry weighs in a ring: its text, once more for an encoded copy (compressed ones are small beside it), and
    /// the bookkeeping.
    pub(crate) fn weight(&self) -> usize {
        self.event().map_or(0, |event| 2 * event.raw().len()) + size_of::<Self>()
    }
}
