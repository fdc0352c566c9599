//! What Redis holds for one channel, as the model has it: a log, a head, and what was published.

use bytes::Bytes;
use crewcast_events::EventId;

use crate::broker::{Page, Snapshot};

/// The log and its head at one moment.
#[derive(Clone, Default, Debug)]
pub(in crate::relay::tests) struct Log {
    pub(in crate::relay::tests) entries: Vec<EventId>,
    pub(in crate::relay::tests) head: Option<EventId>,
}

/// One channel's server: its log now, and as it was before each write.
#[derive(Default)]
pub(in crate::relay::tests) struct Server {
    pub(in crate::relay::tests) log: Log,
    past: Vec<Log>,
    /// Every id that was ever the log's first.
    pub(in crate::relay::tests) firsts: Vec<EventId>,
    /// The id of every message that was ever logged. Salts make each id new.
    pub(in crate::relay::tests) ever: Vec<EventId>,
    /// Ids that were in the log and are not any more, or were absent for a while.
    pub(in crate::relay::tests) ever_absent: Vec<EventId>,
}

/// The message that is logged under an id.
pub(in crate::relay::tests) fn message(id: EventId) -> Bytes {
    Bytes::from(format!(r#"{{"id":"{id}","type":"x"}}"#))
}

impl Log {
    /// Whether a reader at `position` can continue without a hole.
    pub(in crate::relay::tests) fn continues_from(&self, position: Option<EventId>) -> bool {
        let Some(id) = position else {
            return self.head.is_none() || self.entries.first().is_some_and(|first| first.offset() == 1);
        };
        self.head == Some(id)
            || self.entries.contains(&id)
            || self.entries.first().is_some_and(|first| first.continues(Some(id)))
    }
}

impl Server {
    /// Logs one event.
    pub(in crate::relay::tests) fn append(&mut self) -> EventId {
        self.past.push(self.log.clone());
        let salt = format!("{:06}", self.ever.len());
        let id = EventId::after(self.log.head, salt.as_bytes().try_into().expect("six digits"));
        self.ever.push(id);
        self.log.entries.push(id);
        self.firsts.extend(self.log.entries.first());
        self.log.head = Some(id);
        id
    }

    /// Drops the oldest entries.
    pub(in crate::relay::tests) fn trim(&mut self, count: usize) {
        let mut log = self.log.clone();
        log.entries.drain(..count.min(log.entries.len()));
        self.become_log(log);
    }

    /// The log expires; the head stays.
    pub(in crate::relay::tests) fn expire(&mut self) {
        self.trim(usize::MAX);
    }

    /// The log and the head are lost.
    pub(in crate::relay::tests) fn flush(&mut self) {
        self.become_log(Log::default());
    }

    /// A replica that did not know the last `writes` is promoted.
    pub(in crate::relay::tests) fn promote(&mut self, writes: usize) {
        let keep = self.past.len().saturating_sub(writes);
        if let Some(log) = self.past.get(keep).cloned() {
            self.past.truncate(keep);
            self.become_log(log);
        }
    }

    fn become_log(&mut self, log: Log) {
        let absent = self.ever.iter().filter(|id| !log.entries.contains(id));
        self.ever_absent.extend(absent);
        self.log = log;
        self.firsts.extend(self.log.entries.first());
    }

    /// At most `limit` entries behind `offset`.
    pub(in crate::relay::tests) fn page(&self, offset: u64, limit: usize) -> Page {
        let entries = &self.log.entries;
        Page {
            head: self.log.head,
            first: entries.first().copied(),
            at: entries.iter().find(|id| id.offset() == offset).copied(),
            entries: entries.iter().filter(|id| id.offset() > offset).take(limit).map(|&id| message(id)).collect(),
        }
    }

    pub(in crate::relay::tests) fn snapshot(&self) -> Snapshot {
        Snapshot { head: self.log.head, retained: None }
    }
}
