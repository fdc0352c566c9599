//! The channels of one connection: which ones it requested, which ones it may read, and its readers of them.

use std::{collections::HashSet, sync::Arc};

use crewcast_events::{Channel, EventId, Owner};

use super::{
    ConnectionContext, Principal,
    conflate::conflated,
    delivery_metrics::DeliveryMetrics,
    jobs::{GrantRequest, Jobs},
    queue::Queue,
};
use crate::{
    adoption::CrewWatch,
    dialect::{Actions, Conflated, Dialect},
    hub::{Entry, Notifier},
    replay::{LogPage, LogRange, Read, Reader, Start},
    telemetry::metrics::{Metric, counter},
};

/// Entries that are read from one channel before the next channel is read.
const READ_BATCH: usize = 64;

pub(super) struct Subscriptions {
    notifier: Arc<Notifier>,
    channels: Vec<Option<ChannelSubscription>>,
    /// Indices of empty slots in `channels`.
    vacant: Queue<u32>,
    all: Option<Box<AllOf>>,
    /// Keys of channels that have entries, in the order of their notifications.
    ready: Queue<u32>,
    /// Readers that wait for a page of the log, and the range that each needs. Only one page is under way at a time:
    /// others would wait in memory for a peer that may be slow.
    waiting: Queue<(ReaderRef, LogRange)>,
    page_under_way: bool,
    /// The number of the newest reader.
    last_number: u32,
    /// Held while a run waits for an owner: an event of a crew may name it.
    crew_watch: Option<CrewWatch>,
    pub(super) metrics: DeliveryMetrics,
}

struct ChannelSubscription {
    channel: Channel,
    /// Where the reader will begin; `None` once it has begun.
    start: Option<Box<Start>>,
    /// `None` until the grant is known.
    reader: Option<Reader>,
    /// The reader's number: a page that was requested for an earlier reader of this slot is not for this one.
    number: u32,
    /// Requested by name.
    is_named: bool,
    /// Part of a `SubscribeAll`.
    is_listed: bool,
    /// Its namespace conflates progress.
    conflates: bool,
    /// No org owns its id yet: the reader keeps its place, and nothing is read.
    is_pending: bool,
}

impl ChannelSubscription {
    fn new(channel: Channel, start: Start) -> Self {
        Self {
            channel,
            start: Some(Box::new(start)),
            reader: None,
            number: 0,
            is_named: false,
            is_listed: false,
            conflates: false,
            is_pending: false,
        }
    }
}

/// A reader and the key of its slot, which may meanwhile hold another reader.
#[derive(Clone, Copy)]
pub(super) struct ReaderRef {
    key: u32,
    number: u32,
}

/// The result of reading one batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ReadStep {
    /// The channel has opened; its entries come next.
    Opened,
    /// Entries were read, and there may be more.
    MayHaveMore,
    /// Nothing more for now. The notifier reports when there is more.
    HasNoMore,
}

/// Every granted channel of one namespace.
struct AllOf {
    namespace: &'static str,
    start: Start,
    appearing: Start,
    was_listed: bool,
    /// A listing is under way.
    listing: bool,
    /// The directory changed since that listing began.
    changed: bool,
}

impl Subscriptions {
    pub(super) fn new(notifier: Arc<Notifier>) -> Self {
        Self {
            notifier,
            channels: Vec::new(),
            vacant: Queue::default(),
            all: None,
            ready: Queue::default(),
            waiting: Queue::default(),
            page_under_way: false,
            last_number: 0,
            crew_watch: None,
            metrics: DeliveryMetrics::default(),
        }
    }

    /// Adds a channel whose grant is being requested, and returns its key. If the channel is read already, its reader
    /// starts over for a `Start::Since` and goes on otherwise.
    pub(super) fn request(&mut self, channel: Channel, start: Start) -> u32 {
        let known = (0..).zip(&mut self.channels).find_map(|(key, slot)| {
            let subscription = slot.as_mut().filter(|subscription| subscription.channel == channel)?;
            Some((key, subscription))
        });
        if let Some((key, subscription)) = known {
            subscription.is_named = true;
            if matches!(start, Start::Since(_)) {
                (subscription.start, subscription.reader) = (Some(Box::new(start)), None);
                subscription.is_pending = false;
            }
            return key;
        }
        self.add(ChannelSubscription { is_named: true, ..ChannelSubscription::new(channel, start) })
    }

    /// Sets the namespace whose granted channels are being listed.
    pub(super) fn request_all(&mut self, namespace: &'static str, start: Start, appearing: Start) {
        self.all =
            Some(Box::new(AllOf { namespace, start, appearing, was_listed: false, listing: true, changed: false }));
    }

    fn add(&mut self, subscription: ChannelSubscription) -> u32 {
        if let Some(key) = self.vacant.pop_front() {
            self.channels[key as usize] = Some(subscription);
            return key;
        }
        if self.channels.is_empty() {
            // Most sockets read one channel.
            self.channels.reserve_exact(1);
        }
        self.channels.push(Some(subscription));
        self.channels.len() as u32 - 1
    }

    /// Stops reading a channel that was requested by name, unless it is listed too.
    pub(super) fn drop_channel(&mut self, channel: &Channel) {
        self.update_and_prune(|subscription| {
            subscription.is_named &= subscription.channel != *channel;
        });
    }

    /// Stops reading a channel that is not granted.
    pub(super) fn refuse(&mut self, channel: &Channel) {
        self.update_and_prune(|subscription| {
            if subscription.channel == *channel {
                (subscription.is_named, subscription.is_listed) = (false, false);
            }
        });
    }

    /// Stops reading the listed channels of a namespace, except those that were requested by name too.
    pub(super) fn drop_all(&mut self, namespace: &'static str) {
        if self.all.take_if(|all| all.namespace == namespace).is_some() {
            self.update_and_prune(|subscription| subscription.is_listed = false);
        }
    }

    /// Calls `update` on each channel, then removes those that are neither named nor listed.
    fn update_and_prune(&mut self, mut update: impl FnMut(&mut ChannelSubscription)) {
        for (key, slot) in (0..).zip(&mut self.channels) {
            let Some(subscription) = slot else { continue };
            update(subscription);
            if !subscription.is_named && !subscription.is_listed {
                *slot = None;
                self.vacant.push_back(key);
            }
        }
        self.end_watch_if_idle();
    }

    /// Whether the slot `key` still holds this channel: a grant may arrive after the channel was dropped.
    pub(super) fn is_current(&self, key: u32, channel: &Channel) -> bool {
        self.channels.get(key as usize).and_then(Option::as_ref).is_some_and(|s| s.channel == *channel)
    }

    /// The channel is granted: starts its reader, or lets it read if it waited for an owner.
    pub(super) fn grant(&mut self, key: u32, shared: &ConnectionContext) {
        let Some(Some(subscription)) = self.channels.get_mut(key as usize) else { return };
        if std::mem::take(&mut subscription.is_pending) {
            self.ready.push_back(key);
            self.end_watch_if_idle();
        } else {
            self.begin(key, shared);
        }
    }

    /// Whether the channel may wait for an owner. One that was granted before has lost its owner instead.
    pub(super) fn may_wait(&self, key: u32) -> bool {
        let subscription = self.channels.get(key as usize).and_then(Option::as_ref);
        subscription.is_some_and(|subscription| subscription.is_pending || subscription.start.is_some())
    }

    /// The channel is to be granted once its id has an owner. Its events are kept for its reader from here on. Returns
    /// whether this is news.
    pub(super) fn wait_for_owner(&mut self, key: u32, org: Option<Arc<str>>, shared: &ConnectionContext) -> bool {
        let Some(Some(subscription)) = self.channels.get_mut(key as usize) else { return false };
        if std::mem::replace(&mut subscription.is_pending, true) {
            return false;
        }
        let is_run = shared.namespaces.of(&subscription.channel).is_some_and(|rules| rules.owner == Some(Owner::Run));
        if let Some(org) = org.filter(|_| is_run && self.crew_watch.is_none()) {
            self.crew_watch = Some(shared.crew_watches.watch(&org));
        }
        self.begin(key, shared);
        if let Some(reader) = self.reader_of(key) {
            reader.begin_recently();
        }
        true
    }

    fn reader_of(&mut self, key: u32) -> Option<&mut Reader> {
        self.channels.get_mut(key as usize)?.as_mut()?.reader.as_mut()
    }

    fn end_watch_if_idle(&mut self) {
        if self.crew_watch.is_some() && !self.channels.iter().flatten().any(|subscription| subscription.is_pending) {
            self.crew_watch = None;
        }
    }

    fn begin(&mut self, key: u32, shared: &ConnectionContext) {
        let Some(Some(subscription)) = self.channels.get_mut(key as usize) else { return };
        if let Some(start) = subscription.start.take() {
            let subscriber = shared.hub.subscribe(&subscription.channel, &self.notifier, key);
            self.last_number = self.last_number.wrapping_add(1);
            subscription.number = self.last_number;
            subscription.conflates =
                shared.namespaces.of(&subscription.channel).is_some_and(|rules| rules.skip_progress);
            subscription.reader = Some(Reader::new(subscriber, *start));
        }
    }

    /// Takes the channels of a namespace that are granted now: subscribes to new ones, and leaves those that are gone.
    /// Returns whether to list again.
    pub(super) fn list(
        &mut self,
        namespace: &'static str,
        granted: Vec<Channel>,
        dialect: &mut dyn Dialect,
        shared: &ConnectionContext,
        out: &mut Actions,
    ) -> bool {
        let Some(all) = self.all.as_mut().filter(|all| all.namespace == namespace) else { return false };
        let has_appeared = std::mem::replace(&mut all.was_listed, true);
        let start = if has_appeared { all.appearing } else { all.start };
        let list_again = std::mem::take(&mut all.changed);
        all.listing = list_again;
        // Sets, because there may be tens of thousands of channels.
        let mut appeared: HashSet<Channel> = granted.into_iter().collect();
        for (key, slot) in (0..).zip(&mut self.channels) {
            let Some(subscription) = slot else { continue };
            let was_listed = std::mem::replace(&mut subscription.is_listed, appeared.remove(&subscription.channel));
            if was_listed && !subscription.is_listed && !subscription.is_named {
                dialect.on_channel_gone(&subscription.channel, out);
                *slot = None;
                self.vacant.push_back(key);
            }
        }
        self.channels.reserve_exact(appeared.len().saturating_sub(self.vacant.len()));
        let staying = self.channels.iter().flatten().filter(|s| s.is_listed).map(|s| &s.channel);
        dialect.on_listed(namespace, &mut staying.chain(&appeared), out);
        for channel in appeared {
            let key = self.add(ChannelSubscription { is_listed: true, ..ChannelSubscription::new(channel, start) });
            self.grant(key, shared);
            if has_appeared && let Some(reader) = self.reader_of(key) {
                reader.begin_at_first();
            }
        }
        list_again
    }

    /// The channels of the `SubscribeAll`.
    pub(super) fn listed(&self) -> Vec<Channel> {
        let listed = self.channels.iter().flatten().filter(|subscription| subscription.is_listed);
        listed.map(|subscription| subscription.channel.clone()).collect()
    }

    /// Requests every grant anew: the grants of the identity, or the directory, may have changed.
    pub(super) fn review(&mut self, principal: &Principal, jobs: &mut Jobs, shared: &Arc<ConnectionContext>) {
        for (key, subscription) in self.channels.iter().enumerate() {
            if let Some(subscription) = subscription.as_ref().filter(|subscription| subscription.is_named) {
                jobs.request_grant(shared, principal, GrantRequest::now(key as u32, subscription.channel.clone()));
            }
        }
        if let Some(all) = &mut self.all {
            if all.listing {
                all.changed = true;
            } else {
                all.listing = true;
                let namespace = all.namespace;
                let listed = self.listed();
                jobs.list(shared, principal, GrantRequest::now(0, namespace), listed);
            }
        }
    }

    /// Whether a channel has entries, or could request a page.
    pub(super) fn have_entries(&self) -> bool {
        self.have_ready() || self.notifier.has_ready()
    }

    /// The same, without what the notifier reports.
    pub(super) fn have_ready(&self) -> bool {
        !self.ready.is_empty() || (!self.page_under_way && !self.waiting.is_empty())
    }

    /// Reads one batch of the next channel that has entries, and hands it to the dialect. False if there is none.
    pub(super) fn read_next(&mut self, dialect: &mut dyn Dialect, out: &mut Actions) -> bool {
        if self.ready.is_empty() {
            let mut notified = Vec::new();
            self.notifier.take_ready(&mut notified);
            self.ready.extend(notified);
        }
        let Some(key) = self.ready.pop_front() else { return false };
        match self.read(key, dialect, out) {
            ReadStep::Opened => self.ready.push_front(key),
            ReadStep::MayHaveMore => self.ready.push_back(key),
            ReadStep::HasNoMore => {}
        }
        true
    }

    /// Reads one batch of one channel, and hands it to the dialect.
    pub(super) fn read(&mut self, key: u32, dialect: &mut dyn Dialect, out: &mut Actions) -> ReadStep {
        let Some(Some(subscription)) = self.channels.get_mut(key as usize) else { return ReadStep::HasNoMore };
        let (channel, Some(reader)) = (&subscription.channel, &mut subscription.reader) else {
            return ReadStep::HasNoMore;
        };
        // A paused reader keeps its position: `resume` continues it, or `grant`.
        if subscription.is_pending || reader.is_open() && dialect.is_paused(channel) {
            return ReadStep::HasNoMore;
        }
        self.metrics.begin(Some(channel));
        let mut entries = std::mem::take(&mut self.metrics.batch().entries);
        let read = reader.read(READ_BATCH, &mut entries);
        if subscription.conflates && entries.len() == READ_BATCH {
            conflate_batch(channel, &mut entries, dialect, out);
        }
        for entry in entries.drain(..) {
            self.metrics.count_missed(&entry);
            dialect.on_entry(channel, &entry, out);
        }
        self.metrics.batch().entries = entries;
        match read {
            Read::Opened(opening) => {
                dialect.on_channel(channel, &opening, out);
                return ReadStep::Opened;
            }
            Read::Entries => return ReadStep::MayHaveMore,
            Read::NeedsPage(range) => {
                self.waiting.push_back((ReaderRef { key, number: subscription.number }, range));
            }
            Read::CaughtUp => dialect.on_caught_up(channel, reader.position(), out),
            Read::Idle => {}
        }
        ReadStep::HasNoMore
    }

    /// Marks all open channels as ready: those that were paused are read again.
    pub(super) fn resume(&mut self) {
        let open = (0..).zip(&self.channels).filter(|(_, slot)| {
            let reader = slot.as_ref().and_then(|subscription| subscription.reader.as_ref());
            reader.is_some_and(Reader::is_open)
        });
        self.ready.extend(open.map(|(key, _)| key));
    }

    /// The subscription of a reader; `None` if the reader is gone.
    fn subscription_of(&mut self, reader_ref: ReaderRef) -> Option<&mut ChannelSubscription> {
        let slot = self.channels.get_mut(reader_ref.key as usize).and_then(Option::as_mut);
        slot.filter(|subscription| subscription.reader.is_some() && subscription.number == reader_ref.number)
    }

    /// Requests the next page that a reader waits for, unless a page is under way.
    pub(super) fn request_page(&mut self, jobs: &mut Jobs, shared: &ConnectionContext) {
        while !self.page_under_way {
            let Some((reader_ref, range)) = self.waiting.pop_front() else { return };
            if let Some(subscription) = self.subscription_of(reader_ref) {
                jobs.page(shared, reader_ref, subscription.channel.clone(), range);
                self.page_under_way = true;
            }
        }
    }

    /// Hands a page of the log to its reader, and drops the page if the reader is gone.
    pub(super) fn take_page(
        &mut self,
        reader_ref: ReaderRef,
        page: Option<&LogPage>,
        dialect: &mut dyn Dialect,
        out: &mut Actions,
    ) {
        self.page_under_way = false;
        // The age of replayed events is not a delivery latency.
        self.metrics.begin(None);
        let Some(subscription) = self.subscription_of(reader_ref) else { return };
        let (channel, Some(reader)) = (&subscription.channel, &mut subscription.reader) else { return };
        let mut entries = Vec::new();
        reader.take_page(page, &mut entries);
        entries.iter().for_each(|entry| dialect.on_entry(channel, entry, out));
        self.ready.push_back(reader_ref.key);
    }

    /// The position of each open channel.
    pub(super) fn positions(&self) -> impl Iterator<Item = (&Channel, Option<EventId>)> {
        let open = self.channels.iter().flatten().filter_map(|s| s.reader.as_ref().filter(|reader| reader.is_open()));
        open.map(|reader| (reader.channel(), reader.position()))
    }
}

/// Hands a full batch to the dialect without outdated progress. The dialect is told what was left out before an event.
fn conflate_batch(channel: &Channel, entries: &mut Vec<Arc<Entry>>, dialect: &mut dyn Dialect, out: &mut Actions) {
    let flags = conflated(entries, |event| dialect.may_conflate(channel, event));
    let (mut all, mut skipped) = (0, Conflated::default());
    for (entry, is_conflated) in entries.drain(..).zip(flags) {
        if is_conflated {
            skipped = Conflated { events: skipped.events + 1, position: entry.position() };
            all += 1;
            continue;
        }
        if skipped.events > 0 {
            dialect.on_conflated(channel, std::mem::take(&mut skipped), out);
        }
        dialect.on_entry(channel, &entry, out);
    }
    if all > 0 {
        counter(Metric::EventsSkipped, &[("namespace", channel.namespace())]).increment(all);
    }
}
