//! A subscription: a stream of deliveries, and a handle for other tasks.

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
    worker::{QueuedDelivery, Worker},
};

/// Deliveries that wait for a slow reader. When the queue is full, the client stops reading the socket.
pub(crate) const QUEUE_CAPACITY: usize = 256;
/// How long [`Subscription::close`] waits until the close frame is sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a subscription delivers to its reader.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// A producer's event, byte for byte as published. A logged event has an [`Event::id`].
    Event {
        /// The event's channel.
        ///
        /// On a socket for many crews a field of the event names it: `None` if that field is missing. Always `Some`
        /// with [`Client::stream`](crate::Client::stream).
        channel: Option<Channel>,
        /// The event.
        event: Event,
    },
    /// History was trimmed or has changed: logged events were missed for good, or the log was rewritten.
    ///
    /// The events in the log follow, without those that this subscription still remembers.
    Reset {
        /// The channel.
        channel: Option<Channel>,
        /// `trimmed` or `unknown_id`.
        reason: String,
        /// The first id that follows, if the log is not empty.
        from: Option<EventId>,
    },
    /// Live events were missed.
    Gap {
        /// The channel.
        channel: Option<Channel>,
        /// The number of missed events, if the gateway knows it.
        missed: Option<u64>,
    },
    /// This reader lags, and the gateway has skipped progress events that newer ones replace.
    ///
    /// The newer events follow. Gateways only do this in namespaces with `skip_progress`.
    Skipped {
        /// The channel.
        channel: Option<Channel>,
        /// The number of skipped events.
        events: u64,
    },
    /// The gateway refuses a channel of [`Client::stream`](crate::Client::stream), or no longer grants it.
    ///
    /// The client does not request the channel again. The other channels go on.
    Refused {
        /// The channel.
        channel: Channel,
        /// `forbidden`, `bad_channel` or `too_many_subscriptions`.
        code: String,
        /// The gateway's reason.
        reason: String,
    },
    /// No org owns a channel's id yet. Its events follow once the org of the token does.
    ///
    /// Only [`Client::stream`](crate::Client::stream) reports this; other subscriptions wait without a word.
    Waiting {
        /// The channel.
        channel: Channel,
    },
    /// A message of the gateway: `broker` (Redis is away or back) or `error` (the gateway refused a message).
    Notice {
        /// The message.
        message: Event,
    },
    /// A connection is open.
    Connected {
        /// `true`: missed events or a [`Delivery::Reset`] follow. `false`: live from now on.
        resumed: bool,
    },
    /// The connection was lost or could not be opened. The client tries again.
    Disconnected {
        /// The cause.
        cut: Cut,
        /// The delay before the next attempt.
        retry_in: Duration,
    },
    /// The gateway has ended the subscription normally: the run is complete. This is the last delivery.
    End {
        /// The gateway's reason.
        reason: String,
    },
}

/// One subscription. Dropping it closes the socket.
#[derive(Debug)]
pub struct Subscription {
    deliveries: mpsc::Receiver<QueuedDelivery>,
    positions: BTreeMap<Channel, EventId>,
    /// The position, if the subscription is to one channel.
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
    /// Makes the next attempt now, for example because the network is back.
    ///
    /// Has no effect while the subscription is connected or connecting.
    pub fn retry_now(&self) {
        self.retry.notify_waiters();
    }
}

impl Subscription {
    pub(crate) fn begin(request: Request) -> Self {
        let (sender, deliveries) = mpsc::channel(QUEUE_CAPACITY);
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

    /// Returns the next delivery, or `None` after [`Delivery::End`] or an error.
    ///
    /// This method is cancel safe.
    ///
    /// # Errors
    /// [`ClientError`] when the subscription cannot go on. Nothing follows.
    pub async fn next(&mut self) -> Option<Result<Delivery, ClientError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The position after the deliveries taken so far, for a later [`Request::since`].
    ///
    /// `None` for a subscription to several channels, unless [`Request::since`] has set it.
    pub fn last_id(&self) -> Option<EventId> {
        self.last
    }

    /// The position in each channel after the deliveries taken so far, for a later
    /// [`Client::stream`](crate::Client::stream).
    ///
    /// Channels without a known position are missing.
    pub fn positions(&self) -> &BTreeMap<Channel, EventId> {
        &self.positions
    }

    /// Makes the next attempt now. See [`Handle::retry_now`].
    pub fn retry_now(&self) {
        self.retry.notify_waiters();
    }

    /// Returns a handle for other tasks.
    pub fn handle(&self) -> Handle {
        Handle { retry: self.retry.clone() }
    }

    /// Closes the connection with code 1000, and waits up to 2 s until the close frame is sent.
    pub async fn close(mut self) {
        self.deliveries.close();
        // Drops waiting deliveries, so that they do not block the worker.
        while self.deliveries.try_recv().is_ok() {}
        let _ = timeout(CLOSE_TIMEOUT, &mut self.worker).await;
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
