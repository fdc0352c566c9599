//! Sends confirmed events again that a failover has lost: under the same names and numbers, with the same random
//! halves, and before new events. When no other producer has written meanwhile, they get the lost ids again, and
//! readers see the same history.

use std::{collections::VecDeque, sync::Arc};

use crewcast_events::Channel;
use crewcast_store::{AppendError, Backoff, MAX_ENTRIES, Once};

use crate::{
    channel_queue::{Item, MAX_BATCH_BYTES, Sequence},
    counters::{Counters, Reason},
    worker::{Worker, append_of},
};

/// Events that the log has lost and that are not sent again yet.
struct Missing<'a> {
    channel: &'a Channel,
    counters: &'a Counters,
    items: VecDeque<Arc<Item>>,
    /// The number of the first of them; without any, the number of the next new event.
    next: u64,
    /// They are sent as a new producer's events. New events follow with the next numbers.
    renumbered: bool,
    /// How many of them are sent one by one, because a batch was refused.
    singly: usize,
}

impl Worker {
    /// The log expects number `expected` of the producer, below the sequence's next. Sends the missing events that are
    /// kept until they are confirmed. Afterwards the sequence has the name and number of the next event.
    ///
    /// Ownership is not checked again: it held when the events were confirmed. Live messages have no numbers and are
    /// never sent again. State documents are set again in order, so the last one remains.
    pub(crate) async fn resend(&self, channel: &Channel, expected: u64, sequence: &mut Sequence) {
        let (counters, next) = (&*self.counters, sequence.next);
        let mut missing = Missing { channel, counters, items: VecDeque::new(), next, renumbered: false, singly: 0 };
        self.reach_back(expected, &mut missing, sequence);
        let mut backoff = Backoff::default();
        while !missing.items.is_empty() {
            self.resend_buffer.wait(channel);
            let batch = missing.batch();
            let once = Once::Sequence { producer: sequence.producer.clone(), first: missing.next };
            let error = match self.transport.append(&append_of(channel, &batch, once)).await {
                Ok(_) => {
                    self.resend_buffer.keep(channel, &sequence.producer, missing.next, &batch);
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
            counters.retried(&error.to_string());
            match error {
                AppendError::Gap { expected } if expected < missing.next => {
                    self.reach_back(expected, &mut missing, sequence);
                }
                _ => tokio::time::sleep(backoff.pause()).await,
            }
        }
    }

    /// Puts the kept events from number `expected` before the missing ones. When they do not reach back far enough, the
    /// rest is lost, and all missing events are sent as a new producer's.
    ///
    /// A log that expects number 1 has no record of the producer. Either it was flushed on purpose, or only the record
    /// expired, and its events would be duplicated. So nothing is sent again.
    fn reach_back(&self, expected: u64, missing: &mut Missing<'_>, sequence: &mut Sequence) {
        let (mut first, mut kept, mut lost) = (missing.next, Vec::new(), 0);
        if expected <= 1 {
            lost = self.resend_buffer.forget(missing.channel);
        } else {
            if let Some((end, taken)) = self.resend_buffer.take(missing.channel, sequence, expected)
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
        let why = format!("{}: confirmed, lost by Redis, and no longer kept", missing.channel);
        self.counters.dropped(Reason::LostByRedis, lost, &why);
    }
}

impl Missing<'_> {
    /// The next batch, with the bounds of every batch.
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
            // A second failover may have lost events that were counted before.
            sequence.confirm(self.next.saturating_sub(sequence.next));
        }
        self.counters.resent(count as u64);
    }

    /// One event may make Redis refuse the batch, so each is sent on its own. After the refused event the publisher
    /// continues as a new producer.
    fn refused(&mut self, count: usize, why: &str, sequence: &mut Sequence) {
        if count > 1 {
            self.singly = count;
            return;
        }
        self.items.pop_front();
        self.singly = self.singly.saturating_sub(1);
        self.renumber(sequence);
        self.counters.dropped(Reason::Refused, 1, &format!("{}: {why}", self.channel));
    }

    fn renumber(&mut self, sequence: &mut Sequence) {
        *sequence = Sequence::fresh();
        self.next = 1;
        self.renumbered = true;
    }
}

/// Counts what is still missing when the publisher is closed.
impl Drop for Missing<'_> {
    fn drop(&mut self) {
        let why =
            format!("{}: confirmed, lost by Redis, and the publisher ended before sending it again", self.channel);
        self.counters.dropped(Reason::LostByRedis, self.items.len() as u64, &why);
    }
}
