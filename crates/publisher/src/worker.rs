//! The background task: takes batches from the queue and stays with each until it is settled.

use std::sync::Arc;

use crewcast_events::Channel;
use crewcast_store::{Append, AppendError, Backoff, Once, Transport};
use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::{
    claims::Directory,
    lane::{Item, Message, Sequence},
    queue::{Batch, Queue},
    rank::Rank,
    spool::{self, Kept, Place},
    tally::{Reason, Tally},
    window::Window,
};

/// How many channels are sent to at the same time.
const MAX_CONCURRENT: usize = 64;

pub(crate) struct Worker {
    pub(crate) queue: Arc<Queue>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) window: Window,
    pub(crate) directory: Directory,
}

/// What is done with an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Append,
    PublishLive,
    NotOurs,
    /// It was on disk and cannot be read any more.
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
                Step::Unreadable => (Reason::SpoolDamaged, "it cannot be read from the spool any more"),
            };
            self.tally.dropped(reason, run.len() as u64, &format!("{channel}: {why}"));
            if replayed {
                // A former process may have sent it: its number must not stand for the next one.
                sequence = Sequence::fresh();
            }
            self.queue.settle(&channel, run.len(), &sequence);
        }
        self.queue.release(&channel);
    }

    /// Reads a batch from disk, on a thread that may wait for it.
    async fn load(&self, places: Vec<Place>) -> Vec<Option<Arc<Item>>> {
        let item = |Kept { ordinal, entry, claims }| {
            Arc::new(Item { message: Message::Logged(entry), claims, rank: Rank::Other, order: 0, ordinal })
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
                Err(error) => self.tally.spool_failed(&format!("it cannot be read: {error}")),
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    async fn step(&self, item: &Item) -> Step {
        let claims = item.claims.as_deref().unwrap_or_default();
        if !self.directory.ours(claims, &*self.transport, &self.tally).await {
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
                    Ok(()) => self.tally.published(1),
                    Err(AppendError::Unavailable(why)) => self.tally.dropped(Reason::Live, 1, &why),
                    Err(error) => self.tally.dropped(Reason::Refused, 1, &error.to_string()),
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
        // One event may spoil the batch: each on its own. The numbers go on, so that what was accepted after
        // all is recognised; behind a refusal it is a new producer's, since the log may have counted it.
        for item in items {
            match self.insist(channel, &[item], sequence).await {
                Ok(()) => self.queue.settle(channel, 1, sequence),
                Err(why) => self.refused(channel, &why, sequence),
            }
        }
    }

    fn refused(&self, channel: &Channel, why: &str, sequence: &mut Sequence) {
        self.tally.dropped(Reason::Refused, 1, &format!("{channel}: {why}"));
        *sequence = Sequence::fresh();
        self.window.forget(channel);
        self.queue.settle(channel, 1, sequence);
    }

    /// Repeats exactly the same append until it is confirmed or refused.
    ///
    /// A gap below our first number says that this server lacks what had been confirmed: that goes first ([`Worker::heal`]).
    /// Neither that nor going on as a new producer doubles anything that an earlier attempt may have appended: log, head and the producer's number are written by
    /// one script and replicated, persisted and lost together, in order. So
    /// - a replica that has the batch has its number too, and answers its ids instead of a gap;
    /// - one without the batch has it neither in the log, however much of what came before it lacks as well; the old
    ///   master, which may have it, gives it up when it follows the new one;
    /// - a late attempt under the old name (a server that was frozen) finds the gap as we did: nothing raises that
    ///   producer's number any more.
    ///
    /// This holds for gaps of servers that take writes. A replica that lags must refuse, since it may still get the batch
    /// and be promoted.
    ///
    /// What is left: a producer's key that is gone while the log stands. It expires a day (or the log's age, if that is
    /// longer) after the producer's last append, and may be evicted where `maxmemory-policy` is not `noeviction`. A batch
    /// whose answer was lost, and that is repeated only after that, is doubled.
    ///
    /// A gap at our first number or above it contradicts itself; taking it for a loss could double, so it is an answer
    /// that is not understood.
    async fn insist(&self, channel: &Channel, items: &[Arc<Item>], sequence: &mut Sequence) -> Result<(), String> {
        let mut append = append_of(channel, items, sequence.once());
        let mut backoff = Backoff::default();
        loop {
            self.window.wait(channel);
            let error = match self.transport.append(&append).await {
                Ok(_) => {
                    self.window.keep(channel, &sequence.producer, sequence.next, items);
                    sequence.confirm(items.len() as u64);
                    self.tally.published(items.len() as u64);
                    return Ok(());
                }
                Err(error) => error,
            };
            if let AppendError::Refused(why) = error {
                return Err(why);
            }
            self.tally.retried(&error.to_string());
            match error {
                AppendError::Gap { expected } if expected < sequence.next => {
                    self.heal(channel, expected, sequence).await;
                    append.once = sequence.once();
                    // On disk before it is sent, so that a restart repeats it under this name.
                    self.queue.settle(channel, 0, sequence);
                }
                _ => tokio::time::sleep(backoff.pause()).await,
            }
        }
    }
}

/// Logged events of one channel, to enter its log together.
pub(crate) fn append_of(channel: &Channel, items: &[Arc<Item>], once: Once) -> Append {
    Append { channel: channel.clone(), entries: items.iter().filter_map(|item| item.entry()).cloned().collect(), once }
}
