//! One channel in memory: log, head, retained value, state, and what detects repetitions.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{EventId, Namespace, namespace::HEAD_BEYOND_LOG};
use crewcast_store::{Append, AppendError, Entry, MAX_ENTRIES, Once};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::leases::Leases;
use crate::broker::{MAX_DOCUMENTS, PAGE_BYTES, Page, STATE_BYTES, Snapshot, StateDocuments};

/// Minimum time for which a caller's idempotency key is remembered (the spec).
const KEY_AGE: Duration = Duration::from_secs(24 * 3600);

/// Everything that one channel holds.
pub(super) struct ChannelLog {
    age: Duration,
    entries: VecDeque<(EventId, Bytes)>,
    head: Option<EventId>,
    retained: Option<Bytes>,
    state: HashMap<String, Arc<RawValue>>,
    pub(super) leases: Leases,
    producers: HashMap<Arc<str>, Producer>,
    keys: HashMap<(String, String), (Instant, EventId)>,
    appended: Instant,
    retained_at: Instant,
}

/// How far one producer's numbers have been accepted.
#[derive(Default)]
struct Producer {
    last: u64,
    /// The ids of its last numbers, at most [`MAX_ENTRIES`]: a repetition is never longer.
    ids: VecDeque<EventId>,
}

/// The result of an append.
pub(super) struct Appended {
    pub(super) ids: Vec<Option<EventId>>,
    /// The messages to publish, in order; empty for a repetition.
    pub(super) messages: Vec<Bytes>,
}

impl ChannelLog {
    pub(super) fn new(age: Duration, now: Instant) -> Self {
        Self {
            age,
            entries: VecDeque::new(),
            head: None,
            retained: None,
            state: HashMap::new(),
            leases: Leases::default(),
            producers: HashMap::new(),
            keys: HashMap::new(),
            appended: now,
            retained_at: now,
        }
    }

    /// Removes what has expired; true if nothing is left.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let idle = now.duration_since(self.appended);
        let head_age = self.age.saturating_add(HEAD_BEYOND_LOG);
        if idle >= self.age {
            self.entries.clear();
        }
        if idle >= head_age {
            self.head = None;
            self.state.clear();
            self.producers.clear();
        }
        if now.duration_since(self.retained_at) >= head_age {
            self.retained = None;
        }
        self.leases.expire(now);
        self.keys.retain(|_, (since, _)| now.duration_since(*since) < KEY_AGE);
        self.head.is_none() && self.retained.is_none() && self.keys.is_empty()
    }

    pub(super) fn append(&mut self, append: &Append, rules: &Namespace, now: Instant) -> Result<Appended, AppendError> {
        self.expire(now);
        let mut ids = self.repeated(&append.once, append.entries.len())?;
        let mut messages = Vec::new();
        for entry in &append.entries[ids.len()..] {
            if entry.lease_step(&append.channel).is_some_and(|step| !self.leases.apply(&step, now)) {
                ids.push(None);
                continue;
            }
            let (id, message) = self.push(entry, rules, now);
            ids.push(Some(id));
            messages.push(message);
        }
        self.remember(&append.once, &ids[ids.len() - messages.len()..], now);
        Ok(Appended { ids, messages })
    }

    /// The ids of the leading entries that were accepted before.
    fn repeated(&self, once: &Once, count: usize) -> Result<Vec<Option<EventId>>, AppendError> {
        match once {
            Once::No => Ok(Vec::new()),
            Once::Key { sub, key } => {
                Ok(self.keys.get(&(sub.clone(), key.clone())).map(|(_, id)| Some(*id)).into_iter().collect())
            }
            Once::Sequence { producer, first } => {
                let none = Producer::default();
                let known = self.producers.get(producer).unwrap_or(&none);
                let expected = known.last + 1;
                if *first > expected {
                    return Err(AppendError::Gap { expected });
                }
                let oldest = expected - known.ids.len() as u64;
                let end = expected.min(*first + count as u64);
                let id = |number: u64| known.ids.get(usize::try_from(number.checked_sub(oldest)?).ok()?).copied();
                Ok((*first..end).map(id).collect())
            }
        }
    }

    fn push(&mut self, entry: &Entry, rules: &Namespace, now: Instant) -> (EventId, Bytes) {
        let id = EventId::after(self.head, entry.random);
        let message = entry.body.with_id(id);
        self.head = Some(id);
        self.appended = now;
        self.entries.push_back((id, message.clone()));
        while self.entries.len() > rules.log.length as usize {
            self.entries.pop_front();
        }
        if rules.retain {
            self.retained = Some(message.clone());
            self.retained_at = now;
        }
        if let Some(state) = &entry.state {
            match &state.value {
                Some(value) => self.state.insert(state.key.clone(), value.clone()),
                None => self.state.remove(&state.key),
            };
        }
        (id, message)
    }

    fn remember(&mut self, once: &Once, fresh: &[Option<EventId>], now: Instant) {
        let fresh = fresh.iter().flatten();
        match once {
            Once::No => {}
            Once::Key { sub, key } => {
                for id in fresh {
                    self.keys.insert((sub.clone(), key.clone()), (now, *id));
                }
            }
            Once::Sequence { producer, .. } => {
                let known = self.producers.entry(producer.clone()).or_default();
                for id in fresh {
                    known.last += 1;
                    known.ids.push_back(*id);
                }
                let surplus = known.ids.len().saturating_sub(MAX_ENTRIES);
                known.ids.drain(..surplus);
            }
        }
    }

    /// Stores a live message as the retained value.
    pub(super) fn capture(&mut self, message: Bytes, now: Instant) {
        self.expire(now);
        self.retained = Some(message);
        self.retained_at = now;
    }

    /// Drops what the former owner wrote. The head stays, so that readers are told what they miss.
    pub(super) fn hand_over(&mut self) {
        self.entries.clear();
        self.state.clear();
        self.leases.clear();
        self.retained = None;
    }

    pub(super) fn snapshot(&mut self, now: Instant) -> Snapshot {
        self.expire(now);
        Snapshot { head: self.head, retained: self.retained.clone() }
    }

    pub(super) fn history(&mut self, offset: u64, limit: usize, now: Instant) -> Page {
        self.expire(now);
        let first = self.entries.front().map(|(id, _)| *id);
        let before = first.map_or(0, |id| id.offset() - 1);
        // The log has no holes, so offsets count its entries.
        let behind = usize::try_from(offset.saturating_sub(before)).unwrap_or(usize::MAX);
        let at = match offset > before {
            true => self.entries.get(behind - 1).map(|(id, _)| *id),
            false => None,
        };
        let mut entries: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        for (_, message) in self.entries.iter().skip(behind).take(limit) {
            if !entries.is_empty() {
                bytes += message.len();
            }
            if bytes > PAGE_BYTES {
                break;
            }
            entries.push(message.clone());
        }
        Page { head: self.head, first, at, entries }
    }

    pub(super) fn state(&mut self, within: Option<Duration>, now: Instant) -> StateDocuments {
        self.expire(now);
        // With the time left to each document, if `within` asks for it.
        let listed = self.state.iter().filter_map(|(key, value)| match within {
            Some(within) => Some((key, value, Some(self.leases.renewed_within(key, within, now)?))),
            None => Some((key, value, None)),
        });
        let mut all: Vec<_> = listed.collect();
        all.sort_unstable_by_key(|(key, ..)| *key);
        let (mut documents, mut bytes) = (Vec::new(), 0);
        let (count, first_end) = (all.len(), all.iter().filter_map(|(.., left)| *left).min());
        for (key, value, _) in all.into_iter().take(MAX_DOCUMENTS) {
            bytes += key.len() + value.get().len();
            if !documents.is_empty() && bytes > STATE_BYTES {
                break;
            }
            documents.push((key.clone(), Bytes::copy_from_slice(value.get().as_bytes())));
        }
        StateDocuments { head: self.head, truncated: documents.len() < count, documents, first_end }
    }
}
