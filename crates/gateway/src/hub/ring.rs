//! The recent entries of one channel, bounded in number and bytes.

use std::{collections::VecDeque, sync::Arc};

use crewcast_events::EventId;

use super::{Budget, Entry, Item};

/// Entries that a ring keeps even if all rings together are over the budget: a channel that is read must not lose the
/// events of one burst. Quiet rings are trimmed instead (`relay/head_check.rs`).
const FLOOR: usize = 16;

/// Entries by sequence number. Sequence numbers count every entry of this replica's channel, marks included, and are
/// unrelated to offsets. Prepended entries have negative numbers.
pub(crate) struct Ring {
    entries: VecDeque<Arc<Entry>>,
    /// The sequence number of the oldest entry, or of the next one if the ring is empty.
    first: i64,
    /// Nothing has left the ring: it begins where the log behind it ends.
    is_whole: bool,
    bytes: usize,
    /// Live events that have left the ring.
    live_evicted: u64,
    /// Live events that ever entered it.
    live_total: u64,
    /// The channel's position before the oldest entry.
    position_before: Option<EventId>,
    budget: Arc<Budget>,
}

impl Ring {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            is_whole: true,
            bytes: 0,
            live_evicted: 0,
            live_total: 0,
            position_before: None,
            budget,
        }
    }

    /// Sets the channel's position before anything enters the ring.
    pub(crate) fn start_at(&mut self, position: Option<EventId>) {
        debug_assert!(self.entries.is_empty());
        self.position_before = position;
    }

    pub(crate) fn push(&mut self, entry: Arc<Entry>) {
        self.live_total += u64::from(entry.is_live());
        self.bytes += entry.weight();
        self.budget.take(entry.weight());
        self.entries.push_back(entry);
        // The newest entry always stays: an event larger than the ring must still reach its readers.
        while self.is_over() && self.evict(1) {}
    }

    /// Prepends log entries, oldest first; `before` is the id before the first of them, if known.
    ///
    /// Takes the entries that lead up to the ring's beginning without a hole, as long as they fit. Past entries never
    /// evict others, and all past entries together leave half of the memory to new ones.
    pub(crate) fn prepend(&mut self, before: Option<EventId>, entries: &[Arc<Entry>]) {
        let begin = self.position_before;
        let leads_here = |entry: &Arc<Entry>| begin.is_some() && entry.id() == begin;
        let Some(last) = entries.iter().rposition(leads_here).filter(|_| self.is_whole) else { return };
        for index in (0..=last).rev() {
            let entry = &entries[index];
            let before = index.checked_sub(1).map_or(before, |index| entries[index].id());
            if !entry.id().is_some_and(|id| id.continues(before)) || !self.has_room_for_past(entry) {
                return;
            }
            self.first -= 1;
            self.bytes += entry.weight();
            self.budget.take(entry.weight());
            self.position_before = before;
            self.entries.push_front(entry.clone());
        }
    }

    fn has_room_for_past(&self, entry: &Entry) -> bool {
        let limits = &self.budget.limits;
        self.entries.len() < limits.events
            && self.bytes + entry.weight() <= limits.bytes
            && self.budget.held() + entry.weight() <= limits.total_bytes / 2
    }

    fn is_over(&self) -> bool {
        let limits = &self.budget.limits;
        self.entries.len() > limits.events
            || self.bytes > limits.bytes
            || (self.entries.len() > FLOOR && self.budget.is_exceeded())
    }

    /// Evicts the oldest entries until `entries` are left, or only an inseparable pair.
    pub(crate) fn trim_to(&mut self, entries: usize) {
        self.is_whole = false;
        while self.entries.len() > entries && self.evict(entries.min(1)) {}
        self.entries.shrink_to(entries);
    }

    /// Evicts the oldest entry, unless fewer than `least` would be left.
    ///
    /// A reset is evicted together with the event that it announces. The position between them looks like a channel's
    /// beginning: a reader that began there without the mark would take what follows for the whole history.
    fn evict(&mut self, least: usize) -> bool {
        let announces = |entry: &Arc<Entry>| matches!(entry.item(), Item::Reset { from: Some(_), .. });
        let together = if self.entries.front().is_some_and(announces) { 2 } else { 1 };
        if self.entries.is_empty() || self.entries.len() < together + least {
            return false;
        }
        for entry in self.entries.drain(..together) {
            self.first += 1;
            self.is_whole = false;
            self.bytes -= entry.weight();
            self.budget.give_back(entry.weight());
            self.live_evicted += u64::from(entry.is_live());
            self.position_before = entry.position();
        }
        true
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn first(&self) -> i64 {
        self.first
    }

    pub(crate) fn next(&self) -> i64 {
        self.first + self.entries.len() as i64
    }

    pub(crate) fn get(&self, sequence: i64) -> Option<&Arc<Entry>> {
        self.entries.get(usize::try_from(sequence - self.first).ok()?)
    }

    /// The channel's position right before the entry `sequence` (which may be the next one).
    pub(crate) fn position_before(&self, sequence: i64) -> Option<EventId> {
        match usize::try_from(sequence - self.first - 1) {
            Ok(index) => self.entries.get(index).and_then(|entry| entry.position()),
            Err(_) => self.position_before,
        }
    }

    /// Live events before the entry `sequence`, since the ring began. Linear: only for readers that fell off.
    pub(crate) fn live_before(&self, sequence: i64) -> u64 {
        let held = usize::try_from(sequence - self.first).unwrap_or(0);
        self.live_evicted + self.entries.iter().take(held).filter(|entry| entry.is_live()).count() as u64
    }

    pub(crate) fn live_total(&self) -> u64 {
        self.live_total
    }

    /// Where a reader that has seen everything up to `id` continues: behind its entry, or at the entry that continues
    /// it.
    pub(crate) fn sequence_after(&self, id: EventId) -> Option<i64> {
        let newest_first = self.entries.iter().enumerate().rev();
        for (index, entry) in newest_first {
            match entry.id() {
                Some(held) if held == id => return Some(self.first + index as i64 + 1),
                Some(held) if held.continues(Some(id)) => return Some(self.first + index as i64),
                _ => {}
            }
        }
        None
    }

    /// Whether the ring holds a logged event with this very id.
    pub(crate) fn holds(&self, id: EventId) -> bool {
        self.entries.iter().rev().any(|entry| entry.id() == Some(id))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}
