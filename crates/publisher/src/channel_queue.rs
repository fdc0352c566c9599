//! One channel's part of the queue: its events in memory and on disk, and the batch that is being sent.

use crewcast_store::{Entry, MAX_ENTRIES, Once, Ownership};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use crewcast_events::{Event, SubjectFields};

use crate::{
    priority::Priority,
    spool::{Backlog, Place, Position, SpooledEvent},
};

/// Most bytes of one batch beyond its first event. Bounds a script's run and an HTTP body.
pub(crate) const MAX_BATCH_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) enum Message {
    Logged(Entry),
    Live(Bytes),
}

impl Message {
    /// The producer's bytes.
    pub(crate) fn bytes(&self) -> &Bytes {
        match self {
            Message::Logged(entry) => entry.body.object(),
            Message::Live(message) => message,
        }
    }

    /// What a progress event is about and its type, as a hash. A collision only changes which progress a full queue
    /// drops first.
    pub(crate) fn subject(&self) -> Option<u64> {
        let text = std::str::from_utf8(self.bytes()).ok()?;
        let subject = SubjectFields::of(text).ok()?.subject()?;
        let kind = match self {
            Message::Logged(entry) => entry.body.kind().to_owned(),
            Message::Live(message) => Event::parse(message.clone()).ok()?.kind().into_owned(),
        };
        Some(BuildHasherDefault::<DefaultHasher>::default().hash_one((subject, kind)))
    }
}

/// The ids that must be registered before an event is sent.
pub(crate) type Ownerships = Option<Arc<[Ownership]>>;

#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) message: Message,
    pub(crate) ownerships: Ownerships,
    pub(crate) priority: Priority,
    /// For progress: [`Message::subject`].
    pub(crate) subject: Option<u64>,
    /// Its place among all events of the queue.
    pub(crate) order: u64,
    /// Its place among the logged events of its channel. A live event has the ordinal of the logged event that follows
    /// it.
    pub(crate) ordinal: u64,
}

impl Item {
    /// Its size in bytes: the event, its state document, its lease and the overhead in memory.
    pub(crate) fn size(&self) -> usize {
        let state = match &self.message {
            Message::Logged(Entry { state: Some(state), .. }) => {
                state.key.len() + state.value.as_ref().map_or(0, |value| value.get().len())
            }
            _ => 0,
        };
        let lease = match &self.message {
            Message::Logged(Entry { lease: Some(lease), .. }) => lease.size(),
            _ => 0,
        };
        self.message.bytes().len() + state + lease + size_of::<Self>()
    }

    /// The log entry; `None` for a live event.
    pub(crate) fn entry(&self) -> Option<&Entry> {
        match &self.message {
            Message::Logged(entry) => Some(entry),
            Message::Live(_) => None,
        }
    }

    fn is_logged(&self) -> bool {
        matches!(self.message, Message::Logged(_))
    }
}

/// A producer's name and numbers in one channel.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) producer: Arc<str>,
    pub(crate) next: u64,
    /// The latest run of numbers that were confirmed to this process.
    pub(crate) confirmed: Range<u64>,
}

impl Sequence {
    /// A new producer, from 1.
    pub(crate) fn fresh() -> Self {
        let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(20).collect();
        Self::of(name.into(), 1)
    }

    fn of(producer: Arc<str>, next: u64) -> Self {
        Self { producer, next, confirmed: next..next }
    }

    /// Records that the next `count` numbers are confirmed.
    pub(crate) fn confirm(&mut self, count: u64) {
        if self.confirmed.end != self.next {
            self.confirmed.start = self.next;
        }
        self.next += count;
        self.confirmed.end = self.next;
    }

    pub(crate) fn once(&self) -> Once {
        Once::Sequence { producer: self.producer.clone(), first: self.next }
    }
}

/// An event that is being sent.
pub(crate) enum Slot {
    Memory(Arc<Item>),
    Disk(Place),
}

pub(crate) struct ChannelQueue {
    pub(crate) queued: VecDeque<Arc<Item>>,
    /// By subject, the order of the newest progress in `queued`.
    newest_progress: HashMap<u64, u64>,
    /// The events on disk, by ordinal. The lowest ordinal, here or in `queued`, is sent next.
    pub(crate) spooled: BTreeMap<u64, Place>,
    /// The batch that is being sent, without its settled events.
    pub(crate) out: VecDeque<Slot>,
    /// A batch is being sent, or the channel is in `ready`.
    pub(crate) engaged: bool,
    pub(crate) used: u64,
    /// Ordinal of the first unsettled logged event. `sequence.next` is its number.
    first: u64,
    sequence: Sequence,
    /// Ordinal of the next logged event.
    pub(crate) next: u64,
}

impl ChannelQueue {
    /// An empty queue. Its ordinals begin at `ordinal`, which the channel has never used.
    pub(crate) fn new(ordinal: u64) -> Self {
        Self {
            queued: VecDeque::new(),
            newest_progress: HashMap::new(),
            spooled: BTreeMap::new(),
            out: VecDeque::new(),
            engaged: false,
            used: ordinal,
            first: ordinal,
            sequence: Sequence::fresh(),
            next: ordinal,
        }
    }

    /// The queue of a former process's backlog. New events have ordinals from `next`.
    pub(crate) fn resumed(backlog: Backlog, next: u64) -> Self {
        let spooled: BTreeMap<u64, Place> = backlog.places.into_iter().map(|place| (place.ordinal, place)).collect();
        let first = spooled.first_key_value().map_or(next, |(&ordinal, _)| ordinal);
        let (first, sequence) = match backlog.position {
            Some(Position { ordinal, producer, number }) => (ordinal, Sequence::of(producer, number)),
            // The position's record is damaged.
            None => (first, Sequence::fresh()),
        };
        Self { spooled, first, sequence, next, engaged: true, ..Self::new(next) }
    }

    pub(crate) fn position(&self) -> Position {
        Position { ordinal: self.first, producer: self.sequence.producer.clone(), number: self.sequence.next }
    }

    pub(crate) fn sequence(&self) -> Sequence {
        self.sequence.clone()
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.queued.is_empty() || !self.spooled.is_empty()
    }

    pub(crate) fn is_on_disk(&self) -> bool {
        !self.spooled.is_empty() || matches!(self.out.front(), Some(Slot::Disk(_)))
    }

    /// Whether the next event is on disk.
    pub(crate) fn spool_is_next(&self) -> bool {
        let in_memory = self.queued.front().map(|item| item.ordinal);
        self.spooled.first_key_value().is_some_and(|(&ordinal, _)| in_memory.is_none_or(|other| ordinal < other))
    }

    /// Queues an event behind all others. Answers the order of the queued progress that it outdates, whose priority is
    /// now [`Priority::OutdatedProgress`].
    pub(crate) fn push(&mut self, item: Item) -> Option<u64> {
        let older = item.subject.and_then(|subject| self.newest_progress.insert(subject, item.order));
        self.queued.push_back(Arc::new(item));
        let order = older?;
        let at = self.position_of(order)?;
        Arc::get_mut(&mut self.queued[at])?.priority = Priority::OutdatedProgress;
        Some(order)
    }

    /// Takes one event out of memory before its turn.
    pub(crate) fn remove(&mut self, order: u64) -> Option<Arc<Item>> {
        let item = self.queued.remove(self.position_of(order)?)?;
        self.forget_progress(&item);
        Some(item)
    }

    fn position_of(&self, order: u64) -> Option<usize> {
        self.queued.binary_search_by_key(&order, |item| item.order).ok()
    }

    fn forget_progress(&mut self, item: &Item) {
        if let Some(subject) = item.subject
            && self.newest_progress.get(&subject) == Some(&item.order)
        {
            self.newest_progress.remove(&subject);
        }
    }

    /// Takes the next batch out of memory. With a spool the batch ends at a hole in the ordinals: the missing events
    /// are on disk or lost, and later events keep their numbers.
    pub(crate) fn take_items(&mut self, with_spool: bool) -> Vec<Arc<Item>> {
        let Some(front) = self.queued.front() else { return Vec::new() };
        if with_spool {
            self.skip_to(front.ordinal);
        }
        let (mut bytes, mut expected, mut items) = (0, self.first, Vec::new());
        while items.len() < MAX_ENTRIES
            && let Some(item) = self.queued.front()
        {
            bytes += item.size();
            let apart = with_spool && item.ordinal != expected;
            if !items.is_empty() && (bytes > MAX_BATCH_BYTES || apart) {
                break;
            }
            expected += u64::from(item.is_logged());
            items.extend(self.queued.pop_front());
        }
        items.iter().for_each(|item| self.forget_progress(item));
        self.out.extend(items.iter().cloned().map(Slot::Memory));
        items
    }

    /// Takes the next batch from disk. It ends at a hole in the ordinals, or where an event in memory is next.
    pub(crate) fn take_places(&mut self) -> Vec<Place> {
        let Some((&front, _)) = self.spooled.first_key_value() else { return Vec::new() };
        self.skip_to(front);
        let in_memory = self.queued.front().map_or(u64::MAX, |item| item.ordinal);
        let (mut bytes, mut places) = (0, Vec::new());
        while places.len() < MAX_ENTRIES
            && let Some(place) = self.spooled.first_entry()
        {
            bytes += place.get().length as usize;
            let ordinal = *place.key();
            let apart = ordinal != front + places.len() as u64 || ordinal >= in_memory;
            if !places.is_empty() && (bytes > MAX_BATCH_BYTES || apart) {
                break;
            }
            places.push(place.remove());
        }
        self.out.extend(places.iter().copied().map(Slot::Disk));
        places
    }

    /// Missing events keep their numbers: one of them may have been sent before a kill, and its number must not name
    /// another event. The log answers a gap, and the worker continues as a new producer.
    fn skip_to(&mut self, ordinal: u64) {
        self.sequence.next += ordinal.saturating_sub(self.first);
        self.first = self.first.max(ordinal);
    }

    /// Removes the first `count` events of the batch that is being sent. `sequence` belongs to the next event.
    pub(crate) fn settle(&mut self, count: usize, sequence: &Sequence) -> Vec<Slot> {
        let settled: Vec<Slot> = self.out.drain(..count.min(self.out.len())).collect();
        let logged = settled.iter().filter(|slot| match slot {
            Slot::Memory(item) => item.is_logged(),
            Slot::Disk(_) => true,
        });
        self.first += logged.count() as u64;
        self.sequence = sequence.clone();
        settled
    }

    /// The events that are only in memory, in order.
    pub(crate) fn in_memory(&self) -> impl Iterator<Item = &Arc<Item>> {
        let out = self.out.iter().filter_map(|slot| match slot {
            Slot::Memory(item) => Some(item),
            Slot::Disk(_) => None,
        });
        out.chain(&self.queued)
    }
}

/// An event for the spool. `None` for a live event, which would be stale.
pub(crate) fn spooled_event(item: &Item, ordinal: u64) -> Option<SpooledEvent> {
    match &item.message {
        Message::Logged(entry) => {
            Some(SpooledEvent { ordinal, entry: entry.clone(), ownerships: item.ownerships.clone() })
        }
        Message::Live(_) => None,
    }
}
