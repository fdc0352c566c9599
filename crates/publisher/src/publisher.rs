//! The handle that programs hold.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{BadChannel, Body, BodyError, Channel, Event, Namespaces, Rejected};
use crewcast_store::{Entry, State, StateKeyError, Transport, check_state_key};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::task::JoinHandle;

use crate::{
    builder::{Builder, ConnectError},
    claims::Directory,
    lane::{Claims, Message},
    queue::{Dropped, Queue},
    rank::Rank,
    renew::Leases,
    tally::{Reason, Stats, Tally},
    window::Window,
    worker::Worker,
};

/// Why something given to `publish` is no event that could be sent. What happens to an event afterwards is never an error: it is
/// sent, or counted as dropped.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The channel's name is none.
    #[error(transparent)]
    Channel(#[from] BadChannel),
    /// The value cannot be written as JSON.
    #[error("the event cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is JSON, but no event that can be logged.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// It is no event.
    #[error(transparent)]
    Live(#[from] Rejected),
    /// The key of the state document breaks the rule of [`check_state_key`].
    #[error("{StateKeyError}")]
    StateKey,
    /// It is larger than gateways deliver (`Builder::max_event_bytes`). Counted as dropped, too.
    #[error("an event has at most {most} bytes, this one has {bytes}")]
    TooLarge {
        /// Of the event as JSON.
        bytes: usize,
        /// How many there may be.
        most: usize,
    },
}

/// What [`Publisher::close`] could not send: never confirmed, which for events on their way when time ran out
/// does not mean that they did not arrive.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unsent {
    /// How many events are lost unless the caller keeps them: they are in `by_channel` and nowhere else.
    pub events: usize,
    /// The producers' bytes by channel, in the order of emitting.
    pub by_channel: BTreeMap<Channel, Vec<Bytes>>,
    /// How many events are kept in the spool, besides: they are sent by the next publisher with that directory.
    pub spooled: usize,
}

/// Publishes events. Cheap to clone; all clones share one queue and one background task.
///
/// Emitting never waits: the event is queued and sent in the background, in the order of emitting within a
/// channel. When the last clone is dropped without [`Publisher::close`], the task ends and what is queued is lost, or,
/// with a spool ([`Builder::spool`]), kept.
#[derive(Clone)]
pub struct Publisher {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) queue: Arc<Queue>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) org: Option<String>,
    pub(crate) leases: Arc<Leases>,
    namespaces: Namespaces,
    max_event_bytes: usize,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What a publisher is put together from.
pub(crate) struct Parts {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) queue: Queue,
    pub(crate) tally: Arc<Tally>,
    pub(crate) window: Window,
    pub(crate) org: Option<String>,
    pub(crate) leases: Leases,
    pub(crate) namespaces: Namespaces,
    pub(crate) max_event_bytes: usize,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

impl Publisher {
    /// A publisher to the Redis at `url` with everything else as by default. See [`Builder`] for the rest.
    ///
    /// # Errors
    /// [`ConnectError`] when the URL makes no sense or the credentials are refused. A Redis that does not
    /// answer is none: events wait for it.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(url).await
    }

    /// Sets up a publisher.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(parts: Parts) -> Self {
        let Parts { transport, queue, tally, window, org, leases, namespaces, max_event_bytes } = parts;
        let (queue, leases) = (Arc::new(queue), Arc::new(leases));
        let worker = Worker {
            queue: queue.clone(),
            transport: transport.clone(),
            tally: tally.clone(),
            window,
            directory: Directory::default(),
        };
        let (renewing, counting) = (leases.clone(), tally.clone());
        let task = tokio::spawn(async move {
            tokio::join!(worker.run(), renewing.renew(&*transport, &counting));
        });
        let task = Mutex::new(Some(task));
        Self { inner: Arc::new(Inner { queue, tally, org, leases, namespaces, max_event_bytes, task }) }
    }

    /// Publishes an event into its channel's log.
    ///
    /// # Errors
    /// [`PublishError`] when `event` does not serialise to a JSON object with a string `type` and without a
    /// top-level `id`, or `channel` is no channel.
    pub fn publish(&self, channel: &str, event: &(impl Serialize + ?Sized)) -> Result<(), PublishError> {
        self.publish_raw(channel, serde_json::to_vec(event)?)
    }

    /// Like [`Publisher::publish`], with the bytes as they are: nothing in them is written anew.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub fn publish_raw(&self, channel: &str, event: impl Into<Bytes>) -> Result<(), PublishError> {
        self.push_logged(&channel.parse()?, Entry::new(Body::parse(event)?), None)
    }

    /// Publishes an event and, in the same atomic step, sets the document `key` of the channel's state.
    ///
    /// # Errors
    /// As [`Publisher::publish`], and when [`check_state_key`] refuses `key`.
    pub fn publish_with_state(
        &self,
        channel: &str,
        event: &(impl Serialize + ?Sized),
        key: &str,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), PublishError> {
        self.publish_stateful(channel, event, key, Some(to_raw_value(value)?.into()))
    }

    /// Publishes an event and, in the same atomic step, removes the document `key` of the channel's state.
    ///
    /// # Errors
    /// As [`Publisher::publish_with_state`].
    pub fn publish_removing_state(
        &self,
        channel: &str,
        event: &(impl Serialize + ?Sized),
        key: &str,
    ) -> Result<(), PublishError> {
        self.publish_stateful(channel, event, key, None)
    }

    fn publish_stateful(
        &self,
        channel: &str,
        event: &(impl Serialize + ?Sized),
        key: &str,
        value: Option<Arc<RawValue>>,
    ) -> Result<(), PublishError> {
        check_state_key(key).map_err(|_| PublishError::StateKey)?;
        let state = Some(State { key: key.to_owned(), value });
        let entry = Entry { state, ..Entry::new(Body::parse(serde_json::to_vec(event)?)?) };
        self.push_logged(&channel.parse()?, entry, None)
    }

    /// Publishes without id and history: whoever is connected hears it, at most once. It is not repeated when
    /// the transport does not answer.
    ///
    /// # Errors
    /// [`PublishError`] when the bytes are no event or `channel` is no channel.
    pub fn publish_live(&self, channel: &str, event: impl Into<Bytes>) -> Result<(), PublishError> {
        let event = Event::parse(event.into())?;
        let channel = channel.parse()?;
        let rank = self.rank(&channel, &event.kind());
        self.push(&channel, Message::Live(event.raw().clone()), None, rank)
    }

    pub(crate) fn push_logged(&self, channel: &Channel, entry: Entry, claims: Claims) -> Result<(), PublishError> {
        let rank = self.rank(channel, entry.body.kind());
        self.push(channel, Message::Logged(entry), claims, rank)
    }

    fn push(&self, channel: &Channel, message: Message, claims: Claims, rank: Rank) -> Result<(), PublishError> {
        let (bytes, most) = (message.bytes().len(), self.inner.max_event_bytes);
        if bytes > most {
            let error = PublishError::TooLarge { bytes, most };
            self.inner.tally.dropped(Reason::TooLarge, 1, &error.to_string());
            return Err(error);
        }
        let Dropped { count, reason } = self.inner.queue.push(channel, message, claims, rank);
        self.inner.tally.dropped(reason, count, "the queue does not take everything");
        Ok(())
    }

    fn rank(&self, channel: &Channel, kind: &str) -> Rank {
        Rank::of(kind, self.inner.namespaces.of(channel).map_or(&[], |namespace| &namespace.terminal))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// How many events are in memory, queued or on their way.
    pub fn queued(&self) -> usize {
        self.inner.queue.events()
    }

    /// How many events are in the spool.
    pub fn spooled(&self) -> usize {
        self.inner.queue.spooled()
    }

    /// What became of the events so far.
    pub fn stats(&self) -> Stats {
        self.inner.tally.stats()
    }

    /// Takes no more events in, sends what is queued and spooled for at most `timeout`, ends the background task,
    /// brings what was not confirmed to the spool, if there is one, and answers what is kept and what is not. Concerns
    /// all clones; events emitted afterwards are counted as dropped. What a failover loses afterwards of the confirmed
    /// is sent again by nobody ([`Builder::wait_replicas`]).
    pub async fn close(&self, timeout: Duration) -> Unsent {
        self.inner.queue.close();
        let _ = tokio::time::timeout(timeout, self.inner.queue.empty()).await;
        let task = self.inner.task.lock().take();
        if let Some(task) = task {
            task.abort();
            // Cancelled, as it should be: what is left is then nobody's but ours.
            let _ = task.await;
        }
        let queue = self.inner.queue.clone();
        let drained = tokio::task::spawn_blocking(move || queue.drain(true)).await;
        // Only a runtime that ends meanwhile does not run it; the queue is then drained when it is dropped.
        let (by_channel, spooled) = drained.unwrap_or_default();
        Unsent { events: by_channel.values().map(Vec::len).sum(), by_channel, spooled }
    }
}
