//! What was confirmed in the last seconds. A server confirms before its replicas have an event: when one of them takes
//! its place without, nobody but the publisher has the event still, and sends it again (`heal.rs`).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crewcast_events::Channel;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::lane::{Item, Sequence};

/// How much of what was confirmed a publisher keeps, over all channels, so that it can send again what a failover has
/// lost. The oldest go first. Apart from the queue: nothing gives way for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResendWindow {
    /// How long an event is kept. What is older leaves when another one is confirmed. Does not count while something of
    /// the same channel waits for an answer: a failover may take longer than this. Default 15 s.
    pub age: Duration,
    /// Most events. 0: none is kept, and none sent again. Default 50,000.
    pub events: usize,
    /// Most bytes, some overhead per event included. Default 16 MiB.
    pub bytes: usize,
}

impl ResendWindow {
    /// Nothing is kept, nothing is sent again.
    pub const NONE: Self = Self { age: Duration::ZERO, events: 0, bytes: 0 };
}

impl Default for ResendWindow {
    fn default() -> Self {
        Self { age: Duration::from_secs(15), events: 50_000, bytes: 16 << 20 }
    }
}

pub(crate) struct Window {
    bounds: ResendWindow,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    runs: HashMap<Channel, Run>,
    /// The oldest first.
    marks: VecDeque<Mark>,
    events: usize,
    bytes: usize,
    serial: u64,
}

/// A producer's latest events in a channel, without a hole.
struct Run {
    producer: Arc<str>,
    /// The number behind the last.
    end: u64,
    items: VecDeque<Arc<Item>>,
    /// Another one whenever some of it is taken, so that marks of what it was no longer count.
    serial: u64,
    /// An append of the channel waits for its answer.
    waits: bool,
}

/// When the events of a run below a number were confirmed.
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

impl Window {
    pub(crate) fn new(bounds: ResendWindow) -> Self {
        Self { bounds, kept: Mutex::default() }
    }

    /// Keeps what was confirmed: the producer's events `first`, `first + 1`, …
    pub(crate) fn keep(&self, channel: &Channel, producer: &Arc<str>, first: u64, items: &[Arc<Item>]) {
        if self.bounds.events == 0 {
            return;
        }
        let mut kept = self.kept.lock();
        let (serial, end) = kept.append(channel, producer, first, items);
        kept.marks.push_back(Mark { at: Instant::now(), channel: channel.clone(), serial, end });
        kept.prune(&self.bounds);
    }

    /// An append of the channel waits for its answer, until [`Window::keep`] or [`Window::forget`].
    pub(crate) fn wait(&self, channel: &Channel) {
        if let Some(run) = self.kept.lock().runs.get_mut(channel) {
            run.waits = true;
        }
    }

    /// Takes out what is kept of the producer's events from number `from` on. Their first number is the end's less how
    /// many they are: `(end, events)`.
    pub(crate) fn take(&self, channel: &Channel, sequence: &Sequence, from: u64) -> Option<(u64, Vec<Arc<Item>>)> {
        let mut kept = self.kept.lock();
        let kept = &mut *kept;
        let run = kept.runs.get_mut(channel).filter(|run| run.producer == sequence.producer)?;
        let at = usize::try_from(from.saturating_sub(run.first())).unwrap_or(usize::MAX).min(run.items.len());
        let end = run.end;
        let taken: Vec<Arc<Item>> = run.items.drain(at..).collect();
        run.end -= taken.len() as u64;
        // What is confirmed again is young again. What stays goes with what comes behind it.
        kept.serial += 1;
        run.serial = kept.serial;
        kept.subtract(taken.len(), size(&taken));
        Some((end, taken))
    }

    /// Forgets the channel's events; how many they were.
    pub(crate) fn forget(&self, channel: &Channel) -> u64 {
        self.kept.lock().forget(channel)
    }
}

impl Kept {
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

    /// Lets the oldest go until every bound holds.
    fn prune(&mut self, bounds: &ResendWindow) {
        let now = Instant::now();
        while let Some(mut mark) = self.marks.pop_front() {
            // A mark whose events are gone already counts as one, so that they are bounded themselves.
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
#[path = "window_tests.rs"]
mod tests;
