//! A reader of one channel: a cursor, first in the log, then in the ring. It holds the hub's `Subscriber`.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use crewcast_events::{Channel, EventId, ResetReason, Resumed, Since, resume};

use crate::{
    hub::{ChannelStart, Entry, Item, ReadOutcome, Subscriber},
    telemetry::metrics::{Metric, counter, histogram},
};

use super::{
    LogPage, LogRange,
    reader_state::{LogState, OpeningState, Origin, PageRequest, ReaderState, RingTarget},
};

static CURSOR_LAG: LazyLock<metrics::Histogram> = LazyLock::new(|| histogram(Metric::CursorLag, &[]));

/// Where a reader begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// At the next event.
    Live,
    /// At the channel's retained event, then live.
    Retained,
    /// Behind what the client has seen.
    Since(Since),
}

/// What a reader found when its channel opened.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The channel's position where the reader begins.
    pub position: Option<EventId>,
    /// The retained event, if the reader asked for it and the channel has one.
    pub retained: Option<Arc<Entry>>,
}

/// What a reader does next.
#[derive(Debug)]
pub(crate) enum Read {
    /// The channel has just opened; read on.
    Opened(Opening),
    /// Entries were put into the buffer; there may be more.
    Entries,
    /// The buffer holds everything that the ring had. The reader follows the ring, and its notifier reports new
    /// entries.
    CaughtUp,
    /// Nothing now; the reader's notifier reports when there is.
    Idle,
    /// The log is needed: read this range and give the page to [`Reader::take_page`].
    NeedsPage(LogRange),
}

/// What a reader does with an entry of the ring.
enum Disposition {
    Deliver,
    Skip,
    Hole,
}

/// A cursor over one channel.
pub(crate) struct Reader {
    subscriber: Subscriber,
    state: ReaderState,
    /// The last logged id that was read.
    position: Option<EventId>,
    /// Live entries before this sequence number are history: a resuming client may have seen them.
    live_from: i64,
    /// Live events of the ring that are behind the reader.
    live_seen: u64,
    /// Consecutive pages without entries, although the ring's position is further on.
    empty_reads: u32,
    /// A reset was read from the ring, and the event that it announces was not read yet.
    after_reset: bool,
}

/// How long before its id got an owner a waiting reader begins: registering takes a moment.
const RECENT: Duration = Duration::from_secs(2);

/// How many consecutive empty pages prove that the log has nothing more. The first may have been read before the rest
/// was written, and the second may be a shared read that began before the first was answered.
const MAX_EMPTY_READS: u32 = 3;

impl Reader {
    /// A reader of the subscriber's channel.
    pub(crate) fn new(subscriber: Subscriber, start: Start) -> Self {
        let origin = if start == Start::Live { Origin::Join } else { Origin::Now };
        Self {
            subscriber,
            state: ReaderState::Opening(Box::new(OpeningState { start, origin })),
            position: None,
            live_from: 0,
            live_seen: 0,
            empty_reads: 0,
            after_reset: false,
        }
    }

    /// Begins a moment before it opens. What an id's channel carried while nobody owned the id is nobody's, but for the
    /// events that brought the owner.
    pub(crate) fn begin_recently(&mut self) {
        self.set_origin(Origin::Recent);
    }

    /// Begins with everything that the ring holds, if the channel is new.
    pub(crate) fn begin_at_first(&mut self) {
        self.set_origin(Origin::First);
    }

    /// Has no effect on a reader that is open.
    fn set_origin(&mut self, origin: Origin) {
        if let ReaderState::Opening(opening) = &mut self.state {
            opening.origin = origin;
        }
    }

    /// The channel's name.
    pub(crate) fn channel(&self) -> &Channel {
        self.subscriber.channel()
    }

    /// The last logged id that was read or, before the first, where the reader began.
    pub(crate) fn position(&self) -> Option<EventId> {
        self.position
    }

    /// Whether the channel is open and [`Read::Opened`] was returned.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.state, ReaderState::Opening(_))
    }

    /// Whether the reader follows the ring.
    pub(crate) fn is_in_ring(&self) -> bool {
        matches!(self.state, ReaderState::Ring { .. })
    }

    /// Reads on: at most `limit` entries into `buffer`.
    pub(crate) fn read(&mut self, limit: usize, buffer: &mut Vec<Arc<Entry>>) -> Read {
        match &mut self.state {
            ReaderState::Opening(opening) => {
                let OpeningState { start, origin } = **opening;
                self.open(start, origin, buffer)
            }
            ReaderState::Log(log) if log.page == PageRequest::Asked => Read::Idle,
            ReaderState::Log(log) => {
                let LogState { since, target, page } = **log;
                self.read_log(since, target, page)
            }
            ReaderState::Ring { next } => {
                let next = *next;
                self.read_ring(next, limit, buffer)
            }
        }
    }

    /// Takes the page that [`Read::NeedsPage`] asked for, `None` if the ring holds it now. Entries go into `buffer`.
    pub(crate) fn take_page(&mut self, page: Option<&LogPage>, buffer: &mut Vec<Arc<Entry>>) {
        let ReaderState::Log(log) = &self.state else { return };
        let LogState { since, target, .. } = **log;
        if self.enter_ring_early(since, target) {
            return;
        }
        let Some(page) = page else {
            self.state = ReaderState::log(since, target, PageRequest::Next);
            return;
        };
        let seen = offset_of(since);
        let entries = page.behind(seen);
        let resumed = resume(since, page.at(seen), page.first, page.head);
        if let Resumed::Reset(reason) = resumed {
            let from = entries.first().and_then(|entry| entry.id());
            if from != page.first && since != Since::Unknown {
                // Another history: everything that the log holds of it is new.
                self.state = ReaderState::log(Since::Unknown, target, PageRequest::Next);
                return;
            }
            self.position = if from.is_some() { None } else { page.head };
            self.tell_reset(reason, from, buffer);
        }
        if let Some(last) = entries.last() {
            self.position = last.id();
            self.empty_reads = 0;
            buffer.extend_from_slice(entries);
        }
        let is_behind = offset(self.position) < offset(target.position);
        if is_behind && !entries.is_empty() {
            self.go_on_in_log(target);
        } else if is_behind && resumed == Resumed::Gapless {
            self.retry_log(target);
        } else {
            self.enter_ring(target, buffer);
        }
    }

    /// Reads the log again. It ends before the ring's position, although nothing seems to be missing: it was read
    /// before the rest was written, or it has lost the history that the ring still holds.
    ///
    /// If the log keeps ending there, the reader waits at the end of the ring for the reset that the relay will append.
    fn retry_log(&mut self, target: RingTarget) {
        self.empty_reads += 1;
        if self.empty_reads < MAX_EMPTY_READS {
            return self.go_on_in_log(target);
        }
        self.empty_reads = 0;
        match self.subscriber.current_start() {
            // The ring has advanced in the meantime: the log may hold what it has now.
            Some(end) if end.next != target.next => {
                self.go_on_in_log(RingTarget { next: end.next, position: end.position });
            }
            _ => self.state = ReaderState::Ring { next: target.next },
        }
    }

    fn open(&mut self, start: Start, origin: Origin, buffer: &mut Vec<Arc<Entry>>) -> Read {
        let fresh = self.subscriber.start_of_fresh().filter(|_| origin == Origin::First);
        let missed = fresh.as_ref().map_or(0, |start| start.live);
        let opened = fresh.or_else(|| match origin {
            Origin::Join => self.subscriber.start_at_join(),
            Origin::Recent => self.subscriber.start_of_recent(RECENT),
            Origin::Now | Origin::First => self.subscriber.current_start(),
        });
        let Some(ChannelStart { next, position, retained, live }) = opened else { return Read::Idle };
        if missed > 0 {
            self.tell_missed(missed, buffer);
        }
        // What follows from the ring includes the newest event.
        let retained = retained.filter(|_| !self.subscriber.has_entries_from(next));
        self.live_seen = live;
        let opening = Opening { position, retained: retained.filter(|_| start == Start::Retained) };
        match start {
            Start::Live | Start::Retained => {
                self.position = position;
                self.state = ReaderState::Ring { next };
            }
            Start::Since(since) => self.resume_from(since, RingTarget { next, position }),
        }
        Read::Opened(opening)
    }

    fn resume_from(&mut self, since: Since, target: RingTarget) {
        self.live_from = target.next;
        if let Since::After(id) = since {
            self.position = Some(id);
            if let Some(next) = self.subscriber.sequence_after(id) {
                counter(Metric::HistoryReads, &[("source", "ring")]).increment(1);
                self.state = ReaderState::Ring { next };
                return;
            }
        }
        if since == Since::Beginning && target.position.is_none() {
            self.state = ReaderState::Ring { next: target.next };
            return;
        }
        self.state = ReaderState::log(since, target, PageRequest::First);
    }

    fn read_log(&mut self, since: Since, target: RingTarget, page: PageRequest) -> Read {
        if self.enter_ring_early(since, target) {
            counter(Metric::HistoryReads, &[("source", "ring")]).increment(1);
            return Read::Entries;
        }
        self.state = ReaderState::log(since, target, PageRequest::Asked);
        Read::NeedsPage(match since {
            Since::After(id) if page == PageRequest::First => LogRange::Resume(id),
            since => LogRange::After(offset_of(since)),
        })
    }

    /// Enters the ring where it continues `since`, if a shared log read has made the ring begin that early.
    ///
    /// Only for a reader that has not been in the ring yet: it is not entitled to any live event before its target.
    fn enter_ring_early(&mut self, since: Since, target: RingTarget) -> bool {
        let Since::After(id) = since else { return false };
        let next =
            self.subscriber.sequence_after(id).filter(|next| *next < target.next && target.next == self.live_from);
        if let Some(next) = next {
            self.state = ReaderState::Ring { next };
        }
        next.is_some()
    }

    fn read_ring(&mut self, next: i64, limit: usize, buffer: &mut Vec<Arc<Entry>>) -> Read {
        let begin = buffer.len();
        let at_end = match self.subscriber.read(next, limit, buffer) {
            ReadOutcome::UpToDate => true,
            ReadOutcome::FellOff { first, position, live } => {
                self.fall_off(RingTarget { next: first, position }, live, buffer);
                false
            }
            ReadOutcome::Entries { at_end } => {
                let read = buffer.len() - begin;
                CURSOR_LAG.record(read as f64);
                self.state = ReaderState::Ring { next: next + read as i64 };
                self.pass(next, begin, buffer);
                at_end
            }
        };
        if at_end && self.is_in_ring() { Read::CaughtUp } else { Read::Entries }
    }

    /// Advances the position over the entries from `begin` on, and removes those that this reader must not see.
    fn pass(&mut self, first: i64, begin: usize, buffer: &mut Vec<Arc<Entry>>) {
        let read = buffer.split_off(begin);
        for (sequence, entry) in (first..).zip(read) {
            match self.disposition(&entry, sequence) {
                Disposition::Deliver => buffer.push(entry),
                Disposition::Skip => {}
                Disposition::Hole => {
                    return self.go_on_in_log(RingTarget { next: sequence, position: entry.position() });
                }
            }
        }
    }

    fn disposition(&mut self, entry: &Entry, sequence: i64) -> Disposition {
        if entry.is_live() {
            let is_news = sequence >= self.live_from;
            self.live_seen += u64::from(is_news);
            return if is_news { Disposition::Deliver } else { Disposition::Skip };
        }
        match entry.id() {
            // Already read from the log.
            Some(id) if id.offset() <= offset(self.position) => Disposition::Skip,
            // Something is missing in between: the log has it, or says that it is gone.
            Some(id) if !self.after_reset && !id.continues(self.position) => Disposition::Hole,
            Some(id) => {
                self.after_reset = false;
                self.position = Some(id);
                Disposition::Deliver
            }
            None => {
                // Offsets may start over behind a reset.
                if let Item::Reset { from, .. } = entry.item() {
                    self.after_reset = from.is_some();
                    self.position = if from.is_some() { None } else { entry.position() };
                }
                Disposition::Deliver
            }
        }
    }

    fn fall_off(&mut self, target: RingTarget, live: u64, buffer: &mut Vec<Arc<Entry>>) {
        let missed = live.saturating_sub(self.live_seen);
        self.live_seen = self.live_seen.max(live);
        if missed > 0 {
            self.tell_missed(missed, buffer);
        }
        if target.position == self.position {
            self.state = ReaderState::Ring { next: target.next };
        } else {
            self.go_on_in_log(target);
        }
    }

    fn go_on_in_log(&mut self, target: RingTarget) {
        self.after_reset = false;
        let since = self.position.map_or(Since::Beginning, Since::After);
        self.state = ReaderState::log(since, target, PageRequest::Next);
    }

    fn enter_ring(&mut self, target: RingTarget, buffer: &mut Vec<Arc<Entry>>) {
        self.state = ReaderState::Ring { next: target.next };
        // The target may have left the ring in the meantime: then there is more log to read.
        let mut probe = Vec::new();
        if let ReadOutcome::FellOff { first, position, live } = self.subscriber.read(target.next, 1, &mut probe) {
            self.fall_off(RingTarget { next: first, position }, live, buffer);
        }
    }

    fn tell_missed(&self, missed: u64, buffer: &mut Vec<Arc<Entry>>) {
        let namespace = self.channel().namespace().to_owned();
        counter(Metric::EventsMissed, &[("namespace", &namespace)]).increment(missed);
        buffer.push(Arc::new(Entry::new(Item::Gap { missed: Some(missed) }, self.position)));
    }

    fn tell_reset(&self, reason: ResetReason, from: Option<EventId>, buffer: &mut Vec<Arc<Entry>>) {
        counter(Metric::Resets, &[("reason", reason.label())]).increment(1);
        buffer.push(Arc::new(Entry::new(Item::Reset { reason, from }, self.position)));
    }
}

/// The offset behind which a page continues `since`.
fn offset_of(since: Since) -> u64 {
    match since {
        Since::After(id) => id.offset(),
        Since::Beginning | Since::Unknown => 0,
    }
}

fn offset(id: Option<EventId>) -> u64 {
    id.map_or(0, |id| id.offset())
}
