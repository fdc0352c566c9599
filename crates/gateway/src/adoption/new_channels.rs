//! Channels of ids that this replica heard of for the first time.
//!
//! Sockets that read every crew or stream of an org list a new id only after its first events. Until then the channel
//! is held: its ring keeps what they need. The events that are overheard before the channel is subscribed are kept here
//! and become the beginning of the ring.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crewcast_events::{Channel, Event};
use tokio::time::Instant;

use crate::{hub::ChannelHold, relay::FirstEvents};

/// How long a new channel is held: until sockets have listed its id.
const HOLD: Duration = Duration::from_secs(15);
/// Channels that are held at the same time. Further ones get an owner, but no place for their first events.
const MAX_CHANNELS: usize = 20_000;
/// Events of one channel that are kept until it is subscribed, which takes milliseconds.
const EVENTS: usize = 1024;
/// Bytes of the events of all channels.
const BYTES: usize = 16 << 20;

#[derive(Default)]
pub(super) struct NewChannels {
    channels: HashMap<Channel, NewChannel>,
    /// In the order in which they were heard of.
    until: VecDeque<(Instant, Channel)>,
    bytes: usize,
}

struct NewChannel {
    _hold: ChannelHold,
    /// `None` once the channel is subscribed.
    first: Option<FirstEvents>,
    /// Its owner is being looked up.
    is_queued: bool,
}

impl NewChannels {
    /// Keeps an event of a channel, if its events are kept. Returns whether its owner has to be looked up; `None` for
    /// a channel that is not held.
    pub(super) fn heard(&mut self, channel: &str, event: impl FnOnce() -> Option<Event>) -> Option<bool> {
        let new = self.channels.get_mut(channel)?;
        if let Some(first) = &mut new.first
            && let Some(event) = event()
        {
            self.bytes += keep(first, event, self.bytes);
        }
        Some(!std::mem::replace(&mut new.is_queued, true))
    }

    /// Holds a channel from its first event on. False if too many are held.
    pub(super) fn begin(&mut self, channel: &Channel, event: Event, hold: impl FnOnce() -> ChannelHold) -> bool {
        let now = Instant::now();
        self.release_old(now);
        if self.channels.len() >= MAX_CHANNELS {
            return false;
        }
        let mut first = FirstEvents::default();
        self.bytes += keep(&mut first, event, self.bytes);
        let new = NewChannel { _hold: hold(), first: Some(first), is_queued: true };
        self.channels.insert(channel.clone(), new);
        self.until.push_back((now + HOLD, channel.clone()));
        true
    }

    /// The owner could not be looked up: the channel's next event tries again.
    pub(super) fn failed(&mut self, channel: &Channel) {
        if let Some(new) = self.channels.get_mut(channel) {
            new.is_queued = false;
        }
    }

    /// Takes the first events of a channel, which is subscribed from now on.
    pub(super) fn take(&mut self, channel: &Channel) -> FirstEvents {
        let first = self.channels.get_mut(channel).and_then(|new| new.first.take()).unwrap_or_default();
        self.bytes -= weight(&first);
        first
    }

    fn release_old(&mut self, now: Instant) {
        while self.until.front().is_some_and(|(until, _)| *until <= now)
            && let Some((_, channel)) = self.until.pop_front()
        {
            if let Some(NewChannel { first: Some(first), .. }) = self.channels.remove(&channel) {
                self.bytes -= weight(&first);
            }
        }
    }
}

/// Keeps an event, if there is room. Returns its bytes.
fn keep(first: &mut FirstEvents, event: Event, held: usize) -> usize {
    if event.id().is_some() {
        // The log has it.
        return 0;
    }
    let bytes = event.raw().len();
    if first.events.len() >= EVENTS || held + bytes > BYTES {
        first.missed += 1;
        return 0;
    }
    first.events.push(event);
    bytes
}

fn weight(first: &FirstEvents) -> usize {
    first.events.iter().map(|event| event.raw().len()).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::hub::{Hub, RingLimits};

    fn event(text: &str) -> Event {
        Event::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_channel_is_held_for_a_while_and_its_live_events_are_kept() {
        let (hub, _demands) = Hub::new(RingLimits { events: 10, bytes: 1 << 20, total_bytes: 1 << 20 });
        let channel: Channel = "graph:new".parse().unwrap();
        let mut new = NewChannels::default();
        assert_eq!(new.heard("graph:new", || panic!("nothing is kept of it")), None);
        assert!(new.begin(&channel, event(r#"{"type":"a"}"#), || hub.hold(&channel)));
        assert_eq!(hub.channels(), 1);
        assert_eq!(new.heard("graph:new", || Some(event(r#"{"id":"1-abcdefghijkl","type":"b"}"#))), Some(false));
        new.failed(&channel);
        assert_eq!(new.heard("graph:new", || Some(event(r#"{"type":"c"}"#))), Some(true));
        let first = new.take(&channel);
        let kinds: Vec<_> = first.events.iter().map(|event| event.kind().into_owned()).collect();
        assert_eq!((kinds, first.missed, new.bytes), (vec!["a".to_owned(), "c".to_owned()], 0, 0), "the log has one");
        assert_eq!(new.heard("graph:new", || panic!("it is subscribed")), Some(false));

        tokio::time::advance(HOLD).await;
        let other: Channel = "graph:other".parse().unwrap();
        assert!(new.begin(&other, event(r#"{"type":"a"}"#), || hub.hold(&other)));
        assert!(hub.forget_if_idle(&channel), "it is no longer held");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut first = FirstEvents::default();
        for n in 0..EVENTS + 3 {
            keep(&mut first, event(&format!(r#"{{"type":"x","n":{n}}}"#)), 0);
        }
        assert_eq!((first.events.len(), first.missed), (EVENTS, 3));
        assert_eq!(keep(&mut first, event(r#"{"type":"x"}"#), BYTES), 0);
        assert_eq!(first.missed, 4);
    }
}
