//! The handle that programs use.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{BadChannel, Body, BodyError, Channel, Event, Namespaces, Rejected};
use crewcast_store::{Entry, State, StateKeyError, Transport, check_state_key};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    builder::{Builder, ConnectError},
    channel_queue::{Message, Ownerships},
    counters::{Counters, Reason, Stats},
    lease_renewal::LeaseRenewals,
    ownerships::Directory,
    priority::Priority,
    queue::{Dropped, Queue},
    resend_buffer::ResendBuffer,
    worker::Worker,
};

/// Why `publish` refuses an event. What happens to an accepted event is never an error: it is sent, or counted as
/// dropped.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The channel's name is invalid.
    #[error(transparent)]
    Channel(#[from] BadChannel),
    /// The event cannot be written as JSON.
    #[error("the event cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The JSON is not a loggable event.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The bytes are not an event.
    #[error(transparent)]
    Live(#[from] Rejected),
    /// [`check_state_key`] refuses the key of the state document.
    #[error("{StateKeyError}")]
    StateKey,
    /// The event is larger than gateways deliver (`Builder::max_event_bytes`). Also counted as dropped.
    #[error("an event has at most {most} bytes, this one has {bytes}")]
    TooLarge {
        /// Size of the event as JSON.
        bytes: usize,
        /// The bound.
        most: usize,
    },
}

/// What [`Publisher::close`] could not send. None of it was confirmed, but events that were being sent at the timeout
/// may have arrived.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unsent {
    /// How many events are lost unless the caller keeps them. They are only in `by_channel`.
    pub events: usize,
    /// The producers' bytes by channel, in the order of emitting.
    pub by_channel: BTreeMap<Channel, Vec<Bytes>>,
    /// How many more events are in the spool. The next publisher with that directory sends them.
    pub spooled: usize,
}

/// Publishes events. Cheap to clone; all clones share one queue and one background task.
///
/// Emitting never waits: the event is queued and sent in the background, in the order of emitting within a channel.
/// When the last clone is dropped without [`Publisher::close`], the task ends. Queued events are then lost, or kept
/// with a spool ([`Builder::spool`]).
#[derive(Clone)]
pub struct Publisher {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) queue: Arc<Queue>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) org: Option<String>,
    pub(crate) leases: Arc<LeaseRenewals>,
    /// Emitters work on any thread, also on one outside of the runtime.
    pub(crate) runtime: Handle,
    namespaces: Namespaces,
    max_event_bytes: usize,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The parts of a publisher.
pub(crate) struct Parts {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) queue: Queue,
    pub(crate) counters: Arc<Counters>,
    pub(crate) resend_buffer: ResendBuffer,
    pub(crate) org: Option<String>,
    pub(crate) leases: LeaseRenewals,
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
    /// A publisher to the Redis at `url`, with default settings. See [`Builder`] for others.
    ///
    /// # Errors
    /// [`ConnectError`] when the URL is invalid or the credentials are refused. A Redis that does not answer is not an
    /// error: events wait for it.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(url).await
    }

    /// Sets up a publisher.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(parts: Parts) -> Self {
        let Parts { transport, queue, counters, resend_buffer, org, leases, namespaces, max_event_bytes } = parts;
        let (queue, leases) = (Arc::new(queue), Arc::new(leases));
        let worker = Worker {
            queue: queue.clone(),
            transport: transport.clone(),
            counters: counters.clone(),
            resend_buffer,
            directory: Directory::default(),
        };
        let (renewing, counting) = (leases.clone(), counters.clone());
        let task = tokio::spawn(async move {
            tokio::join!(worker.run(), renewing.renew(&*transport, &counting));
        });
        let (task, runtime) = (Mutex::new(Some(task)), Handle::current());
        Self { inner: Arc::new(Inner { queue, counters, org, leases, runtime, namespaces, max_event_bytes, task }) }
    }

    /// Publishes an event into its channel's log.
    ///
    /// # Errors
    /// [`PublishError`] when `event` does not serialise to a JSON object with a string `type` and without a top-level
    /// `id`, or when `channel` is invalid.
    pub fn publish(&self, channel: &str, event: &(impl Serialize + ?Sized)) -> Result<(), PublishError> {
        self.publish_raw(channel, serde_json::to_vec(event)?)
    }

    /// Like [`Publisher::publish`], for an event that is JSON already. Its bytes are sent unchanged.
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

    /// Publishes without id and history, at most once, to the readers that are connected. Not retried when the
    /// transport does not answer.
    ///
    /// # Errors
    /// [`PublishError`] when the bytes are not an event or `channel` is invalid.
    pub fn publish_live(&self, channel: &str, event: impl Into<Bytes>) -> Result<(), PublishError> {
        let event = Event::parse(event.into())?;
        let channel = channel.parse()?;
        let priority = self.priority(&channel, &event.kind());
        self.push(&channel, Message::Live(event.raw().clone()), None, priority)
    }

    pub(crate) fn push_logged(
        &self,
        channel: &Channel,
        entry: Entry,
        ownerships: Ownerships,
    ) -> Result<(), PublishError> {
        let priority = self.priority(channel, entry.body.kind());
        self.push(channel, Message::Logged(entry), ownerships, priority)
    }

    fn push(
        &self,
        channel: &Channel,
        message: Message,
        ownerships: Ownerships,
        priority: Priority,
    ) -> Result<(), PublishError> {
        let (bytes, most) = (message.bytes().len(), self.inner.max_event_bytes);
        if bytes > most {
            let error = PublishError::TooLarge { bytes, most };
            self.inner.counters.dropped(Reason::TooLarge, 1, &error.to_string());
            return Err(error);
        }
        let Dropped { count, reason } = self.inner.queue.push(channel, message, ownerships, priority);
        self.inner.counters.dropped(reason, count, "the queue does not take everything");
        Ok(())
    }

    fn priority(&self, channel: &Channel, kind: &str) -> Priority {
        Priority::of(kind, self.inner.namespaces.of(channel).map_or(&[], |namespace| &namespace.terminal))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// How many events are in memory: queued, or being sent.
    pub fn queued(&self) -> usize {
        self.inner.queue.events()
    }

    /// How many events are in the spool.
    pub fn spooled(&self) -> usize {
        self.inner.queue.spooled()
    }

    /// The counters so far.
    pub fn stats(&self) -> Stats {
        self.inner.counters.stats()
    }

    /// Closes the publisher and all its clones. Sends queued and spooled events for at most `timeout`, ends the
    /// background task, and moves unconfirmed events to the spool, if there is one. Answers what was not sent. Events
    /// emitted afterwards are counted as dropped. Confirmed events that a failover loses afterwards are not sent again:
    /// see [`Builder::wait_replicas`].
    pub async fn close(&self, timeout: Duration) -> Unsent {
        self.inner.queue.close();
        let _ = tokio::time::timeout(timeout, self.inner.queue.empty()).await;
        let task = self.inner.task.lock().take();
        if let Some(task) = task {
            task.abort();
            // The task is cancelled: now nothing else uses the queue.
            let _ = task.await;
        }
        let queue = self.inner.queue.clone();
        let drained = tokio::task::spawn_blocking(move || queue.drain(true)).await;
        // A runtime that shuts down does not run it. Then the queue is drained when it is dropped.
        let (by_channel, spooled) = drained.unwrap_or_default();
        Unsent { events: by_channel.values().map(Vec::len).sum(), by_channel, spooled }
    }
}
