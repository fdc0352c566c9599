//! What a failover has lost of the confirmed events is sent again: under the same names and numbers, with the same
//! random halves, before what is new. Where nobody else has written meanwhile, the ids are the lost ones, and history is
//! as if nothing had happened.

use std::{collections::VecDeque, sync::Arc};

use crewcast_events::Channel;
use crewcast_store::{AppendError, Backoff, MAX_ENTRIES, Once};

use crate::{
    lane::{Item, MAX_BATCH_BYTES, Sequence},
    tally::{Reason, Tally},
    worker::{Worker, append_of},
};

/// Events that the log has lost and does not have again yet.
struct Missing<'a> {
    channel: &'a Channel,
    tally: &'a Tally,
    items: VecDeque<Arc<Item>>,
    /// The number of the first of them, or, where there is none, of what comes behind them.
    next: u64,
    /// They go on as a new producer's, and what comes behind them has the numbers behind theirs.
    renumbered: bool,
    /// So many of them go each on its own: one of them was refused.
    singly: usize,
}

impl Worker {
    /// The log expects number `expected` of the producer, below the sequence's next: sends again what it lacks, as far
    /// as it is kept, until it is confirmed. The sequence then says under which name and number the next event goes.
    ///
    /// It was ours to send when it was confirmed: claims are not asked for again. Live messages have no numbers and are
    /// never sent again. State documents are set again in order, so that the last one stands in the end.
    pub(crate) async fn heal(&self, channel: &Channel, expected: u64, sequence: &mut Sequence) {
        let (tally, next) = (&*self.tally, sequence.next);
        let mut missing = Missing { channel, tally, items: VecDeque::new(), next, renumbered: false, singly: 0 };
        self.reach_back(expected, &mut missing, sequence);
        let mut backoff = Backoff::default();
        while !missing.items.is_empty() {
            self.window.wait(channel);
            let batch = missing.batch();
            let once = Once::Sequence { producer: sequence.producer.clone(), first: missing.next };
            let error = match self.transport.append(&append_of(channel, &batch, once)).await {
                Ok(_) => {
                    self.window.keep(channel, &sequence.producer, missing.next, &batch);
                    missing.sent(batch.len(), sequence);
                    backoff = Backoff::default();
                    continue;
                }
                Err(AppendError::Refused(why)) => {
                    missing.refused(batch.len(), &why, sequence);
                    continue;
                }
                Err(error) => error,
            };
            tally.retried(&error.to_string());
            match error {
                AppendError::Gap { expected } if expected < missing.next => {
                    self.reach_back(expected, &mut missing, sequence);
                }
                _ => tokio::time::sleep(backoff.pause()).await,
            }
        }
    }

    /// Puts what is kept from number `expected` on before what is missing already. Where that does not reach back far
    /// enough, the rest is lost, and all that is missing goes on as a new producer's.
    ///
    /// A log that expects number 1 knows nothing of the producer. It was flushed, which somebody wanted, or has forgotten
    /// the producer alone, and what it has of him would be doubled: nothing is sent again.
    fn reach_back(&self, expected: u64, missing: &mut Missing<'_>, sequence: &mut Sequence) {
        let (mut first, mut kept, mut lost) = (missing.next, Vec::new(), 0);
        if expected <= 1 {
            lost = self.window.forget(missing.channel);
        } else {
            if let Some((end, taken)) = self.window.take(missing.channel, sequence, expected)
                && !taken.is_empty()
            {
                first = end - taken.len() as u64;
                kept = taken;
            }
            let confirmed = &sequence.confirmed;
            lost += first.min(confirmed.end).saturating_sub(expected.max(confirmed.start));
        }
        if first > expected || kept.is_empty() {
            missing.renumber(sequence);
        } else {
            missing.next = expected;
        }
        kept.into_iter().rev().for_each(|item| missing.items.push_front(item));
        let why = format!("{}: confirmed, lost by Redis, and not kept to be sent again", missing.channel);
        self.tally.dropped(Reason::LostByRedis, lost, &why);
    }
}

impl Missing<'_> {
    /// What is sent next, bounded as every batch is.
    fn batch(&self) -> Vec<Arc<Item>> {
        let most = if self.singly > 0 { 1 } else { MAX_ENTRIES };
        let (mut bytes, mut batch) = (0, Vec::new());
        for item in self.items.iter().take(most) {
            bytes += item.size();
            if !batch.is_empty() && bytes > MAX_BATCH_BYTES {
                break;
            }
            batch.push(item.clone());
        }
        batch
    }

    fn sent(&mut self, count: usize, sequence: &mut Sequence) {
        self.items.drain(..count);
        self.singly = self.singly.saturating_sub(count);
        self.next += count as u64;
        if self.renumbered {
            // A second failover may have lost some that were counted before.
            sequence.confirm(self.next.saturating_sub(sequence.next));
        }
        self.tally.resent(count as u64);
    }

    /// One event may spoil the batch: each on its own. Behind the one that is refused it is a new producer, as always.
    fn refused(&mut self, count: usize, why: &str, sequence: &mut Sequence) {
        if count > 1 {
            self.singly = count;
            return;
        }
        self.items.pop_front();
        self.singly = self.singly.saturating_sub(1);
        self.renumber(sequence);
        self.tally.dropped(Reason::Refused, 1, &format!("{}: {why}", self.channel));
    }

    fn renumber(&mut self, sequence: &mut Sequence) {
        *sequence = Sequence::fresh();
        self.next = 1;
        self.renumbered = true;
    }
}

/// The publisher is closed before all is sent again.
impl Drop for Missing<'_> {
    fn drop(&mut self) {
        let why =
            format!("{}: confirmed, lost by Redis, and the publisher ended before it was sent again", self.channel);
        self.tally.dropped(Reason::LostByRedis, self.items.len() as u64, &why);
    }
}
