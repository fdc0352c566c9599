//! The channels of one socket: which are listed, which are open, and their positions.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crewcast_events::{Channel, EventId, Since};

use super::filter::ChannelScope;
use crate::{hub::Entry, replay::Opening};

/// The state of one channel.
#[derive(Default)]
struct ChannelEntry {
    /// Whether the channel is one of the granted streams.
    is_listed: bool,
    is_open: bool,
    /// No org owns its id yet: it opens later, and a subscription does not wait for that.
    is_pending: bool,
    /// The id after which it starts, unless it starts live.
    since: Option<Since>,
    /// The last id that was read, or the position at the start.
    position: Option<EventId>,
    /// The retained event, until it is taken.
    retained: Option<Arc<Entry>>,
}

#[derive(Default)]
pub(super) struct Channels {
    places: HashMap<Channel, ChannelEntry>,
    /// Whether the granted streams are known.
    are_listed: bool,
    /// Number of streams that are listed but not open yet.
    unopened: usize,
}

impl Channels {
    /// Subscribes to a channel by name. With `since` it starts again.
    pub(super) fn ask(&mut self, channel: &Channel, since: Option<Since>) {
        let entry = self.places.entry(channel.clone()).or_default();
        if since.is_some() {
            self.unopened += usize::from(entry.is_listed && entry.is_open);
            *entry = ChannelEntry { is_listed: entry.is_listed, since, ..ChannelEntry::default() };
        }
    }

    /// The channel is open. Returns whether it waited for an owner.
    pub(super) fn open(&mut self, channel: &Channel, opening: &Opening) -> bool {
        let Some(entry) = self.places.get_mut(channel) else { return false };
        self.unopened -= usize::from(entry.is_listed && !entry.is_open);
        entry.is_open = true;
        let was_pending = std::mem::take(&mut entry.is_pending);
        entry.position = match entry.since {
            Some(Since::After(id)) => Some(id),
            // The log's events follow: a client that is disconnected before that has to ask for all of them again.
            Some(Since::Beginning | Since::Unknown) => None,
            None => opening.position,
        };
        entry.retained.clone_from(&opening.retained);
        was_pending
    }

    /// The channel opens once its id has an owner.
    pub(super) fn wait(&mut self, channel: &Channel) {
        if let Some(entry) = self.places.get_mut(channel) {
            entry.is_pending = true;
        }
    }

    /// Replaces the list of granted streams.
    pub(super) fn list(&mut self, granted: &mut dyn Iterator<Item = &Channel>) {
        let mut granted: HashSet<Channel> = granted.cloned().collect();
        let appears = std::mem::replace(&mut self.are_listed, true);
        for (channel, entry) in &mut self.places {
            entry.is_listed = granted.remove(channel);
        }
        // A stream that appears later is read from its first event.
        let since = appears.then_some(Since::Beginning);
        self.places.extend(granted.into_iter().map(|channel| {
            let entry = ChannelEntry { is_listed: true, since, ..ChannelEntry::default() };
            (channel, entry)
        }));
        self.unopened = self.places.values().filter(|entry| entry.is_listed && !entry.is_open).count();
    }

    /// Ends the subscription to all streams: streams that are not subscribed to by name are dropped.
    pub(super) fn unlist(&mut self, is_named: impl Fn(&Channel) -> bool) {
        (self.are_listed, self.unopened) = (false, 0);
        self.places.values_mut().for_each(|entry| entry.is_listed = false);
        self.places.retain(|channel, _| is_named(channel));
    }

    /// Ends the subscription by name.
    pub(super) fn unname(&mut self, channel: &Channel) {
        if self.places.get(channel).is_some_and(|entry| !entry.is_listed) {
            self.places.remove(channel);
        }
    }

    /// The channel is no longer read.
    pub(super) fn remove(&mut self, channel: &Channel) {
        if let Some(entry) = self.places.remove(channel) {
            self.unopened -= usize::from(entry.is_listed && !entry.is_open);
        }
    }

    /// The channel was read up to this position.
    pub(super) fn stand_at(&mut self, channel: &Channel, position: Option<EventId>) {
        if let Some(entry) = self.places.get_mut(channel) {
            entry.position = position;
        }
    }

    /// Whether all channels of a scope are open, or one that was named waits for an owner.
    pub(super) fn are_settled(&self, scope: &ChannelScope) -> bool {
        match scope {
            ChannelScope::Streams => self.are_listed && self.unopened == 0,
            ChannelScope::Channel(channel) => {
                self.places.get(channel).is_some_and(|entry| entry.is_open || entry.is_pending)
            }
        }
    }

    /// The channel of a scope that waits for an owner.
    pub(super) fn pending<'a>(&self, scope: &'a ChannelScope) -> Option<&'a Channel> {
        match scope {
            ChannelScope::Streams => None,
            ChannelScope::Channel(channel) => {
                self.places.get(channel).is_some_and(|entry| entry.is_pending).then_some(channel)
            }
        }
    }

    /// Whether a channel belongs to a scope.
    pub(super) fn is_in(&self, channel: &Channel, scope: &ChannelScope) -> bool {
        match scope {
            ChannelScope::Streams => self.places.get(channel).is_some_and(|entry| entry.is_listed),
            ChannelScope::Channel(one) => one == channel,
        }
    }

    /// The positions of the channels of a scope that are open or wait for an owner, sorted by name.
    pub(super) fn positions(&self, scope: &ChannelScope) -> Vec<(&Channel, Option<EventId>)> {
        let stands = |(channel, entry): (_, &ChannelEntry)| {
            (entry.is_open || entry.is_pending).then_some((channel, entry.position))
        };
        let mut positions: Vec<_> = match scope {
            ChannelScope::Streams => {
                self.places.iter().filter(|(_, entry)| entry.is_listed).filter_map(stands).collect()
            }
            ChannelScope::Channel(channel) => self.places.get_key_value(channel).and_then(stands).into_iter().collect(),
        };
        positions.sort_unstable_by_key(|(channel, _)| *channel);
        positions
    }

    /// Takes the retained events of a scope's channels. Each is taken once.
    pub(super) fn take_retained(&mut self, scope: &ChannelScope) -> Vec<(Channel, Arc<Entry>)> {
        let take = |(channel, entry): (&Channel, &mut ChannelEntry)| Some((channel.clone(), entry.retained.take()?));
        match scope {
            ChannelScope::Streams => {
                self.places.iter_mut().filter(|(_, entry)| entry.is_listed).filter_map(take).collect()
            }
            ChannelScope::Channel(channel) => {
                self.places.get_mut(channel).and_then(|entry| take((channel, entry))).into_iter().collect()
            }
        }
    }
}
