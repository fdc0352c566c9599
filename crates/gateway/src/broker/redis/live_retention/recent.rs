//! The last live message of each channel, for a short while, and which of them are still to be written.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{Channel, EventId};
use tokio::time::Instant;

/// Recent messages, bounded in channels and bytes. Only the last message of a channel counts.
pub(super) struct Recent {
    most_channels: usize,
    most_bytes: usize,
    channels: HashMap<Channel, HeardMessage>,
    /// By number: the channel without a message for the longest time comes first.
    order: BTreeMap<u64, Channel>,
    unwritten: BTreeSet<u64>,
    bytes: usize,
    next: u64,
    overflowed: u64,
}

struct HeardMessage {
    number: u64,
    message: Bytes,
    id: Option<EventId>,
    at: Instant,
}

/// One value to write.
#[derive(Clone, Debug)]
pub(super) struct Write {
    number: u64,
    pub(super) channel: Channel,
    pub(super) message: Bytes,
    /// The id of a logged message that followed a live one: written only while it is the head.
    pub(super) id: Option<EventId>,
}

impl Recent {
    pub(super) fn new(most_channels: usize, most_bytes: usize) -> Self {
        Self {
            most_channels,
            most_bytes,
            channels: HashMap::new(),
            order: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            bytes: 0,
            next: 0,
            overflowed: 0,
        }
    }

    /// Remembers a message; true if it is to be written.
    ///
    /// A logged message (`id`) matters only behind a live one: the script that logged it has retained it, but an
    /// earlier live one may be written after it.
    pub(super) fn heard(&mut self, channel: Channel, message: Bytes, id: Option<EventId>, at: Instant) -> bool {
        if id.is_some() && !self.channels.contains_key(&channel) || message.len() > self.most_bytes {
            return false;
        }
        self.remove(&channel);
        let number = self.next;
        self.next += 1;
        self.bytes += message.len();
        self.order.insert(number, channel.clone());
        self.unwritten.insert(number);
        self.channels.insert(channel, HeardMessage { number, message, id, at });
        while self.channels.len() > self.most_channels || self.bytes > self.most_bytes {
            self.overflowed += u64::from(self.remove_oldest());
        }
        true
    }

    /// Drops what is older than `age`. Returns how many values were dropped too early since the last call.
    pub(super) fn forget(&mut self, now: Instant, age: Duration) -> u64 {
        let stale = |heard: &HeardMessage| now.duration_since(heard.at) > age;
        while self.order.values().next().and_then(|channel| self.channels.get(channel)).is_some_and(stale) {
            self.remove_oldest();
        }
        std::mem::take(&mut self.overflowed)
    }

    /// The oldest values to write: at most `count`, and at most `bytes` beyond the first.
    pub(super) fn batch(&self, count: usize, bytes: usize) -> Vec<Write> {
        let mut batch: Vec<Write> = Vec::new();
        let mut beyond = 0;
        for number in self.unwritten.iter().take(count) {
            let Some(channel) = self.order.get(number) else { continue };
            let Some(heard) = self.channels.get(channel) else { continue };
            if !batch.is_empty() {
                beyond += heard.message.len();
            }
            if beyond > bytes {
                break;
            }
            let (channel, message) = (channel.clone(), heard.message.clone());
            batch.push(Write { number: *number, channel, message, id: heard.id });
        }
        batch
    }

    /// Marks these as written. Messages received in the meantime stay unwritten.
    pub(super) fn written(&mut self, batch: &[Write]) {
        for write in batch {
            self.unwritten.remove(&write.number);
        }
    }

    /// Returns whether the dropped value was still to be written.
    fn remove_oldest(&mut self) -> bool {
        let oldest = self.order.values().next().cloned();
        oldest.is_some_and(|channel| self.remove(&channel))
    }

    fn remove(&mut self, channel: &Channel) -> bool {
        let Some(heard) = self.channels.remove(channel) else { return false };
        self.bytes -= heard.message.len();
        self.order.remove(&heard.number);
        self.unwritten.remove(&heard.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(n: usize) -> Channel {
        format!("mission:{n}").parse().unwrap()
    }

    fn live(recent: &mut Recent, n: usize, text: &'static str) -> bool {
        recent.heard(channel(n), Bytes::from_static(text.as_bytes()), None, Instant::now())
    }

    fn texts(batch: &[Write]) -> Vec<&[u8]> {
        batch.iter().map(|write| &write.message[..]).collect()
    }

    #[test]
    fn only_the_last_message_of_a_channel_is_written() {
        let mut recent = Recent::new(10, 1000);
        for text in ["a", "b", "c"] {
            assert!(live(&mut recent, 1, text));
        }
        let batch = recent.batch(10, 1000);
        assert_eq!(texts(&batch), [b"c"]);
        live(&mut recent, 1, "d");
        recent.written(&batch);
        assert_eq!(texts(&recent.batch(10, 1000)), [b"d"], "heard while the previous one was written");
        recent.written(&recent.batch(10, 1000));
        assert!(recent.batch(10, 1000).is_empty());
    }

    #[test]
    fn a_logged_message_matters_only_behind_a_live_one() {
        let mut recent = Recent::new(10, 1000);
        let id = Some(EventId::after(None, *b"abcdef"));
        let logged = Bytes::from_static(b"logged");
        assert!(!recent.heard(channel(1), logged.clone(), id, Instant::now()));
        live(&mut recent, 1, "live");
        recent.written(&recent.batch(10, 1000));
        assert!(recent.heard(channel(1), logged, id, Instant::now()));
        assert_eq!(recent.batch(10, 1000)[0].id, id);
    }

    #[test]
    fn channels_and_bytes_are_bounded() {
        let mut recent = Recent::new(3, 10);
        for n in 0..5 {
            live(&mut recent, n, "xx");
        }
        assert_eq!(recent.channels.len(), 3);
        assert_eq!(recent.forget(Instant::now(), Duration::from_secs(7)), 2, "two were lost");
        live(&mut recent, 9, "12345678");
        assert_eq!((recent.bytes, recent.channels.len()), (10, 2));
        assert!(!live(&mut recent, 10, "12345678901"), "larger than everything");
        assert_eq!(recent.batch(1, 100).len(), 1);
        assert_eq!(recent.batch(10, 1).len(), 1, "at least one");
    }

    #[tokio::test(start_paused = true)]
    async fn old_messages_are_dropped() {
        let mut recent = Recent::new(10, 1000);
        live(&mut recent, 1, "old");
        tokio::time::advance(Duration::from_secs(4)).await;
        live(&mut recent, 2, "new");
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(recent.forget(Instant::now(), Duration::from_secs(7)), 0);
        assert_eq!(texts(&recent.batch(10, 1000)), [b"new"]);
        assert_eq!((recent.order.len(), recent.unwritten.len(), recent.bytes), (1, 1, 3));
    }
}
