//! What a connection has asked for and waits to be told: pages of the log, grants, fresh tokens.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crewcast_events::Channel;
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::FuturesUnordered,
};

use tokio::time::Instant;

use super::Shared;
use crate::{
    auth::{AuthError, Identity},
    broker::BrokerError,
    replay::LogPage,
};

/// How long a job that the broker did not serve waits for its next try.
const RETRY: Duration = Duration::from_millis(500);

pub(super) enum Done {
    Page { key: u32, channel: Channel, page: Arc<LogPage> },
    Fetched { channel: Channel, offset: u64, page: Arc<LogPage> },
    Granted { key: u32, result: Result<bool, BrokerError> },
    Listed { namespace: &'static str, result: Result<Vec<Channel>, BrokerError> },
    Refreshed(Result<Box<Identity>, AuthError>),
}

/// Jobs under way; none costs nothing.
#[derive(Default)]
pub(super) struct Jobs(Option<Box<FuturesUnordered<BoxFuture<'static, Done>>>>);

impl Jobs {
    fn push(&mut self, job: impl Future<Output = Done> + Send + 'static) {
        self.0.get_or_insert_default().push(Box::pin(job));
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        let Some(jobs) = &mut self.0 else { return Poll::Pending };
        match jobs.poll_next_unpin(cx) {
            Poll::Ready(Some(done)) => Poll::Ready(done),
            Poll::Ready(None) => {
                self.0 = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    pub(super) fn page(&mut self, shared: &Shared, key: u32, channel: Channel, offset: u64) {
        let history = shared.history.clone();
        self.push(async move {
            let page = retrying(|| history.clone().page(channel.clone(), offset)).await;
            Done::Page { key, channel, page }
        });
    }

    pub(super) fn fetch(&mut self, shared: &Shared, channel: Channel, offset: u64) {
        let history = shared.history.clone();
        self.push(async move {
            let page = retrying(|| history.clone().at(channel.clone(), offset)).await;
            Done::Fetched { channel, offset, page }
        });
    }

    /// Asks whether the identity may read a channel; without an identity the endpoint has granted it. A directory
    /// that is away with the broker is waited for as long as the socket's patience lasts.
    pub(super) fn ask(&mut self, shared: &Arc<Shared>, identity: Option<&Identity>, key: u32, channel: Channel) {
        let Some(identity) = identity.cloned() else {
            return self.push(std::future::ready(Done::Granted { key, result: Ok(true) }));
        };
        let (auth, until) = (shared.auth.clone(), Instant::now() + shared.patience);
        self.push(async move {
            loop {
                let result = auth.may_read(&identity, &channel).await;
                if result.is_ok() || Instant::now() >= until {
                    return Done::Granted { key, result };
                }
                pause().await;
            }
        });
    }

    /// Lists the channels of a namespace that the identity may read.
    pub(super) fn list(&mut self, shared: &Arc<Shared>, identity: Option<&Identity>, namespace: &'static str) {
        let (auth, identity) = (shared.auth.clone(), identity.cloned());
        self.push(async move {
            let result = match identity {
                Some(identity) => auth.granted(&identity, namespace).await,
                None => Ok(Vec::new()),
            };
            Done::Listed { namespace, result }
        });
    }

    /// Lists again after a pause.
    pub(super) fn list_later(&mut self, shared: &Arc<Shared>, identity: Option<&Identity>, namespace: &'static str) {
        let (auth, identity) = (shared.auth.clone(), identity.cloned());
        self.push(async move {
            tokio::time::sleep(RETRY).await;
            let result = match identity {
                Some(identity) => auth.granted(&identity, namespace).await,
                None => Ok(Vec::new()),
            };
            Done::Listed { namespace, result }
        });
    }

    /// Checks a fresh token. A socket that came without any has nothing to refresh, but may come to be somebody.
    pub(super) fn refresh(&mut self, shared: &Arc<Shared>, identity: Option<&Identity>, token: String) {
        let (auth, identity) = (shared.auth.clone(), identity.cloned());
        self.push(async move {
            let fresh = match identity {
                Some(identity) => auth.refresh(&identity, &token).await,
                None => auth.verify(&token).await,
            };
            Done::Refreshed(fresh.map(Box::new))
        });
    }
}

/// Tries until the log can be read: the socket waits for the broker as long as its patience lasts.
async fn retrying<F: Future<Output = Result<Arc<LogPage>, BrokerError>>>(read: impl Fn() -> F) -> Arc<LogPage> {
    loop {
        match read().await {
            Ok(page) => return page,
            Err(_) => pause().await,
        }
    }
}

/// Between tries; random, so that those who wait do not come back in step.
async fn pause() {
    tokio::time::sleep(RETRY / 2 + RETRY.mul_f64(fastrand::f64() / 2.0)).await;
}
