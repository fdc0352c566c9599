//! Turns one channel's messages into its history: a state machine without I/O.
//!
//! The rule (spec, "Event id, order and resume"): a logged message is forwarded only if its id continues the position.
//! It is dropped only if the channel holds that very id. Everything else is reconciled with the log. The outcome is a
//! repair, a `reset`, or the finding that the message is live after all.

use std::sync::Arc;

use crewcast_events::{Channel, Event, EventId, Field, ResetReason, Resumed, Since, resume};
use tokio::time::Instant;

use super::{FirstEvents, lease_expiry::LeaseCheck, named_run::NamedRun, reorder_buffer::ReorderBuffer};
use crate::{
    broker::{Page, Snapshot},
    hub::{ChannelState, Entry, Item},
    telemetry::{
        metrics::{Metric, counter},
        trace,
    },
};

/// What a sequencer did with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accepted {
    /// The message is forwarded, dropped, or held for a read that is under way.
    Done,
    /// The message is held until the log is read.
    NeedsLog(Backfill),
}

/// What to read next to reconcile the held messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Backfill {
    /// Nothing: the sequencer is live again.
    Nothing,
    /// The log behind the position.
    After(u64),
    /// The log from an older offset on, to see whether a held message is a repeat.
    Verify(u64),
}

/// A sequencer's pending read of its log.
///
/// A channel that is given up and wanted again gets another sequencer: what was read for the old one says nothing about
/// the new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PendingBackfill {
    pub(super) channel: Channel,
    pub(super) backfill: Backfill,
    pub(super) serial: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Subscribed or about to be; the position is not known yet.
    Joining,
    /// Messages are forwarded as they come.
    Live,
    /// The log is being read.
    Reconciling,
}

/// Which events become the retained one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Retain {
    pub(super) logged: bool,
    pub(super) live: bool,
}

pub(super) struct Sequencer {
    channel_state: Arc<ChannelState>,
    serial: u64,
    phase: Phase,
    position: Option<EventId>,
    retain: Retain,
    reorder: ReorderBuffer,
    /// The head differed during a read that may be older: read once more.
    recheck: bool,
    /// The log holds another history than the position's: read it from its beginning.
    is_rewritten: bool,
    /// A reset, appended together with the event that it announces.
    announced: Option<Item>,
    /// Whether live events were received here: then a lost link may have cost some.
    heard_live: bool,
    received: metrics::Counter,
    /// Set if the channel is a crew's, whose events may name runs.
    pub(super) named_run: Option<Box<NamedRun>>,
    /// The org that the events belong to, if the channel's name says it.
    pub(super) org: Option<Arc<str>>,
    /// When the next comparison with the head is due.
    pub(super) check: Check,
    /// When the channel's leases are checked next.
    pub(super) lease_check: LeaseCheck,
}

/// When a sequencer's position is next compared with its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    pub(super) due: Instant,
    /// Comparisons that found nothing since the last event.
    pub(super) quiet: u32,
}

impl Sequencer {
    /// `serial` tells this sequencer from earlier ones of the same channel.
    pub(super) fn new(channel_state: Arc<ChannelState>, retain: Retain, serial: u64) -> Self {
        let namespace = channel_state.channel().namespace().to_owned();
        Self {
            received: counter(Metric::EventsReceived, &[("namespace", &namespace)]),
            named_run: None,
            org: None,
            channel_state,
            serial,
            phase: Phase::Joining,
            position: None,
            retain,
            reorder: ReorderBuffer::default(),
            recheck: false,
            is_rewritten: false,
            announced: None,
            heard_live: false,
            check: Check { due: Instant::now(), quiet: 0 },
            lease_check: LeaseCheck::default(),
        }
    }

    pub(super) fn channel(&self) -> &Channel {
        self.channel_state.channel()
    }

    pub(super) fn channel_state(&self) -> &ChannelState {
        &self.channel_state
    }

    /// The read to perform. The read must begin after this call.
    pub(super) fn pending(&mut self, backfill: Backfill) -> PendingBackfill {
        self.begin_read(backfill);
        PendingBackfill { channel: self.channel().clone(), backfill, serial: self.serial }
    }

    /// Takes the page of a pending read. Ignored if the read was for an earlier sequencer.
    pub(super) fn take(&mut self, pending: &PendingBackfill, page: &Page) -> Backfill {
        if pending.serial != self.serial {
            return Backfill::Nothing;
        }
        let backfill = match pending.backfill {
            Backfill::Nothing => Backfill::Nothing,
            Backfill::After(_) => self.reconcile(page),
            Backfill::Verify(behind) => self.verify(behind, page),
        };
        self.begin_read(backfill);
        backfill
    }

    /// Marks the beginning of a read. Does nothing without one: another may be under way.
    fn begin_read(&mut self, backfill: Backfill) {
        if backfill != Backfill::Nothing {
            self.reorder.begin_read();
        }
    }

    pub(super) fn position(&self) -> Option<EventId> {
        self.position
    }

    pub(super) fn is_joining(&self) -> bool {
        self.phase == Phase::Joining
    }

    pub(super) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Counts a message; returns the time.
    pub(super) fn count_received(&mut self) -> Instant {
        let now = Instant::now();
        self.received.increment(1);
        self.check.quiet = 0;
        self.check.due = now + super::head_check::AFTER_LAST_EVENT;
        now
    }

    /// The crew and the run that an event names, unless it was reported a moment ago.
    pub(super) fn newly_named_run(&mut self, event: &Event, now: Instant) -> Option<(&str, &str)> {
        let run = self.named_run.as_deref_mut()?.take_new(event, now)?;
        Some((self.channel_state.channel().id(), run))
    }

    /// Takes the next message of the channel.
    pub(super) fn accept(&mut self, event: Event) -> Accepted {
        self.heard_live |= event.id().is_none();
        if self.phase != Phase::Live {
            self.reorder.push(event);
            return Accepted::Done;
        }
        match event.id() {
            None => self.forward(event),
            Some(id) if id.continues(self.position) => self.forward(event),
            Some(id) if self.holds(id) => {}
            Some(_) => {
                self.reorder.push(event);
                self.phase = Phase::Reconciling;
                return Accepted::NeedsLog(Backfill::After(self.offset()));
            }
        }
        Accepted::Done
    }

    /// Opens a channel of which nothing was overheard.
    #[cfg(test)]
    pub(super) fn open(&mut self, snapshot: Snapshot) -> Backfill {
        self.open_behind(FirstEvents::default(), snapshot)
    }

    /// Opens the channel at the snapshot that was read after the subscription was confirmed. Returns how to reconcile
    /// what was received in between. Of a new channel, the `first` live events may have been overheard, from before the
    /// subscription on.
    pub(super) fn open_behind(&mut self, first: FirstEvents, snapshot: Snapshot) -> Backfill {
        if self.phase != Phase::Joining {
            return Backfill::Nothing;
        }
        self.position = snapshot.head;
        let retained = snapshot.retained.and_then(|raw| Event::parse(raw).ok());
        let FirstEvents { events, missed } = first;
        let events = self.reorder.missed(events, retained.as_ref());
        let gap = (missed > 0).then_some(Item::Gap { missed: Some(missed) });
        let first: Vec<Item> = events.into_iter().map(Item::Event).chain(gap).collect();
        if let Some(retained) = &retained {
            self.reorder.forget_up_to(retained);
        }
        self.reorder.forget_chain_to(self.position);
        let retained = retained.map(|event| Arc::new(Entry::new(Item::Event(event), self.position)));
        self.heard_live |= !first.is_empty();
        self.channel_state.open_behind(first, self.position, retained, self.retain.live);
        self.phase = Phase::Reconciling;
        self.release()
    }

    /// Begins to reconcile because the head differs from the position, or may differ.
    pub(super) fn begin_reconcile(&mut self) -> Option<Backfill> {
        match self.phase {
            Phase::Joining => None,
            Phase::Reconciling => {
                self.recheck = true;
                None
            }
            Phase::Live => {
                self.phase = Phase::Reconciling;
                Some(Backfill::After(self.offset()))
            }
        }
    }

    /// Takes the page that was read for [`Backfill::After`].
    pub(super) fn reconcile(&mut self, page: &Page) -> Backfill {
        let since = match self.position {
            _ if self.is_rewritten => Since::Unknown,
            Some(id) => Since::After(id),
            None => Since::Beginning,
        };
        let before = self.position;
        let mut resumed = resume(since, page.at, page.first, page.head);
        let next = page.entries.first().map(|raw| EventId::of_message(raw));
        if resumed == Resumed::Gapless && next.is_some_and(|next| next.is_none_or(|id| !id.continues(before))) {
            // The log is damaged behind the position.
            resumed = Resumed::Reset(ResetReason::UnknownId);
        }
        if let Resumed::Reset(reason) = resumed {
            self.is_rewritten = next.flatten() != page.first;
            if self.is_rewritten {
                // Another history: everything that the log holds of it is new.
                return Backfill::After(0);
            }
            self.reset(reason, page);
        }
        let mut repaired = 0;
        for raw in &page.entries {
            let Ok(event) = Event::parse(raw.clone()) else { continue };
            match event.id() {
                // The first entry behind a reset has no predecessor to continue.
                Some(id) if id.continues(self.position) || self.announced.is_some() => {
                    self.forward(event);
                    repaired += 1;
                }
                // The position is already past this entry.
                _ => {}
            }
        }
        if resumed == Resumed::Gapless && repaired > 0 {
            counter(Metric::GapsRepaired, &[]).increment(1);
        }
        if page.entries.is_empty() {
            // The log holds nothing behind the position: the channel stands at the head.
            self.position = page.head.or(self.position);
        }
        if self.position != page.head && self.position != before {
            return Backfill::After(self.offset());
        }
        self.reorder.resolve_beyond(page.head, self.position);
        self.release()
    }

    /// Takes the page that was read for [`Backfill::Verify`]: held messages that the log has are repeats, the others
    /// are live.
    ///
    /// The page decides only about the offsets that it spans, and about the message that it was asked for.
    pub(super) fn verify(&mut self, behind: u64, page: &Page) -> Backfill {
        let ids: Vec<Option<EventId>> = page.entries.iter().map(|raw| EventId::of_message(raw)).collect();
        let last = ids.last().copied().flatten().map_or(0, |id| id.offset());
        let offset = self.offset();
        let mut is_asked_for = true;
        let judged = self.reorder.judged();
        for (index, event) in self.reorder.take_all().into_iter().enumerate() {
            match event.id().filter(|_| index < judged) {
                Some(id) if id.offset() <= offset && (is_asked_for || (behind + 1..=last).contains(&id.offset())) => {
                    is_asked_for = false;
                    if !ids.contains(&Some(id)) {
                        self.reorder.push(event.into_live());
                    }
                }
                _ => self.reorder.push(event),
            }
        }
        self.release()
    }

    /// Live events may have been missed while the link was down.
    pub(super) fn link_was_down(&mut self, live_only: bool) {
        if self.phase != Phase::Joining && (self.heard_live || live_only) {
            self.gap(None);
        }
    }

    /// What tells this sequencer's state from others, apart from its channel's ring.
    #[cfg(test)]
    pub(super) fn state(&self) -> String {
        let Self { phase, position, reorder, recheck, is_rewritten, heard_live, .. } = self;
        format!("{phase:?} {position:?} {reorder:?} {recheck} {is_rewritten} {heard_live}")
    }

    fn offset(&self) -> u64 {
        self.position.map_or(0, |id| id.offset())
    }

    fn holds(&self, id: EventId) -> bool {
        self.position == Some(id) || self.channel_state.holds(id)
    }

    fn forward(&mut self, event: Event) {
        // The span ends with this function: by then the event is in the ring, and its readers are notified.
        let _span = trace::is_on()
            .then(|| trace::delivery_span(event.field(Field::Traceparent).as_deref(), self.channel().as_str()));
        let retain = match event.id() {
            Some(id) => {
                self.position = Some(id);
                self.retain.logged
            }
            None => {
                self.heard_live = true;
                self.retain.live
            }
        };
        let event = Item::Event(event);
        match self.announced.take() {
            Some(reset) => self.channel_state.append_announced(reset, event, self.position, retain),
            None => self.channel_state.append(event, self.position, retain),
        }
    }

    fn reset(&mut self, reason: ResetReason, page: &Page) {
        counter(Metric::Resets, &[("reason", reason.label())]).increment(1);
        let from = page.entries.first().and_then(|raw| EventId::of_message(raw));
        let (channel, reason_label) = (self.channel_state.channel(), reason.label());
        tracing::warn!(%channel, reason = reason_label, "the log does not continue the position");
        let reset = Item::Reset { reason, from };
        if from.is_some() {
            self.position = None;
            self.announced = Some(reset);
        } else {
            self.position = page.head;
            self.channel_state.append(reset, self.position, false);
        }
    }

    fn gap(&mut self, missed: Option<u64>) {
        let namespace = self.channel_state.channel().namespace().to_owned();
        counter(Metric::EventsMissed, &[("namespace", &namespace)]).increment(missed.unwrap_or(1));
        self.channel_state.append(Item::Gap { missed }, self.position, false);
    }

    /// Forwards the held messages until one of them needs a read of the log.
    fn release(&mut self) -> Backfill {
        while let Some(event) = self.reorder.pop() {
            match event.id() {
                None => self.forward(event),
                Some(id) if id.continues(self.position) => self.forward(event),
                Some(id) if self.holds(id) => {}
                Some(id) => {
                    let backfill = if id.offset() <= self.offset() {
                        Backfill::Verify(id.offset() - 1)
                    } else {
                        Backfill::After(self.offset())
                    };
                    self.reorder.put_back(event);
                    return backfill;
                }
            }
        }
        let dropped = self.reorder.take_overflow();
        if dropped.live > 0 {
            self.gap(Some(dropped.live));
        }
        if std::mem::take(&mut self.recheck) | dropped.logged {
            return Backfill::After(self.offset());
        }
        self.phase = Phase::Live;
        Backfill::Nothing
    }
}
