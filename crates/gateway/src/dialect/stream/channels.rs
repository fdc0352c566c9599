//! The channels of one socket: which are listed, which are open, and where each stands.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crewcast_events::{Channel, EventId, Since};

use super::filter::ChannelScope;
use crate::{hub::Entry, replay::Opening};

/// What is known of one channel.
#[derive(Default)]
struct ChannelEntry {
    /// One of all streams granted.
    is_listed: bool,
    is_open: bool,
    /// Behind what it begins, where it does not begin live.
    since: Option<Since>,
    /// The last id that was read, or where it began.
    position: Option<EventId>,
    /// The retained event, until somebody has taken it.
    retained: Option<Arc<Entry>>,
}

#[derive(Default)]
pub(super) struct Channels {
    places: HashMap<Channel, ChannelEntry>,
    /// Whether it is known which streams are granted.
    are_listed: bool,
    /// Streams that are listed and not open yet.
    unopened: usize,
}

impl Channels {
    /// A channel is asked for by name. Behind `since` it begins anew.
    pub(super) fn ask(&mut self, channel: &Channel, since: Option<Since>) {
        let place = self.places.entry(channel.clone()).or_default();
        if since.is_some() {
            self.unopened += usize::from(place.is_listed && place.is_open);
            *place = ChannelEntry { is_listed: place.is_listed, since, ..ChannelEntry::default() };
        }
    }

    /// A channel is open.
    pub(super) fn open(&mut self, channel: &Channel, opening: &Opening) {
        let Some(place) = self.places.get_mut(channel) else { return };
        self.unopened -= usize::from(place.is_listed && !place.is_open);
        place.is_open = true;
        place.position = match place.since {
            Some(Since::After(id)) => Some(id),
            // What the log holds follows: a client that is cut before has to ask for all of it again.
            Some(Since::Beginning | Since::Unknown) => None,
            None => opening.position,
        };
        place.retained.clone_from(&opening.retained);
    }

    /// These are the streams granted, now and no others.
    pub(super) fn list(&mut self, granted: &mut dyn Iterator<Item = &Channel>) {
        let mut granted: HashSet<Channel> = granted.cloned().collect();
        let appears = std::mem::replace(&mut self.are_listed, true);
        for (channel, place) in &mut self.places {
            place.is_listed = granted.remove(channel);
        }
        // One that appears later is read from its first event.
        let since = appears.then_some(Since::Beginning);
        self.places.extend(granted.into_iter().map(|channel| {
            let place = ChannelEntry { is_listed: true, since, ..ChannelEntry::default() };
            (channel, place)
        }));
        self.unopened = self.places.values().filter(|place| place.is_listed && !place.is_open).count();
    }

    /// Nobody wants all streams any more: those go that are not named either.
    pub(super) fn unlist(&mut self, is_named: impl Fn(&Channel) -> bool) {
        (self.are_listed, self.unopened) = (false, 0);
        self.places.values_mut().for_each(|place| place.is_listed = false);
        self.places.retain(|channel, _| is_named(channel));
    }

    /// Nobody asks for the channel by name any more.
    pub(super) fn unname(&mut self, channel: &Channel) {
        if self.places.get(channel).is_some_and(|place| !place.is_listed) {
            self.places.remove(channel);
        }
    }

    /// The channel is read no longer.
    pub(super) fn remove(&mut self, channel: &Channel) {
        if let Some(place) = self.places.remove(channel) {
            self.unopened -= usize::from(place.is_listed && !place.is_open);
        }
    }

    /// The channel was read up to there.
    pub(super) fn stand_at(&mut self, channel: &Channel, position: Option<EventId>) {
        if let Some(place) = self.places.get_mut(channel) {
            place.position = position;
        }
    }

    /// Whether all channels of a scope are open.
    pub(super) fn are_open(&self, scope: &ChannelScope) -> bool {
        match scope {
            ChannelScope::Streams => self.are_listed && self.unopened == 0,
            ChannelScope::Channel(channel) => self.places.get(channel).is_some_and(|place| place.is_open),
        }
    }

    /// Whether a channel is one of a scope.
    pub(super) fn is_in(&self, channel: &Channel, scope: &ChannelScope) -> bool {
        match scope {
            ChannelScope::Streams => self.places.get(channel).is_some_and(|place| place.is_listed),
            ChannelScope::Channel(one) => one == channel,
        }
    }

    /// Where the channels of a scope stand that are open, by name.
    pub(super) fn positions(&self, scope: &ChannelScope) -> Vec<(&Channel, Option<EventId>)> {
        let stands = |(channel, place): (_, &ChannelEntry)| place.is_open.then_some((channel, place.position));
        let mut positions: Vec<_> = match scope {
            ChannelScope::Streams => {
                self.places.iter().filter(|(_, place)| place.is_listed).filter_map(stands).collect()
            }
            ChannelScope::Channel(channel) => self.places.get_key_value(channel).and_then(stands).into_iter().collect(),
        };
        positions.sort_unstable_by_key(|(channel, _)| *channel);
        positions
    }

    /// The retained events of a scope's channels that nobody has taken yet.
    pub(super) fn take_retained(&mut self, scope: &ChannelScope) -> Vec<(Channel, Arc<Entry>)> {
        let take = |(channel, place): (&Channel, &mut ChannelEntry)| Some((channel.clone(), place.retained.take()?));
        match scope {
            ChannelScope::Streams => {
                self.places.iter_mut().filter(|(_, place)| place.is_listed).filter_map(take).collect()
            }
            ChannelScope::Channel(channel) => {
                self.places.get_mut(channel).and_then(|place| take((channel, place))).into_iter().collect()
            }
        }
    }
}
