//! A publisher, the relay's sequencer and one reader, each a step at a time, over the real types.

use std::{fmt::Write as _, sync::Arc};

use bytes::Bytes;
use crewcast_events::{Event, EventId, Since};

use super::{
    super::model::server::{Server, message},
    Plan, Publication, Step,
};
use crate::{
    broker::{Page, Snapshot},
    hub::{Demand, Entry, Hub, Item, Notifier, ReadOutcome, RingLimits, Subscriber},
    relay::sequencer::{Accepted, Backfill, PendingBackfill, Retain, Sequencer},
    replay::{LogPage, LogRange, Read, Reader, Start},
};

/// Sizes of the ring, of a page, and of one read of the ring: small, so that four events fill each.
const RING: usize = 2;
const PAGE: usize = 2;
const TURN: usize = 2;

/// What the reader has seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    ChannelStart(Option<EventId>),
    Retained(EventId),
    Logged(EventId),
    Live(Bytes),
    /// The first id that follows, and the position.
    Reset(Option<EventId>, Option<EventId>),
    Gap,
}

#[derive(Clone, Debug)]
enum Joining {
    Unsubscribed,
    Confirmed,
    /// The head, and how much was published by then.
    Read(Snapshot, usize),
    Open,
}

/// A request to the server, and its answer.
struct Asked<T, A> {
    what: T,
    answer: Option<A>,
    /// How much was published when it was answered.
    at: Option<usize>,
}

pub(super) struct World {
    plan: Plan,
    hub: Arc<Hub>,
    /// Keeps the channel wanted before the reader joins, and sees everything that enters its ring.
    first: Subscriber,
    next: i64,
    server: Server,
    published: usize,
    /// Messages with the number of their publication, from the confirmation of the subscription on.
    wire: Vec<(usize, Bytes)>,
    heard: usize,
    joining: Joining,
    sequencer: Sequencer,
    repair: Option<Asked<PendingBackfill, Page>>,
    notifier: Arc<Notifier>,
    reader: Option<Reader>,
    ready: bool,
    page: Option<Asked<u64, LogPage>>,
    /// The last page, and how often in a row it was the same.
    last_page: Option<(u64, usize, usize)>,
    same_pages: usize,
    pub(super) seen: Vec<Seen>,
    /// Live messages received while the reader was entitled to them.
    live_due: usize,
    /// What entered the ring, and what the reader was given: their states follow from it.
    ring_log: String,
    reader_log: String,
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
        let (hub, mut demands) = Hub::new(RingLimits { events: RING, bytes: 1 << 20, total_bytes: 1 << 20 });
        let first = hub.subscribe(&"graph:abc".parse().expect("a channel"), &Arc::new(Notifier::default()), 0);
        let Ok(Demand::Wanted(channel_state)) = demands.try_recv() else { panic!("no demand") };
        let mut server = Server::default();
        for _ in 0..plan.logged_before {
            server.append();
        }
        Self {
            plan: plan.clone(),
            hub,
            first,
            next: 0,
            server,
            published: 0,
            wire: Vec::new(),
            heard: 0,
            joining: Joining::Unsubscribed,
            sequencer: Sequencer::new(channel_state, Retain { logged: plan.start == Start::Retained, live: false }, 0),
            repair: None,
            notifier: Arc::new(Notifier::default()),
            reader: None,
            ready: false,
            page: None,
            last_page: None,
            same_pages: 0,
            seen: Vec::new(),
            live_due: 0,
            ring_log: String::new(),
            reader_log: String::new(),
        }
    }

    /// Every step that can come next.
    pub(super) fn enabled(&self) -> Vec<Step> {
        let may = |step| match step {
            Step::Publish => self.published < self.plan.publications.len(),
            Step::Hear => self.heard < self.wire.len(),
            Step::Open => match &self.joining {
                Joining::Unsubscribed | Joining::Confirmed => true,
                Joining::Read(snapshot, at) => snapshot.retained.is_none() || self.has_heard(*at),
                Joining::Open => false,
            },
            Step::Repair => self.repair.as_ref().is_some_and(|asked| asked.answer.is_none()),
            Step::TakeRepair => self.repair.as_ref().is_some_and(|asked| asked.answer.is_some()),
            Step::Join => self.reader.is_none(),
            Step::Read => self.reader.is_some() && (self.ready || self.notifier.has_ready()),
            Step::Page => self.page.as_ref().is_some_and(|asked| asked.answer.is_none()),
            Step::TakePage => self.page.as_ref().is_some_and(|asked| asked.answer.is_some()),
            Step::Compare => false,
        };
        let steps: Vec<Step> = Step::ALL.into_iter().filter(|&step| may(step)).collect();
        // The schedule compares when nothing else can happen.
        let is_behind = self.sequencer.is_live() && self.sequencer.position() != self.server.log.head;
        if steps.is_empty() && is_behind { vec![Step::Compare] } else { steps }
    }

    fn has_heard(&self, published: usize) -> bool {
        self.wire.iter().skip(self.heard).all(|(number, _)| *number >= published)
    }

    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Publish => self.publish(),
            Step::Hear => self.hear(),
            Step::Open => self.open(),
            Step::Repair => self.answer_repair(),
            Step::TakeRepair => self.take_repair(),
            Step::Compare => self.compare(),
            Step::Join => {
                self.reader = Some(Reader::new(
                    self.hub.subscribe(self.sequencer.channel(), &self.notifier, 0),
                    self.plan.start_of(&self.server.ever),
                ));
                let _ = write!(self.reader_log, "j{} ", self.ring_log.len());
            }
            Step::Read => self.read(),
            Step::Page => self.answer_page(),
            Step::TakePage => self.take_page(),
        }
        self.hub.fanout().deliver_pending();
        self.watch_ring();
    }

    fn watch_ring(&mut self) {
        let Some(opened) = self.first.start_at_join() else { return };
        if self.ring_log.is_empty() {
            let _ = write!(self.ring_log, "{:?} {:?} ", opened.position, opened.retained);
        }
        let mut entries = Vec::new();
        if let ReadOutcome::FellOff { first, .. } = self.first.read(self.next, 100, &mut entries) {
            self.next = first;
            self.first.read(first, 100, &mut entries);
        }
        self.next += entries.len() as i64;
        for entry in entries {
            let _ = write!(self.ring_log, "{:?} ", entry.item());
        }
    }

    fn publish(&mut self) {
        let number = self.published;
        self.published += 1;
        let raw = match self.plan.publications[number] {
            Publication::Logged => message(self.server.append()),
            Publication::Live => Bytes::from(r#"{"type":"live"}"#),
            Publication::Trim => return self.server.trim(1),
            Publication::Flush => return self.server.flush(),
            Publication::Promote => return self.server.promote(1),
        };
        if !matches!(self.joining, Joining::Unsubscribed) && self.plan.lost != Some(number) {
            self.wire.push((number, raw));
        }
    }

    fn hear(&mut self) {
        let (_, raw) = self.wire[self.heard].clone();
        self.heard += 1;
        let event = Event::parse(raw).expect("an event");
        let counts_on_it = match self.plan.start {
            Start::Live => self.reader.is_some(),
            _ => self.reader.as_ref().is_some_and(Reader::is_open),
        };
        self.live_due += usize::from(event.id().is_none() && counts_on_it);
        if let Accepted::NeedsLog(backfill) = self.sequencer.accept(event) {
            self.backfill(backfill);
        }
    }

    fn backfill(&mut self, backfill: Backfill) {
        if backfill != Backfill::Nothing {
            self.repair = Some(Asked { what: self.sequencer.pending(backfill), answer: None, at: None });
        }
    }

    fn open(&mut self) {
        self.joining = match std::mem::replace(&mut self.joining, Joining::Open) {
            Joining::Unsubscribed => Joining::Confirmed,
            Joining::Confirmed => {
                let mut snapshot = self.server.snapshot();
                snapshot.retained = snapshot.head.filter(|_| self.plan.start == Start::Retained).map(message);
                Joining::Read(snapshot, self.published)
            }
            Joining::Read(snapshot, _) => {
                let backfill = self.sequencer.open(snapshot);
                self.backfill(backfill);
                Joining::Open
            }
            Joining::Open => Joining::Open,
        };
    }

    fn answer_repair(&mut self) {
        if let Some(asked) = &mut self.repair
            && let Backfill::After(offset) | Backfill::Verify(offset) = asked.what.backfill
        {
            asked.answer = Some(self.server.page(offset, PAGE));
            asked.at = Some(self.published);
        }
    }

    fn take_repair(&mut self) {
        if let Some(Asked { mut what, answer: Some(page), .. }) = self.repair.take() {
            what.backfill = self.sequencer.take(&what, &page);
            self.repair = (what.backfill != Backfill::Nothing).then_some(Asked { what, answer: None, at: None });
        }
    }

    fn compare(&mut self) {
        if let Some(backfill) = self.sequencer.begin_reconcile() {
            self.backfill(backfill);
        }
    }

    fn read(&mut self) {
        let mut ready = Vec::new();
        self.notifier.take_ready(&mut ready);
        let Some(reader) = &mut self.reader else { return };
        let mut entries = Vec::new();
        self.ready = match reader.read(TURN, &mut entries) {
            Read::Opened(opening) => {
                self.seen.push(Seen::ChannelStart(opening.position));
                self.seen.extend(opening.retained.and_then(|entry| entry.id()).map(Seen::Retained));
                true
            }
            Read::Entries => true,
            Read::CaughtUp => false,
            Read::Idle => return self.ready = false,
            Read::NeedsPage(range) => {
                // The log is read from somewhat before the position of a reader that resumes.
                let offset = match range {
                    LogRange::After(offset) => offset,
                    LogRange::Resume(id) => id.offset() - 1,
                };
                self.page = Some(Asked { what: offset, answer: None, at: None });
                false
            }
        };
        let _ = write!(self.reader_log, "r{} ", self.ring_log.len());
        self.see(&entries);
    }

    fn answer_page(&mut self) {
        if let Some(asked) = &mut self.page {
            let page = LogPage::new(self.server.page(asked.what, PAGE), asked.what);
            self.hub.prepend(self.sequencer.channel(), page.at, &page.entries);
            let _ = write!(self.reader_log, "P{}@{} ", self.published, self.ring_log.len());
            asked.answer = Some(page);
            asked.at = Some(self.published);
        }
    }

    fn take_page(&mut self) {
        if let (Some(reader), Some(Asked { what, answer: Some(page), at: Some(at) })) =
            (&mut self.reader, self.page.take())
        {
            let this = Some((what, at, self.ring_log.len()));
            self.same_pages = if self.last_page == this { self.same_pages + 1 } else { 0 };
            assert!(self.same_pages < 8, "the reader asks for the same page again and again: {:?}", self.seen);
            self.last_page = this;
            let _ = write!(self.reader_log, "p{at}@{} ", self.ring_log.len());
            let mut entries = Vec::new();
            reader.take_page(Some(&page), &mut entries);
            self.ready = true;
            self.see(&entries);
        }
    }

    fn see(&mut self, entries: &[Arc<Entry>]) {
        self.seen.extend(entries.iter().map(|entry| match entry.item() {
            Item::Event(event) => event.id().map_or_else(|| Seen::Live(event.raw().clone()), Seen::Logged),
            Item::Reset { from, .. } => Seen::Reset(*from, entry.position()),
            Item::Gap { .. } => Seen::Gap,
        }));
    }

    /// Tells this state from others: two worlds with the same key continue alike.
    pub(super) fn key(&self) -> String {
        let joining = match &self.joining {
            Joining::Unsubscribed => "u".to_owned(),
            Joining::Confirmed => format!("c{:?}", self.wire.first().map(|(number, _)| number)),
            Joining::Read(_, at) => format!("r{at}"),
            Joining::Open => "o".to_owned(),
        };
        let repair = self.repair.as_ref().map(|asked| (asked.what.backfill, asked.at));
        let page = self.page.as_ref().map(|asked| asked.at);
        format!(
            "{} {} {} {} {:?} {joining} {repair:?} {page:?} {} {} | {} | {} | {}",
            self.published,
            self.heard,
            self.next,
            self.live_due,
            self.wire.first().map(|(number, _)| number),
            self.ready,
            self.notifier.has_ready(),
            self.sequencer.state(),
            self.ring_log,
            self.reader_log
        )
    }

    /// Checks a world at rest against the promise.
    pub(super) fn check(&self) {
        let head = self.server.log.head;
        assert!(self.sequencer.is_live() && self.sequencer.position() == head, "the sequencer is at rest at the head");
        assert!(self.reader.as_ref().is_some_and(Reader::is_in_ring), "the reader has caught up: {:?}", self.seen);
        let Some(Seen::ChannelStart(opened)) = self.seen.first() else { panic!("never opened: {:?}", self.seen) };
        let mut position = match self.plan.start_of(&self.server.ever) {
            Start::Live | Start::Retained => *opened,
            Start::Since(Since::After(id)) => Some(id),
            Start::Since(_) => None,
        };
        let mut awaited = None;
        let (mut live, mut gaps) = (0, 0);
        for seen in &self.seen[1..] {
            match seen {
                Seen::ChannelStart(_) => panic!("opened twice"),
                Seen::Retained(id) => assert_eq!(Some(*id), *opened, "the retained event is the position's"),
                Seen::Live(raw) => {
                    // A message that looks logged and belongs to a lost history comes as live too.
                    live += usize::from(EventId::of_message(raw).is_none());
                    let same = self.seen.iter().filter(|other| *other == seen);
                    assert_eq!(same.count(), 1, "a live message came twice: {:?}", self.seen);
                }
                Seen::Gap => gaps += 1,
                Seen::Reset(from, stands_at) => {
                    assert!(self.plan.may_reset(), "an unexcused reset: {:?}", self.seen);
                    (awaited, position) = (*from, *stands_at);
                }
                Seen::Logged(id) => {
                    let is_next = awaited.take().map_or_else(|| id.continues(position), |first| first == *id);
                    assert!(is_next, "a silent jump from {position:?} to {id}: {:?}", self.seen);
                    position = Some(*id);
                }
            }
        }
        assert_eq!((position, awaited), (head, None), "the reader stands at the head: {:?}", self.seen);
        assert!(live + gaps >= self.live_due, "a live message is missing without a gap: {:?}", self.seen);
    }
}
