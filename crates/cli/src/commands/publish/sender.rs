//! Publishes events to one channel, and retries unanswered ones.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Body, Channel, Event};
use crewcast_publisher::{Append, AppendError, Entry, LeaseStep, State, Transport};
use tokio::time::{Instant, sleep};

use crate::error::CliError;

/// How long an unanswered event is retried.
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(2);
/// The `sub` that scopes idempotency keys when events go to Redis without a token.
const SUB: &str = "cli";

/// How a repeated event is recognised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Dedup {
    /// Not at all: the event is live.
    Live,
    /// By a sequence number of this sender.
    Sequence,
    /// By an idempotency key of the caller.
    Key(String),
}

/// Publishes to one channel.
pub(super) struct Sender {
    transport: Arc<dyn Transport>,
    channel: Channel,
    dedup: Dedup,
    lease: Option<LeaseStep>,
    producer: Arc<str>,
    next: u64,
}

impl Sender {
    /// Creates a sender with a new producer name.
    pub(super) fn new(transport: Arc<dyn Transport>, channel: Channel, dedup: Dedup) -> Self {
        Self { transport, channel, dedup, lease: None, producer: new_name(), next: 1 }
    }

    /// Makes, renews or ends this lease with every event.
    pub(super) fn with_lease(mut self, lease: Option<LeaseStep>) -> Self {
        self.lease = lease;
        self
    }

    /// Publishes one event and returns its id, or `None` for a live event. `line` is its line in the input.
    ///
    /// # Errors
    /// [`CliError::Failed`] when the event is invalid or refused, `Unreachable` when there was no answer for 15 s.
    pub(super) async fn send(
        &mut self,
        event: Vec<u8>,
        state: Option<State>,
        line: Option<usize>,
    ) -> Result<Option<String>, CliError> {
        if self.dedup == Dedup::Live {
            self.send_live(event.into()).await.map(|()| None)
        } else {
            self.send_logged(event.into(), state, line).await.map(Some)
        }
    }

    async fn send_live(&self, event: Bytes) -> Result<(), CliError> {
        Event::parse(event.clone()).map_err(|error| CliError::Failed(error.to_string()))?;
        // Never retried: the event may have been delivered, and no subscriber may get a live event twice.
        Ok(self.transport.publish_live(&self.channel, event).await?)
    }

    async fn send_logged(
        &mut self,
        event: Bytes,
        state: Option<State>,
        line: Option<usize>,
    ) -> Result<String, CliError> {
        let body = Body::parse(event).map_err(|error| CliError::Failed(error.to_string()))?;
        let entry = Entry { state, lease: self.lease.clone(), ..Entry::new(body) };
        let mut append = Append { channel: self.channel.clone(), entries: vec![entry], once: self.once(line) };
        let deadline = Instant::now() + RETRY_TIMEOUT;
        let mut wait = FIRST_DELAY;
        let ids = loop {
            match self.transport.append(&append).await {
                Ok(ids) => break ids,
                // The channel no longer knows this producer: go on under a new name.
                Err(AppendError::Gap { .. }) if self.next > 1 => {
                    (self.producer, self.next) = (new_name(), 1);
                    append.once = self.once(line);
                }
                Err(AppendError::Unavailable(why)) if Instant::now() + wait < deadline => {
                    tracing::warn!("no answer, retrying in {wait:?}: {why}");
                    sleep(wait).await;
                    wait = (wait * 2).min(MAX_DELAY);
                }
                Err(error) => return Err(error.into()),
            }
        };
        self.next += 1;
        let id = ids.first().copied().flatten();
        Ok(id.map_or_else(|| "published before".to_owned(), |id| id.to_string()))
    }

    fn once(&self, line: Option<usize>) -> crewcast_publisher::Once {
        match (&self.dedup, line) {
            (Dedup::Live, _) => crewcast_publisher::Once::No,
            (Dedup::Sequence, _) => {
                crewcast_publisher::Once::Sequence { producer: self.producer.clone(), first: self.next }
            }
            (Dedup::Key(key), None) => crewcast_publisher::Once::Key { sub: SUB.to_owned(), key: key.clone() },
            (Dedup::Key(key), Some(line)) => {
                crewcast_publisher::Once::Key { sub: SUB.to_owned(), key: format!("{key}-{line}") }
            }
        }
    }
}

fn new_name() -> Arc<str> {
    let random: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
    format!("cli-{random}").into()
}
