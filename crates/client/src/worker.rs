//! One subscription's task: socket after socket, until it is over.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crewcast_events::{Channel, EventId};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep},
};

use crate::{
    backoff::{Backoff, at_once},
    client::{Request, Settings},
    endpoint::Endpoint,
    error::{ClientError, Cut},
    next_step::{Outcome, outcome},
    position::Position,
    session,
    subscription::Delivery,
    token::Tokens,
};

/// A delivery, and where its reader stands in a channel's log once it has taken it.
pub(crate) type Sent = (Result<Delivery, ClientError>, Option<(Channel, EventId)>);
/// Where deliveries go. Its closing is the reader's goodbye.
pub(crate) type Out = mpsc::Sender<Sent>;

/// What outlives a socket.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) endpoint: Endpoint,
    pub(crate) types: Vec<String>,
    /// Where it stands in each channel, where that is certain: an event of a socket of many crews does not say for sure
    /// whose it is.
    pub(crate) positions: BTreeMap<Channel, Position>,
    pub(crate) tokens: Tokens,
    pub(crate) out: Out,
}

/// How one socket ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) why: Why,
    /// It has worked: something was heard that was no refusal.
    pub(crate) proven: bool,
    /// The gateway asked to come back then.
    pub(crate) back_at: Option<Instant>,
}

#[derive(Debug)]
pub(crate) enum Why {
    Cut(Cut),
    Fatal(ClientError),
    /// The reader is gone.
    Goodbye,
}

impl Worker {
    pub(crate) async fn run(request: Request, out: Out, retry: Arc<Notify>) {
        let starts = request.starts();
        let endpoint = match request.endpoint {
            Ok(endpoint) => endpoint,
            Err(bad) => {
                // A reader that is gone needs no answer.
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
        // Whether the token in use was fetched because the one before was refused.
        let mut token_is_fresh = false;
        loop {
            let ended = session::run(&mut self).await;
            if ended.proven {
                ever_proven = true;
                token_is_fresh = false;
                backoff.reset();
            }
            let cut = match ended.why {
                Why::Cut(cut) => cut,
                Why::Fatal(error) => return self.last_word(Err(error)).await,
                Why::Goodbye => return,
            };
            let retry_in = match outcome(&cut, ever_proven) {
                Outcome::End { reason } => return self.last_word(Ok(Delivery::End { reason })).await,
                Outcome::Fail(error) => return self.last_word(Err(error)).await,
                Outcome::FreshToken(error) => {
                    if token_is_fresh || !self.tokens.refused() {
                        return self.last_word(Err(error)).await;
                    }
                    token_is_fresh = true;
                    Duration::ZERO
                }
                // A replica that goes away before it has said anything would be asked again and again.
                Outcome::AtOnce if ended.proven => {
                    at_once(ended.back_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())))
                }
                Outcome::AtOnce | Outcome::Backoff => backoff.next(),
            };
            tracing::debug!(%cut, ?retry_in, "disconnected");
            // Created before the reader is told, so that its answer is not missed.
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

    /// Hands a delivery over, waiting for the reader; the error: it is gone.
    pub(crate) async fn deliver(&mut self, delivery: Result<Delivery, ClientError>) -> Result<(), Why> {
        let channel = match &delivery {
            Ok(
                Delivery::Event { channel, .. } | Delivery::Reset { channel, .. } | Delivery::Skipped { channel, .. },
            ) => channel.as_ref(),
            _ => self.endpoint.channel(),
        };
        let position = channel.and_then(|channel| Some((channel.clone(), self.positions.get(channel)?.last()?)));
        self.out.send((delivery, position)).await.map_err(|_| Why::Goodbye)
    }

    async fn last_word(mut self, word: Result<Delivery, ClientError>) {
        // A reader that is gone needs no answer.
        let _ = self.deliver(word).await;
    }
}
