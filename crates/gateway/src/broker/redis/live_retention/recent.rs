//! What live messages leave in their channels, for a short while, and what of it is still to be written.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{Channel, EventId};
use tokio::time::Instant;

use crate::broker::captured::{Captured, Counted};

/// Recent values, bounded in number and bytes. Only the last value of a place counts.
pub(super) struct Recent {
    most: usize,
    most_bytes: usize,
    heard: HashMap<Place, HeardValue>,
    /// By number: the place without a value for the longest time comes first.
    order: BTreeMap<u64, Place>,
    unwritten: BTreeSet<u64>,
    bytes: usize,
    next: u64,
    overflowed: u64,
}

/// Where a value goes: a newer value of the same place replaces it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place(Channel, Slot);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Slot {
    Retained,
    Document(String),
    Last(String),
    /// A line of a list, by its number.
    Line(u64),
    Counted(Counted, String),
}

impl Slot {
    fn of(captured: &Captured, number: u64) -> Self {
        match captured {
            Captured::Retained => Slot::Retained,
            Captured::Document { key, .. } => Slot::Document(key.clone()),
            Captured::Last { name } => Slot::Last(name.clone()),
            Captured::Line { .. } => Slot::Line(number),
            Captured::Counted { what, item } => Slot::Counted(*what, item.clone()),
        }
    }
}

struct HeardValue {
    number: u64,
    captured: Captured,
    message: Bytes,
    id: Option<EventId>,
    at: Instant,
}

/// One value to write.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) number: u64,
    pub(super) channel: Channel,
    pub(super) captured: Captured,
    pub(super) message: Bytes,
    /// The id of a logged message that followed a live one: written only while it is the head.
    pub(super) id: Option<EventId>,
}

impl Recent {
    pub(super) fn new(most: usize, most_bytes: usize) -> Self {
        Self {
            most,
            most_bytes,
            heard: HashMap::new(),
            order: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            bytes: 0,
            next: 0,
            overflowed: 0,
        }
    }

    /// Remembers what a message leaves; true if it is to be written.
    ///
    /// A logged message (`id`) matters only behind a live one: the script that logged it has retained it, but an
    /// earlier live one may be written after it.
    pub(super) fn heard(
        &mut self,
        channel: Channel,
        captured: Captured,
        message: Bytes,
        id: Option<EventId>,
        at: Instant,
    ) -> bool {
        let number = self.next;
        let place = Place(channel, Slot::of(&captured, number));
        if id.is_some() && !self.heard.contains_key(&place) || message.len() > self.most_bytes {
            return false;
        }
        let captured = match (captured, self.heard.get(&place).map(|heard| &heard.captured)) {
            (Captured::Document { key, change }, Some(Captured::Document { change: earlier, .. })) => {
                Captured::Document { key, change: change.after(earlier) }
            }
            (captured, _) => captured,
        };
        self.remove(&place);
        self.next += 1;
        self.bytes += message.len();
        self.order.insert(number, place.clone());
        self.unwritten.insert(number);
        self.heard.insert(place, HeardValue { number, captured, message, id, at });
        while self.heard.len() > self.most || self.bytes > self.most_bytes {
            self.overflowed += u64::from(self.remove_oldest());
        }
        true
    }

    /// Drops what is older than `age`. Returns how many values were dropped too early since the last call.
    pub(super) fn forget(&mut self, now: Instant, age: Duration) -> u64 {
        let stale = |heard: &HeardValue| now.duration_since(heard.at) > age;
        while self.order.values().next().and_then(|place| self.heard.get(place)).is_some_and(stale) {
            self.remove_oldest();
        }
        std::mem::take(&mut self.overflowed)
    }

    /// The oldest values to write: at most `count`, and at most `bytes` beyond the first.
    pub(super) fn batch(&self, count: usize, bytes: usize) -> Vec<Write> {
        let mut batch: Vec<Write> = Vec::new();
        let mut beyond = 0;
        for number in self.unwritten.iter().take(count) {
            let Some(place) = self.order.get(number) else { continue };
            let Some(heard) = self.heard.get(place) else { continue };
            if !batch.is_empty() {
                beyond += heard.message.len();
            }
            if beyond > bytes {
                break;
            }
            let (captured, message) = (heard.captured.clone(), heard.message.clone());
            batch.push(Write { number: *number, channel: place.0.clone(), captured, message, id: heard.id });
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
        oldest.is_some_and(|place| self.remove(&place))
    }

    fn remove(&mut self, place: &Place) -> bool {
        let Some(heard) = self.heard.remove(place) else { return false };
        self.bytes -= heard.message.len();
        self.order.remove(&heard.number);
        self.unwritten.remove(&heard.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::captured::DocumentChange;

    fn channel(n: usize) -> Channel {
        format!("mission:{n}").parse().unwrap()
    }

    fn live(recent: &mut Recent, n: usize, text: &'static str) -> bool {
        recent.heard(channel(n), Captured::Retained, Bytes::from_static(text.as_bytes()), None, Instant::now())
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
        assert!(!recent.heard(channel(1), Captured::Retained, logged.clone(), id, Instant::now()));
        live(&mut recent, 1, "live");
        recent.written(&recent.batch(10, 1000));
        assert!(recent.heard(channel(1), Captured::Retained, logged, id, Instant::now()));
        assert_eq!(recent.batch(10, 1000)[0].id, id);
    }

    #[test]
    fn every_line_is_written_and_changes_of_a_document_are_one() {
        let mut recent = Recent::new(10, 1000);
        let mut heard = |captured: Captured| recent.heard(channel(1), captured, Bytes::new(), None, Instant::now());
        for _ in 0..2 {
            heard(Captured::Line { name: "l".to_owned() });
        }
        for text in [r#"{"a":1}"#, r#"{"b":2}"#] {
            let change = DocumentChange::Merge(serde_json::from_str(text).unwrap());
            heard(Captured::Document { key: "k".to_owned(), change });
        }
        let batch = recent.batch(10, 1000);
        let lines = batch.iter().filter(|write| matches!(write.captured, Captured::Line { .. })).count();
        let documents: Vec<_> = batch
            .iter()
            .filter_map(|write| match &write.captured {
                Captured::Document { change, .. } => change.apply(None),
                _ => None,
            })
            .collect();
        assert_eq!((lines, documents.len(), documents[0].get()), (2, 1, r#"{"a":1,"b":2}"#));
    }

    #[test]
    fn channels_and_bytes_are_bounded() {
        let mut recent = Recent::new(3, 10);
        for n in 0..5 {
            live(&mut recent, n, "xx");
        }
        assert_eq!(recent.heard.len(), 3);
        assert_eq!(recent.forget(Instant::now(), Duration::from_secs(7)), 2, "two were lost");
        live(&mut recent, 9, "12345678");
        assert_eq!((recent.bytes, recent.heard.len()), (10, 2));
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
