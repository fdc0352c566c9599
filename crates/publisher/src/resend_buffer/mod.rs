//! The events that were confirmed in the last seconds. A server confirms an event before its replicas have it. When a
//! replica takes over without it, only the publisher still has the event, and sends it again (`resend.rs`).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crewcast_events::Channel;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::channel_queue::{Item, Sequence};

/// How many confirmed events a publisher keeps, over all channels, to send them again after a failover. The oldest go
/// first. Does not count against the queue's bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResendWindow {
    /// How long an event is kept. Older events go when another one is confirmed. The age does not apply while an append
    /// of the same channel waits for its answer: a failover may take longer. Default 15 s.
    pub age: Duration,
    /// Most events. 0 keeps none, and none are sent again. Default 50,000.
    pub events: usize,
    /// Most bytes, including some overhead per event. Default 16 MiB.
    pub bytes: usize,
}

impl ResendWindow {
    /// Keeps no events and sends none again.
    pub const NONE: Self = Self { age: Duration::ZERO, events: 0, bytes: 0 };
}

impl Default for ResendWindow {
    fn default() -> Self {
        Self { age: Duration::from_secs(15), events: 50_000, bytes: 16 << 20 }
    }
}

pub(crate) struct ResendBuffer {
    bounds: ResendWindow,
    kept: Mutex<BufferState>,
}

#[derive(Default)]
struct BufferState {
    runs: HashMap<Channel, Run>,
    /// Oldest first.
    marks: VecDeque<Mark>,
    events: usize,
    bytes: usize,
    serial: u64,
}

/// A producer's latest events in a channel, with consecutive numbers.
struct Run {
    producer: Arc<str>,
    /// The number after the last.
    end: u64,
    items: VecDeque<Arc<Item>>,
    /// Changes whenever events are taken out, which invalidates older marks.
    serial: u64,
    /// Whether an append of the channel waits for its answer.
    waits: bool,
}

/// When the events of a run below `end` were confirmed.
struct Mark {
    at: Instant,
    channel: Channel,
    serial: u64,
    end: u64,
}

impl Run {
    fn first(&self) -> u64 {
        self.end - self.items.len() as u64
    }
}

impl ResendBuffer {
    pub(crate) fn new(bounds: ResendWindow) -> Self {
        Self { bounds, kept: Mutex::default() }
    }

    /// Keeps confirmed events: the producer's numbers `first`, `first + 1`, …
    pub(crate) fn keep(&self, channel: &Channel, producer: &Arc<str>, first: u64, items: &[Arc<Item>]) {
        if self.bounds.events == 0 {
            return;
        }
        let mut kept = self.kept.lock();
        let (serial, end) = kept.append(channel, producer, first, items);
        kept.marks.push_back(Mark { at: Instant::now(), channel: channel.clone(), serial, end });
        kept.prune(&self.bounds);
    }

    /// Records that an append of the channel waits for its answer, until [`ResendBuffer::keep`] or
    /// [`ResendBuffer::forget`].
    pub(crate) fn wait(&self, channel: &Channel) {
        if let Some(run) = self.kept.lock().runs.get_mut(channel) {
            run.waits = true;
        }
    }

    /// Takes out the producer's events from number `from`. Answers `(end, events)`; the first number is `end -
    /// events.len()`.
    pub(crate) fn take(&self, channel: &Channel, sequence: &Sequence, from: u64) -> Option<(u64, Vec<Arc<Item>>)> {
        let mut kept = self.kept.lock();
        let kept = &mut *kept;
        let run = kept.runs.get_mut(channel).filter(|run| run.producer == sequence.producer)?;
        let at = usize::try_from(from.saturating_sub(run.first())).unwrap_or(usize::MAX).min(run.items.len());
        let end = run.end;
        let taken: Vec<Arc<Item>> = run.items.drain(at..).collect();
        run.end -= taken.len() as u64;
        // Events that are confirmed again count as new. The remaining ones expire together with the next ones.
        kept.serial += 1;
        run.serial = kept.serial;
        kept.subtract(taken.len(), size(&taken));
        Some((end, taken))
    }

    /// Forgets the channel's events. Answers how many they were.
    pub(crate) fn forget(&self, channel: &Channel) -> u64 {
        self.kept.lock().forget(channel)
    }
}

impl BufferState {
    fn append(&mut self, channel: &Channel, producer: &Arc<str>, first: u64, items: &[Arc<Item>]) -> (u64, u64) {
        let follows = |run: &Run| run.end == first && run.producer == *producer;
        if !self.runs.get(channel).is_some_and(follows) {
            self.forget(channel);
        }
        let run = self.runs.entry(channel.clone()).or_insert_with(|| {
            self.serial += 1;
            Run { producer: producer.clone(), end: first, items: VecDeque::new(), serial: self.serial, waits: false }
        });
        run.waits = false;
        run.end += items.len() as u64;
        run.items.extend(items.iter().cloned());
        self.events += items.len();
        self.bytes += size(items);
        (run.serial, run.end)
    }

    /// Removes the oldest events until every bound holds.
    fn prune(&mut self, bounds: &ResendWindow) {
        let now = Instant::now();
        while let Some(mut mark) = self.marks.pop_front() {
            // A mark without events counts as one event, which bounds the number of marks.
            let beyond = self.events > bounds.events || self.bytes > bounds.bytes || self.marks.len() >= bounds.events;
            let old = now.duration_since(mark.at) > bounds.age;
            if !beyond && !old {
                self.marks.push_front(mark);
                return;
            }
            let run = self.runs.get(&mark.channel).filter(|run| run.serial == mark.serial);
            if !beyond && run.is_some_and(|run| run.waits) {
                mark.at = now;
                self.marks.push_back(mark);
            } else if run.is_some() {
                self.drop_below(&mark);
            }
        }
    }

    fn drop_below(&mut self, mark: &Mark) {
        let Some(run) = self.runs.get_mut(&mark.channel) else { return };
        let count = usize::try_from(mark.end.saturating_sub(run.first())).unwrap_or(usize::MAX).min(run.items.len());
        let bytes = run.items.drain(..count).map(|item| item.size()).sum();
        if run.items.is_empty() {
            self.runs.remove(&mark.channel);
        }
        self.subtract(count, bytes);
    }

    fn forget(&mut self, channel: &Channel) -> u64 {
        let Some(run) = self.runs.remove(channel) else { return 0 };
        self.subtract(run.items.len(), size(&run.items));
        run.items.len() as u64
    }

    fn subtract(&mut self, events: usize, bytes: usize) {
        self.events -= events;
        self.bytes -= bytes;
    }
}

fn size<'a>(items: impl IntoIterator<Item = &'a Arc<Item>>) -> usize {
    items.into_iter().map(|item| item.size()).sum()
}

#[cfg(test)]
mod tests;
