//! The relay's sequencer between a server that misbehaves and a reader that watches.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use crewcast_events::{Event, EventId};

use super::{
    Step,
    server::{Server, message},
    witness::Witness,
};
use crate::{
    broker::{Page, Snapshot},
    hub::{Demand, Hub, Notifier, RingLimits, Subscriber},
    relay::sequencer::{Accepted, Backfill, PendingBackfill, Retain, Sequencer},
};

/// Entries of one page: few, so that repairs take several.
const PAGE: usize = 3;

/// How far the relay has got with the channel.
enum Joining {
    Unsubscribed,
    Confirmed,
    Read(Snapshot),
    Open,
}

pub(super) struct World {
    server: Server,
    /// Whether the subscription's connection is up.
    up: bool,
    /// Published and not received yet.
    wire: VecDeque<Bytes>,
    heard: Vec<EventId>,
    joining: Joining,
    sequencer: Sequencer,
    serial: u64,
    /// The sequencer's pending read, and its answer once the server has given it.
    pending: Option<(PendingBackfill, Option<Page>)>,
    /// A read for an earlier sequencer.
    stale: Option<(PendingBackfill, Page)>,
    heads: Option<Snapshot>,
    witness: Witness,
    published_live: usize,
    /// Live messages that reached the sequencer, and how often.
    heard_live: HashMap<String, usize>,
    gaps_due: usize,
    /// Moments after which the sequencer's position led nowhere in the log: each excuses one reset.
    disruptions: usize,
}

impl World {
    pub(super) fn new() -> Self {
        let (sequencer, subscriber) = joined(0);
        Self {
            server: Server::default(),
            up: true,
            wire: VecDeque::new(),
            heard: Vec::new(),
            joining: Joining::Unsubscribed,
            sequencer,
            serial: 0,
            pending: None,
            stale: None,
            heads: None,
            witness: Witness::new(subscriber),
            published_live: 0,
            heard_live: HashMap::new(),
            gaps_due: 0,
            disruptions: 0,
        }
    }

    /// Takes one step, and checks what it did.
    pub(super) fn step(&mut self, step: Step) {
        let before = (self.sequencer.position(), self.witness.resets);
        match step {
            Step::Append => {
                let id = self.server.append();
                self.publish(message(id));
            }
            Step::Live => {
                self.published_live += 1;
                self.publish(Bytes::from(format!(r#"{{"type":"live","n":{}}}"#, self.published_live)));
            }
            Step::Forge(ahead) => self.forge(ahead),
            Step::Hear => self.hear(),
            Step::Lose => drop(self.wire.pop_front()),
            Step::Overtake => {
                if self.wire.len() > 1 {
                    self.wire.swap(0, 1);
                }
            }
            Step::Repeat(back) => {
                if let Some(&id) = self.heard.iter().rev().nth(back) {
                    self.publish(message(id));
                }
            }
            Step::Down => self.cut(),
            Step::Up => self.reconnect(),
            Step::Trim(count) => self.server.trim(count),
            Step::Expire => self.server.expire(),
            Step::Flush => self.server.flush(),
            Step::Promote(writes) => self.server.promote(writes),
            Step::Read => self.read(),
            Step::Take => self.take(),
            Step::Fail => self.fail(),
            Step::Heads => self.heads = Some(self.server.snapshot()),
            Step::Compare => self.compare(),
            Step::TrimRing => self.sequencer.channel_state().trim(),
            Step::Join => self.join_on(),
            Step::Rejoin => self.rejoin(),
            Step::TakeStale => self.take_stale(),
        }
        let changes_server = matches!(step, Step::Trim(_) | Step::Expire | Step::Flush | Step::Promote(_));
        self.witness.look(&self.server);
        let moved = (self.sequencer.position(), self.witness.resets) != before;
        if (changes_server || moved) && !self.server.log.continues_from(self.sequencer.position()) {
            self.disruptions += 1;
        }
        self.check();
    }

    fn check(&self) {
        let (resets, disruptions) = (self.witness.resets, self.disruptions);
        assert!(resets <= disruptions, "an unexcused reset: {resets} after {disruptions} disruptions");
        for (text, count) in &self.witness.live {
            assert!(self.heard_live.get(text).is_some_and(|heard| count <= heard), "{text} came {count} times");
        }
        assert_eq!(self.witness.gaps, self.gaps_due, "gaps reported and due");
    }

    fn publish(&mut self, message: Bytes) {
        if self.up && !matches!(self.joining, Joining::Unsubscribed) {
            self.wire.push_back(message);
        }
    }

    /// Publishes a live message that looks logged.
    fn forge(&mut self, ahead: i64) {
        self.published_live += 1;
        let head = self.server.log.head.map_or(0, |id| id.offset());
        let offset = head.saturating_add_signed(ahead).max(1);
        self.publish(Bytes::from(format!(r#"{{"id":"{offset}-zzzzzzz{:05}","type":"x"}}"#, self.published_live)));
    }

    fn hear(&mut self) {
        let Some(raw) = self.wire.pop_front() else { return };
        let event = Event::parse(raw.clone()).expect("an event");
        if let Some(id) = event.id().filter(|id| self.server.ever.contains(id)) {
            self.heard.push(id);
        }
        // Logged ones too: what the log has lost may come as live.
        *self.heard_live.entry(event.text().to_owned()).or_default() += 1;
        if let Accepted::NeedsLog(backfill) = self.sequencer.accept(event) {
            self.backfill(backfill);
        }
    }

    fn backfill(&mut self, backfill: Backfill) {
        if backfill != Backfill::Nothing {
            assert!(self.pending.is_none(), "a sequencer asks for one thing at a time");
            self.pending = Some((self.sequencer.pending(backfill), None));
        }
    }

    fn read(&mut self) {
        if let Some((pending, answer @ None)) = &mut self.pending
            && let Backfill::After(offset) | Backfill::Verify(offset) = pending.backfill
        {
            *answer = Some(self.server.page(offset, PAGE));
        }
    }

    /// The answer is lost: the read is repeated.
    fn fail(&mut self) {
        if let Some((_, answer)) = &mut self.pending {
            *answer = None;
        }
    }

    fn take(&mut self) {
        if let Some((mut pending, Some(page))) = self.pending.take_if(|(_, answer)| answer.is_some()) {
            pending.backfill = self.sequencer.take(&pending, &page);
            self.pending = (pending.backfill != Backfill::Nothing).then_some((pending, None));
        }
    }

    fn take_stale(&mut self) {
        if let Some((pending, page)) = self.stale.take() {
            assert_eq!(self.sequencer.take(&pending, &page), Backfill::Nothing, "it says nothing about this sequencer");
        }
    }

    fn compare(&mut self) {
        let Some(snapshot) = self.heads.take() else { return };
        if self.sequencer.position() != snapshot.head
            && let Some(backfill) = self.sequencer.begin_reconcile()
        {
            self.backfill(backfill);
        }
    }

    fn cut(&mut self) {
        self.up = false;
        self.wire.clear();
    }

    fn reconnect(&mut self) {
        if std::mem::replace(&mut self.up, true) {
            return;
        }
        if !self.sequencer.is_joining() {
            self.gaps_due += usize::from(self.knows_live_events());
            self.sequencer.link_was_down(false);
        }
        self.step(Step::Heads);
        self.step(Step::Compare);
    }

    /// Whether a live event was received here: then a cut link may have cost some.
    fn knows_live_events(&self) -> bool {
        let is_plain = |text: &String| EventId::of_message(text.as_bytes()).is_none();
        !self.witness.live.is_empty() || self.heard_live.keys().any(is_plain)
    }

    fn join_on(&mut self) {
        self.joining = match std::mem::replace(&mut self.joining, Joining::Open) {
            Joining::Unsubscribed if self.up => Joining::Confirmed,
            Joining::Unsubscribed => Joining::Unsubscribed,
            Joining::Confirmed => Joining::Read(self.server.snapshot()),
            Joining::Read(snapshot) => {
                let backfill = self.sequencer.open(snapshot);
                self.backfill(backfill);
                Joining::Open
            }
            Joining::Open => Joining::Open,
        };
    }

    /// The last reader leaves, and another comes: a new sequencer and a new channel state. A read that was under way
    /// for the old sequencer is answered later.
    fn rejoin(&mut self) {
        if let Some((pending, answer)) = self.pending.take()
            && let Backfill::After(offset) | Backfill::Verify(offset) = pending.backfill
        {
            let page = answer.unwrap_or_else(|| self.server.page(offset, PAGE));
            self.stale = Some((pending, page));
        }
        self.serial += 1;
        let (sequencer, subscriber) = joined(self.serial);
        self.sequencer = sequencer;
        self.witness = Witness::new(subscriber);
        self.joining = Joining::Unsubscribed;
        self.wire.clear();
        self.heard_live.clear();
        (self.gaps_due, self.disruptions) = (0, 0);
    }

    /// Lets everything come to rest: the link is up, everything is received, read and compared.
    pub(super) fn come_to_rest(&mut self) {
        self.step(Step::Up);
        while !matches!(self.joining, Joining::Open) {
            self.step(Step::Join);
        }
        while !self.wire.is_empty() {
            self.step(Step::Hear);
        }
        self.settle_all();
        self.step(Step::Heads);
        self.step(Step::Compare);
        self.settle_all();
        let head = self.server.log.head;
        assert!(self.sequencer.is_live(), "at rest the sequencer is live");
        assert_eq!(self.sequencer.position(), head, "at rest the sequencer stands at the head");
        assert_eq!(self.witness.position, Some(head), "at rest the reader stands at the head");
        for (text, heard) in self.heard_live.iter().filter(|(text, _)| !self.is_logged(text)) {
            assert_eq!(self.witness.live.get(text), Some(heard), "{text} was heard and is live");
        }
    }

    fn is_logged(&self, text: &str) -> bool {
        EventId::of_message(text.as_bytes()).is_some_and(|id| self.server.ever.contains(&id))
    }

    fn settle_all(&mut self) {
        let mut left = 20 + 2 * (self.server.ever.len() + self.published_live + self.heard.len());
        while self.pending.is_some() {
            self.step(Step::Read);
            self.step(Step::Take);
            left -= 1;
            assert!(left > 0, "the sequencer reads without end");
        }
    }
}

/// A sequencer of a channel with one subscriber.
fn joined(serial: u64) -> (Sequencer, Subscriber) {
    let (hub, mut demands) = Hub::new(RingLimits { events: 512, bytes: 1 << 20, total_bytes: 1 << 20 });
    let subscriber = hub.subscribe(&"graph:abc".parse().expect("a channel"), &Arc::new(Notifier::default()), 0);
    let Ok(Demand::Wanted(channel_state)) = demands.try_recv() else { panic!("no demand") };
    (Sequencer::new(channel_state, Retain::default(), serial), subscriber)
}
