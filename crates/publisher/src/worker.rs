//! The background task: takes batches from the queue and stays with each until it is settled.

use std::sync::Arc;

use crewcast_events::Channel;
use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::{
    append::{Append, AppendError, Entry, Transport},
    backoff::Backoff,
    claims::Directory,
    queue::{Batch, Item, Message, Queue, Sequence},
    tally::{Reason, Tally},
};

/// How many channels are sent to at the same time.
const MAX_CONCURRENT: usize = 64;

pub(crate) struct Worker {
    pub(crate) queue: Arc<Queue>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) directory: Directory,
}

/// What is done with an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Append,
    PublishLive,
    NotOurs,
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
        let Batch { channel, items, mut sequence } = batch;
        let mut steps = Vec::with_capacity(items.len());
        for item in items {
            steps.push((self.step(&item).await, item));
        }
        for run in steps.chunk_by(|a, b| a.0 == b.0) {
            match run[0].0 {
                Step::Append => self.append(&channel, run, &mut sequence).await,
                Step::PublishLive => self.publish_live(&channel, run).await,
                Step::NotOurs => {
                    let why = format!("{channel}: its crew or run belongs to another org");
                    self.tally.dropped(Reason::NotOwner, run.len() as u64, &why);
                    self.queue.settle(&channel, run.len());
                }
            }
        }
        self.queue.release(&channel, sequence);
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

    async fn publish_live(&self, channel: &Channel, run: &[(Step, Arc<Item>)]) {
        for (_, item) in run {
            if let Message::Live(message) = &item.message {
                match self.transport.publish_live(channel, message.clone()).await {
                    Ok(()) => self.tally.published(1),
                    Err(AppendError::Unavailable(why)) => self.tally.dropped(Reason::Live, 1, &why),
                    Err(error) => self.tally.dropped(Reason::Refused, 1, &error.to_string()),
                }
            }
            self.queue.settle(channel, 1);
        }
    }

    async fn append(&self, channel: &Channel, run: &[(Step, Arc<Item>)], sequence: &mut Sequence) {
        let entries: Vec<Entry> = run.iter().filter_map(|(_, item)| logged(item)).collect();
        let mut append = Append { channel: channel.clone(), entries, once: sequence.once() };
        let Err(why) = self.insist(&mut append, sequence).await else {
            self.queue.settle(channel, run.len());
            return;
        };
        if run.len() == 1 {
            self.refused(channel, &why);
            *sequence = Sequence::fresh();
            return;
        }
        // One event may spoil the batch: each on its own. The numbers go on, so that what was accepted after
        // all is recognised; behind a refusal it is a new producer's, since the log may have counted it.
        for entry in append.entries {
            let mut single = Append { channel: channel.clone(), entries: vec![entry], once: sequence.once() };
            match self.insist(&mut single, sequence).await {
                Ok(()) => self.queue.settle(channel, 1),
                Err(why) => {
                    self.refused(channel, &why);
                    *sequence = Sequence::fresh();
                }
            }
        }
    }

    fn refused(&self, channel: &Channel, why: &str) {
        self.tally.dropped(Reason::Refused, 1, &format!("{channel}: {why}"));
        self.queue.settle(channel, 1);
    }

    /// Repeats exactly the same append until it is confirmed or refused.
    async fn insist(&self, append: &mut Append, sequence: &mut Sequence) -> Result<(), String> {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.transport.append(append).await {
                Ok(_) => {
                    sequence.next += append.entries.len() as u64;
                    self.tally.published(append.entries.len() as u64);
                    return Ok(());
                }
                Err(error) => error,
            };
            match &error {
                AppendError::Refused(why) => return Err(why.clone()),
                AppendError::Unavailable(_) => {}
                AppendError::Gap { .. } => {
                    // The log has lost what it had confirmed, and this batch with it if it ever had it.
                    *sequence = Sequence::fresh();
                    append.once = sequence.once();
                }
            }
            self.tally.retried(&error.to_string());
            tokio::time::sleep(backoff.pause()).await;
        }
    }
}

fn logged(item: &Item) -> Option<Entry> {
    match &item.message {
        Message::Logged(entry) => Some(entry.clone()),
        Message::Live(_) => None,
    }
}
