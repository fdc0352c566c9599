//! The task of one subscription: one connection after another, until the subscription ends.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crewcast_events::{Channel, EventId};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep},
};

use crate::{
    backoff::{Backoff, after_drain},
    client::{Request, Settings},
    endpoint::Endpoint,
    error::{ClientError, Cut},
    next_step::{NextStep, next_step},
    position::Position,
    session,
    subscription::Delivery,
    token::Tokens,
};

/// A delivery, and the reader's position in a channel after it.
pub(crate) type QueuedDelivery = (Result<Delivery, ClientError>, Option<(Channel, EventId)>);
/// The queue to the reader. It is closed when the reader is gone.
pub(crate) type DeliverySender = mpsc::Sender<QueuedDelivery>;

/// The state of a subscription that outlives a connection.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) endpoint: Endpoint,
    pub(crate) types: Vec<String>,
    /// The position in each channel. Endpoints that carry many crews have none: a field that the producer writes names
    /// an event's channel there.
    pub(crate) positions: BTreeMap<Channel, Position>,
    pub(crate) tokens: Tokens,
    pub(crate) out: DeliverySender,
}

/// How one connection ended.
#[derive(Debug)]
pub(crate) struct SocketEnd {
    pub(crate) why: EndReason,
    /// The connection has worked: the gateway sent something other than a refusal.
    pub(crate) proven: bool,
    /// When to reconnect, if the gateway has said so.
    pub(crate) reconnect_at: Option<Instant>,
}

#[derive(Debug)]
pub(crate) enum EndReason {
    Cut(Cut),
    Fatal(ClientError),
    /// The reader is gone.
    ReaderGone,
}

impl Worker {
    pub(crate) async fn run(request: Request, out: DeliverySender, retry: Arc<Notify>) {
        let starts = request.starts();
        let endpoint = match request.endpoint {
            Ok(endpoint) => endpoint,
            Err(bad) => {
                // If the reader is gone, nobody needs the error.
                let _ = out.send((Err(bad.into()), None)).await;
                return;
            }
        };
        let worker = Worker {
            positions: starts
                .into_iter()
                .map(|(channel, start)| (channel, Position::new(start, !request.types.is_empty())))
                .collect(),
            tokens: Tokens::new(request.client.settings.source.clone()),
            settings: request.client.settings.clone(),
            endpoint,
            types: request.types,
            out,
        };
        worker.keep_connected(&retry).await;
    }

    async fn keep_connected(mut self, retry: &Notify) {
        let mut backoff = Backoff::default();
        let mut ever_proven = false;
        // Whether the current token replaces one that was refused.
        let mut token_is_fresh = false;
        loop {
            let ended = session::run(&mut self).await;
            if ended.proven {
                ever_proven = true;
                token_is_fresh = false;
                backoff.reset();
            }
            let cut = match ended.why {
                EndReason::Cut(cut) => cut,
                EndReason::Fatal(error) => return self.finish(Err(error)).await,
                EndReason::ReaderGone => return,
            };
            let retry_in = match next_step(&cut, ever_proven) {
                NextStep::End { reason } => return self.finish(Ok(Delivery::End { reason })).await,
                NextStep::Fail(error) => return self.finish(Err(error)).await,
                NextStep::FreshToken(error) => {
                    if token_is_fresh || !self.tokens.refused() {
                        return self.finish(Err(error)).await;
                    }
                    token_is_fresh = true;
                    Duration::ZERO
                }
                // Only after a working connection: a replica that drains at once would otherwise be asked in a loop.
                NextStep::AtOnce if ended.proven => after_drain(
                    ended.reconnect_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())),
                ),
                NextStep::AtOnce | NextStep::Backoff => backoff.next(),
            };
            tracing::debug!(%cut, ?retry_in, "disconnected");
            // Created before the delivery, so that a `retry_now` in response to it is not missed.
            let retry_now = retry.notified();
            tokio::pin!(retry_now);
            retry_now.as_mut().enable();
            if self.deliver(Ok(Delivery::Disconnected { cut, retry_in })).await.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(retry_in) => {}
                () = retry_now => {}
                () = self.out.closed() => return,
            }
        }
    }

    /// Hands a delivery over and waits for the reader. Fails if the reader is gone.
    pub(crate) async fn deliver(&mut self, delivery: Result<Delivery, ClientError>) -> Result<(), EndReason> {
        let channel = match &delivery {
            Ok(
                Delivery::Event { channel, .. } | Delivery::Reset { channel, .. } | Delivery::Skipped { channel, .. },
            ) => channel.as_ref(),
            _ => self.endpoint.channel(),
        };
        let position = channel.and_then(|channel| Some((channel.clone(), self.positions.get(channel)?.last()?)));
        self.out.send((delivery, position)).await.map_err(|_| EndReason::ReaderGone)
    }

    async fn finish(mut self, delivery: Result<Delivery, ClientError>) {
        // If the reader is gone, nobody needs the delivery.
        let _ = self.deliver(delivery).await;
    }
}
