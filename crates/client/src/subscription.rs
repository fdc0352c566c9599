//! What a subscriber holds: a stream of deliveries, and a handle beside it.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crewcast_events::{Channel, Event, EventId};
use futures_util::Stream;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    client::Request,
    error::{ClientError, Cut},
    worker::{Sent, Worker},
};

/// Deliveries that wait for a slow reader; beyond, the socket is not read and the gateway holds back.
pub(crate) const WAITING: usize = 256;
/// How long [`Subscription::close`] waits for the goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a subscription gives its reader.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// A producer's event, its bytes as they were published. [`Event::id`] is there when it is logged.
    Event {
        /// Its channel; on a socket of many crews as the event itself says, `None` when it does not. Always there on one
        /// of [`crate::Client::stream`].
        channel: Option<Channel>,
        /// The event.
        event: Event,
    },
    /// Logged events were missed for good, or the channel's history was rewritten. What the log holds
    /// follows; events that this subscription still remembers are not repeated.
    Reset {
        /// Whose history.
        channel: Option<Channel>,
        /// `trimmed` or `unknown_id`.
        reason: String,
        /// The first id that follows.
        from: Option<EventId>,
    },
    /// Live events were missed.
    Gap {
        /// Of this channel.
        channel: Option<Channel>,
        /// How many, where the gateway knows.
        missed: Option<u64>,
    },
    /// The reader lags, and the gateway has left out progress that newer progress of the same thing, which follows, has
    /// made old. Only where its operator allows it (`skip_progress`); all else is delivered.
    Skipped {
        /// Of this channel.
        channel: Option<Channel>,
        /// How many events.
        events: u64,
    },
    /// The gateway refuses a channel of [`crate::Client::stream`], or grants it no longer. It is not asked for again; the
    /// others go on.
    Refused {
        /// Which.
        channel: Channel,
        /// `forbidden`, `bad_channel`, `too_many_subscriptions`.
        code: String,
        /// The gateway's words.
        reason: String,
    },
    /// A word of the gateway: `broker` (it is away or back) or `error` (it did not understand this client).
    Notice {
        /// The message.
        message: Event,
    },
    /// A socket is open.
    Connected {
        /// The gateway was told where to go on, or sends everything anyway: what was missed follows, or a
        /// [`Delivery::Reset`]. `false`: live from now on.
        resumed: bool,
    },
    /// The socket was lost, or could not be opened. Another attempt follows by itself.
    Disconnected {
        /// Why.
        cut: Cut,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// The gateway has ended the subscription, and well: the run is complete. The last delivery.
    End {
        /// The gateway's words.
        reason: String,
    },
}

/// One subscription. Dropping it closes the socket.
#[derive(Debug)]
pub struct Subscription {
    deliveries: mpsc::Receiver<Sent>,
    positions: BTreeMap<Channel, EventId>,
    /// The position where the channel is one.
    last: Option<EventId>,
    is_one_channel: bool,
    retry: Arc<Notify>,
    worker: JoinHandle<()>,
}

/// Acts on a [`Subscription`] while another task reads it.
#[derive(Clone, Debug)]
pub struct Handle {
    retry: Arc<Notify>,
}

impl Handle {
    /// Ends the wait before the next attempt, for example because the network is back. Does nothing when
    /// nothing waits.
    pub fn retry_now(&self) {
        self.retry.notify_waiters();
    }
}

impl Subscription {
    pub(crate) fn begin(request: Request) -> Self {
        let (sender, deliveries) = mpsc::channel(WAITING);
        let retry = Arc::new(Notify::new());
        let positions = request.starts().into_iter().filter_map(|(channel, start)| match start {
            crate::Start::After(id) => Some((channel, id)),
            crate::Start::Default | crate::Start::Beginning => None,
        });
        let (positions, is_one_channel) = (positions.collect(), request.channel().is_some());
        let last = match request.start {
            crate::Start::After(id) => Some(id),
            crate::Start::Default | crate::Start::Beginning => None,
        };
        let worker = tokio::spawn(Worker::run(request, sender, retry.clone()));
        Self { deliveries, positions, last, is_one_channel, retry, worker }
    }

    /// The next delivery; `None` after [`Delivery::End`] or an error. Cancel safe.
    ///
    /// # Errors
    /// [`ClientError`] when the subscription cannot go on; nothing follows.
    pub async fn next(&mut self) -> Option<Result<Delivery, ClientError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Where this reader stands in the channel's log, after what it has taken from this subscription: for a
    /// later [`Request::since`]. `None` on a socket of several channels.
    pub fn last_id(&self) -> Option<EventId> {
        self.last
    }

    /// Where this reader stands in each channel's log, likewise, for a later [`crate::Client::stream`]. Channels whose
    /// position is not known yet are missing.
    pub fn positions(&self) -> &BTreeMap<Channel, EventId> {
        &self.positions
    }

    /// See [`Handle::retry_now`].
    pub fn retry_now(&self) {
        self.retry.notify_waiters();
    }

    /// A handle for other tasks.
    pub fn handle(&self) -> Handle {
        Handle { retry: self.retry.clone() }
    }

    /// Says goodbye to the gateway (1000) and waits up to 2 s until that is on its way.
    pub async fn close(mut self) {
        self.deliveries.close();
        // What waits is dropped, so that the worker is not held up by it.
        while self.deliveries.try_recv().is_ok() {}
        let _ = timeout(GOODBYE, &mut self.worker).await;
    }
}

impl Stream for Subscription {
    type Item = Result<Delivery, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.deliveries.poll_recv(cx).map(|next| {
            let (delivery, position) = next?;
            if let Some((channel, id)) = position {
                self.last = if self.is_one_channel { Some(id) } else { self.last };
                self.positions.insert(channel, id);
            }
            Some(delivery)
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.worker.abort();
    }
}
