//! The background task: takes batches from the queue and works on each until it is settled.

use std::sync::Arc;

use crewcast_events::Channel;
use crewcast_store::{Append, AppendError, Backoff, Once, Transport};
use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::{
    channel_queue::{Item, Message, Sequence},
    counters::{Counters, Reason},
    ownerships::Directory,
    priority::Priority,
    queue::{Batch, Queue},
    resend_buffer::ResendBuffer,
    spool::{self, Place, SpooledEvent},
};

/// Most channels that are sent to at the same time.
const MAX_CONCURRENT: usize = 64;

pub(crate) struct Worker {
    pub(crate) queue: Arc<Queue>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) resend_buffer: ResendBuffer,
    pub(crate) directory: Directory,
}

/// What is done with an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Append,
    PublishLive,
    NotOurs,
    /// Its record on disk can no longer be read.
    Unreadable,
}

impl Worker {
    /// Runs until it is aborted.
    pub(crate) async fn run(self) {
        let mut out = FuturesUnordered::new();
        loop {
            while out.len() < MAX_CONCURRENT
                && let Some(batch) = self.queue.take()
            {
                out.push(self.deliver(batch));
            }
            tokio::select! {
                Some(()) = out.next(), if !out.is_empty() => {}
                () = self.queue.work() => {}
            }
        }
    }

    async fn deliver(&self, batch: Batch) {
        let Batch { channel, items, places, mut sequence } = batch;
        let replayed = !places.is_empty();
        let items = if replayed { self.load(places).await } else { items.into_iter().map(Some).collect() };
        let mut steps = Vec::with_capacity(items.len());
        for item in items {
            let step = match &item {
                Some(item) => self.step(item).await,
                None => Step::Unreadable,
            };
            steps.push((step, item));
        }
        for run in steps.chunk_by(|a, b| a.0 == b.0) {
            let (reason, why) = match run[0].0 {
                Step::Append => {
                    self.append(&channel, run, &mut sequence).await;
                    continue;
                }
                Step::PublishLive => {
                    self.publish_live(&channel, run, &sequence).await;
                    continue;
                }
                Step::NotOurs => (Reason::NotOwner, "its crew or run belongs to another org"),
                Step::Unreadable => (Reason::SpoolDamaged, "it can no longer be read from the spool"),
            };
            self.counters.dropped(reason, run.len() as u64, &format!("{channel}: {why}"));
            if replayed {
                // A former process may have sent it: its number must not name the next event.
                sequence = Sequence::fresh();
            }
            self.queue.settle(&channel, run.len(), &sequence);
        }
        self.queue.release(&channel);
    }

    /// Reads a batch from disk, on a thread that may block.
    async fn load(&self, places: Vec<Place>) -> Vec<Option<Arc<Item>>> {
        let item = |SpooledEvent { ordinal, entry, ownerships }| {
            let (message, priority) = (Message::Logged(entry), Priority::Other);
            Arc::new(Item { message, ownerships, priority, subject: None, order: 0, ordinal })
        };
        let mut backoff = Backoff::default();
        loop {
            let (directory, places) = (self.queue.spool_directory(), places.clone());
            let read = tokio::task::spawn_blocking(move || {
                let directory = directory.ok_or(std::io::ErrorKind::NotFound)?;
                spool::read(&directory, &places)
            });
            match read.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
                Ok(events) => return events.into_iter().map(|event| event.map(item)).collect(),
                Err(error) => self.counters.spool_failed(&format!("it cannot be read: {error}")),
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    async fn step(&self, item: &Item) -> Step {
        let ownerships = item.ownerships.as_deref().unwrap_or_default();
        if !self.directory.ours(ownerships, &*self.transport, &self.counters).await {
            return Step::NotOurs;
        }
        match item.message {
            Message::Logged(_) => Step::Append,
            Message::Live(_) => Step::PublishLive,
        }
    }

    async fn publish_live(&self, channel: &Channel, run: &[(Step, Option<Arc<Item>>)], sequence: &Sequence) {
        for (_, item) in run {
            if let Some(Message::Live(message)) = item.as_deref().map(|item| &item.message) {
                match self.transport.publish_live(channel, message.clone()).await {
                    Ok(()) => self.counters.published(1),
                    Err(AppendError::Unavailable(why)) => self.counters.dropped(Reason::Live, 1, &why),
                    Err(error) => self.counters.dropped(Reason::Refused, 1, &error.to_string()),
                }
            }
            self.queue.settle(channel, 1, sequence);
        }
    }

    async fn append(&self, channel: &Channel, run: &[(Step, Option<Arc<Item>>)], sequence: &mut Sequence) {
        let items: Vec<Arc<Item>> = run.iter().filter_map(|(_, item)| item.clone()).collect();
        let Err(why) = self.insist(channel, &items, sequence).await else {
            self.queue.settle(channel, run.len(), sequence);
            return;
        };
        if run.len() == 1 {
            self.refused(channel, &why, sequence);
            return;
        }
        // One event may make Redis refuse the batch, so each is sent on its own. The numbers continue, so an event that
        // was accepted is recognised. After a refused event the publisher continues as a new producer, since the log
        // may have counted it.
        for item in items {
            match self.insist(channel, &[item], sequence).await {
                Ok(()) => self.queue.settle(channel, 1, sequence),
                Err(why) => self.refused(channel, &why, sequence),
            }
        }
    }

    fn refused(&self, channel: &Channel, why: &str, sequence: &mut Sequence) {
        self.counters.dropped(Reason::Refused, 1, &format!("{channel}: {why}"));
        *sequence = Sequence::fresh();
        self.resend_buffer.forget(channel);
        self.queue.settle(channel, 1, sequence);
    }

    /// Retries exactly the same append until it is confirmed or refused.
    ///
    /// A gap below our first number says that this server lacks confirmed events: those go first ([`Worker::resend`]).
    /// Neither this nor continuing as a new producer duplicates events of an earlier attempt. Log, head and the
    /// producer's number are written by one script, and are replicated, persisted and lost together, in order. So
    /// - a replica that has the batch also has its number, and answers its ids instead of a gap;
    /// - a replica without its number does not have the batch in the log either, however many earlier events it lacks.
    ///   The old master, which may have the batch, drops it when it follows the new master;
    /// - a late attempt under the old name (from a frozen server) finds the same gap: nothing raises that producer's
    ///   number any more.
    ///
    /// This holds for gaps that come from servers that accept writes. A lagging replica must refuse instead: it may
    /// still receive the batch and be promoted.
    ///
    /// One case remains: the producer's key is gone while the log still exists. The key expires a day (or the log's
    /// age, if longer) after the producer's last append, and may be evicted when `maxmemory-policy` is not
    /// `noeviction`. A batch whose answer was lost and that is retried only after that is duplicated.
    ///
    /// A gap at or above our first number contradicts itself. Treating it as a loss could duplicate events, so it
    /// counts as an answer that is not understood.
    async fn insist(&self, channel: &Channel, items: &[Arc<Item>], sequence: &mut Sequence) -> Result<(), String> {
        let mut append = append_of(channel, items, sequence.once());
        let mut backoff = Backoff::default();
        loop {
            self.resend_buffer.wait(channel);
            let error = match self.transport.append(&append).await {
                Ok(_) => {
                    self.resend_buffer.keep(channel, &sequence.producer, sequence.next, items);
                    sequence.confirm(items.len() as u64);
                    self.counters.published(items.len() as u64);
                    return Ok(());
                }
                Err(error) => error,
            };
            if let AppendError::Refused(why) = error {
                return Err(why);
            }
            self.counters.retried(&error.to_string());
            match error {
                AppendError::Gap { expected } if expected < sequence.next => {
                    self.resend(channel, expected, sequence).await;
                    append.once = sequence.once();
                    // Written to disk before sending, so that a restart retries under this name.
                    self.queue.settle(channel, 0, sequence);
                }
                _ => tokio::time::sleep(backoff.pause()).await,
            }
        }
    }
}

/// An append of logged events of one channel.
pub(crate) fn append_of(channel: &Channel, items: &[Arc<Item>], once: Once) -> Append {
    Append { channel: channel.clone(), entries: items.iter().filter_map(|item| item.entry()).cloned().collect(), once }
}
