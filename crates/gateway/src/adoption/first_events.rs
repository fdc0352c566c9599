//! The first live events of ids that had no owner: whoever reads every crew or stream of an org learns of a new one
//! only after its first events.

use std::{collections::HashMap, time::Duration};

use crewcast_events::{Channel, Event, Kind};
use tokio::time::Instant;

/// How long a channel's first events are kept: until sockets have listed the new id.
const KEEP: Duration = Duration::from_secs(10);
/// Events that are kept of one channel.
const EVENTS: usize = 64;
/// Ids that are remembered as new.
const MAX_NEW_IDS: usize = 10_000;
/// Bytes of the events of all channels.
const BYTES: usize = 8 << 20;

#[derive(Default)]
pub(super) struct FirstEvents {
    channels: HashMap<Channel, Kept>,
    bytes: usize,
    /// Ids that got their owner a moment ago, and until when they count as new.
    new_ids: HashMap<(Kind, String), Instant>,
}

struct Kept {
    events: Vec<Event>,
    until: Instant,
}

impl FirstEvents {
    /// Starts to keep the events of a channel that may be new.
    pub(super) fn begin(&mut self, channel: &Channel, event: Event) {
        let now = Instant::now();
        self.drop_where(|_, kept| kept.until <= now);
        if !self.channels.contains_key(channel) {
            self.channels.insert(channel.clone(), Kept { events: Vec::new(), until: now + KEEP });
            self.keep(channel.as_str(), event);
        }
    }

    /// Keeps the next event of a channel, if its events are kept.
    pub(super) fn heard(&mut self, channel: &str, event: impl FnOnce() -> Option<Event>) {
        if self.channels.contains_key(channel)
            && let Some(event) = event()
        {
            self.keep(channel, event);
        }
    }

    fn keep(&mut self, channel: &str, event: Event) {
        let Some(kept) = self.channels.get_mut(channel) else { return };
        let bytes = event.raw().len();
        // A logged event is in the log.
        if event.id().is_none() && kept.events.len() < EVENTS && self.bytes + bytes <= BYTES {
            self.bytes += bytes;
            kept.events.push(event);
        }
    }

    /// An id has got an owner.
    pub(super) fn registered(&mut self, kind: Kind, id: &str) {
        let now = Instant::now();
        if self.new_ids.len() >= MAX_NEW_IDS {
            self.new_ids.retain(|_, until| now < *until);
        }
        if self.new_ids.len() < MAX_NEW_IDS {
            self.new_ids.insert((kind, id.to_owned()), now + KEEP);
        }
    }

    /// The channel's id has an owner. Unless it got that owner a moment ago, its events are not its first.
    pub(super) fn is_owned(&mut self, kind: Kind, channel: &Channel) {
        let until = self.new_ids.get(&(kind, channel.id().to_owned()));
        if until.is_none_or(|until| *until <= Instant::now()) {
            self.drop_where(|name, _| name == channel);
        }
    }

    /// Takes the events of a channel, which is read from now on.
    pub(super) fn take(&mut self, channel: &Channel) -> Vec<Event> {
        let Some(kept) = self.channels.remove(channel) else { return Vec::new() };
        self.bytes -= kept.weight();
        if Instant::now() < kept.until { kept.events } else { Vec::new() }
    }

    fn drop_where(&mut self, is_dropped: impl Fn(&Channel, &Kept) -> bool) {
        let bytes = &mut self.bytes;
        self.channels.retain(|channel, kept| {
            let drops = is_dropped(channel, kept);
            *bytes -= if drops { kept.weight() } else { 0 };
            !drops
        });
    }
}

impl Kept {
    fn weight(&self) -> usize {
        self.events.iter().map(|event| event.raw().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn event(text: &str) -> Event {
        Event::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_live_events_of_a_new_channel_are_kept_for_a_while() {
        let (new, old): (Channel, Channel) = ("graph:new".parse().unwrap(), "graph:old".parse().unwrap());
        let mut first = FirstEvents::default();
        first.heard("graph:new", || panic!("nobody began to keep its events"));
        first.begin(&new, event(r#"{"type":"a"}"#));
        first.heard("graph:new", || Some(event(r#"{"id":"1-abcdefghijkl","type":"b"}"#)));
        first.heard("graph:new", || Some(event(r#"{"type":"c"}"#)));
        first.begin(&old, event(r#"{"type":"d"}"#));
        first.registered(Kind::Crew, "new");
        first.is_owned(Kind::Crew, &new);
        first.is_owned(Kind::Crew, &old);
        assert!(first.take(&old).is_empty(), "it had an owner all along");
        let kinds: Vec<_> = first.take(&new).iter().map(|event| event.kind().into_owned()).collect();
        assert_eq!((kinds, first.bytes), (vec!["a".to_owned(), "c".to_owned()], 0), "the log has the logged one");

        first.begin(&new, event(r#"{"type":"a"}"#));
        tokio::time::advance(KEEP).await;
        first.begin(&old, event(r#"{"type":"d"}"#));
        assert_eq!(first.channels.len(), 1);
        assert!(first.take(&new).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let channel: Channel = "graph:new".parse().unwrap();
        let mut first = FirstEvents::default();
        first.begin(&channel, event(r#"{"type":"a"}"#));
        for _ in 0..2 * EVENTS {
            first.heard("graph:new", || Some(event(r#"{"type":"b"}"#)));
        }
        assert_eq!(first.take(&channel).len(), EVENTS);
        let large = event(&format!(r#"{{"type":"x","data":"{}"}}"#, "x".repeat(BYTES / 4)));
        first.begin(&channel, large.clone());
        for _ in 0..10 {
            first.heard("graph:new", || Some(large.clone()));
        }
        assert_eq!(first.take(&channel).len(), 3);
    }
}
