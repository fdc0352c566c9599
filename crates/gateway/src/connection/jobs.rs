//! What a connection has asked for and waits to be told: pages of the log, grants, fresh tokens.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{Channel, EventId};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{ConnectionContext, Principal, queue::Queue, subscriptions::ReaderRef};
use crate::{
    auth::{Auth, AuthError, Identity},
    broker::BrokerError,
    dashboards::{Dashboard, DashboardWatch},
    dialect::NotPublished,
    replay::{LogPage, LogRange, StateDocuments, Tail},
    state::StateSnapshot,
};

/// How long a job that the broker did not serve waits for its next try.
const RETRY: Duration = Duration::from_millis(500);

pub(super) enum Done {
    Page {
        reader_ref: ReaderRef,
        page: Option<Arc<LogPage>>,
    },
    Fetched {
        channel: Channel,
        offset: u64,
        page: Arc<LogPage>,
    },
    /// `None`: not granted.
    State {
        channel: Channel,
        state: Option<Arc<StateDocuments>>,
    },
    /// `None`: not granted.
    Tail {
        channel: Channel,
        tail: Option<Arc<Tail>>,
    },
    Announced(u64),
    Snapshot {
        channel: Channel,
        state: Arc<StateSnapshot>,
    },
    Dashboard {
        dashboard: Dashboard,
        seen: Option<(DashboardWatch, Bytes)>,
    },
    NotGranted(Channel),
    Granted {
        key: u32,
        channel: Channel,
        result: Result<bool, BrokerError>,
    },
    Listed {
        namespace: &'static str,
        result: Result<Vec<Channel>, BrokerError>,
    },
    Refreshed(Result<Box<Identity>, AuthError>),
    Published {
        reference: u64,
        published: Result<Option<EventId>, NotPublished>,
    },
}

/// A question to the auth side.
pub(super) struct GrantRequest<What = Channel> {
    what: What,
    key: u32,
    is_repeated: bool,
}

impl<What> GrantRequest<What> {
    pub(super) fn now(key: u32, what: What) -> Self {
        Self { what, key, is_repeated: false }
    }

    /// Again after a pause, since nobody could answer.
    pub(super) fn again(key: u32, what: What) -> Self {
        Self { what, key, is_repeated: true }
    }

    async fn wait(&self) {
        if self.is_repeated {
            pause().await;
        }
    }
}

/// Jobs under way; none costs nothing.
#[derive(Default)]
pub(super) struct Jobs {
    under_way: Option<Box<FuturesUnordered<BoxFuture<'static, Done>>>>,
    /// Tokens and events of the client's that are under way.
    of_client: u32,
    /// What is to be read besides events. One read at a time, the next one not begun: answers may be large.
    reads: Queue<BoxFuture<'static, Done>>,
    /// Some job has not been polled yet.
    has_begun: bool,
}

impl Jobs {
    fn push(&mut self, job: impl Future<Output = Done> + Send + 'static) {
        self.under_way.get_or_insert_default().push(Box::pin(job));
        self.has_begun = true;
    }

    fn push_read(&mut self, read: impl Future<Output = Done> + Send + 'static) {
        self.reads.push_back(Box::pin(read));
        self.has_begun = true;
    }

    /// Whether there is a job that waits for its first poll.
    pub(super) fn have_begun(&self) -> bool {
        self.has_begun
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        self.has_begun = false;
        let Some(jobs) = &mut self.under_way else { return Poll::Pending };
        match jobs.poll_next_unpin(cx) {
            Poll::Ready(Some(done)) => {
                self.of_client -= u32::from(matches!(done, Done::Refreshed(_) | Done::Published { .. }));
                Poll::Ready(done)
            }
            Poll::Ready(None) => {
                self.under_way = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The next thing read. Only to be asked for while the socket has room.
    pub(super) fn poll_reads(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        let Some(first) = self.reads.front_mut() else { return Poll::Pending };
        let done = ready!(first.as_mut().poll(cx));
        self.reads.pop_front();
        Poll::Ready(done)
    }

    /// Whether the client's next message waits: what it asks for behind a token is judged by that token, and what it
    /// publishes is published in its order.
    pub(super) fn hold_the_client(&self) -> bool {
        self.of_client > 0
    }

    pub(super) fn page(
        &mut self,
        shared: &ConnectionContext,
        reader_ref: ReaderRef,
        channel: Channel,
        range: LogRange,
    ) {
        let history = shared.history.clone();
        self.push(async move {
            let page = retrying(|| history.clone().page(channel.clone(), range)).await;
            Done::Page { reader_ref, page }
        });
    }

    pub(super) fn fetch(&mut self, shared: &ConnectionContext, channel: Channel, offset: u64) {
        let history = shared.history.clone();
        self.push(async move {
            let page = retrying(|| history.clone().at(channel.clone(), offset)).await;
            Done::Fetched { channel, offset, page }
        });
    }

    /// Asks whether somebody may read a channel.
    pub(super) fn ask(&mut self, shared: &Arc<ConnectionContext>, principal: &Principal, asked: GrantRequest) {
        let (auth, principal) = (shared.auth.clone(), principal.clone());
        self.push(async move {
            asked.wait().await;
            let result = may_read(&auth, &principal, &asked.what).await;
            Done::Granted { key: asked.key, channel: asked.what, result }
        });
    }

    /// Reads a channel's state for somebody who may read the channel.
    pub(super) fn read_state(
        &mut self,
        shared: &Arc<ConnectionContext>,
        principal: &Principal,
        channel: Channel,
        within: Option<Duration>,
    ) {
        let (shared, principal) = (shared.clone(), principal.clone());
        self.push_read(async move {
            let read = || shared.channel_reads.state(channel.clone(), within);
            let state = if_granted(&shared.auth, &principal, &channel, read).await;
            Done::State { channel, state }
        });
    }

    /// Reads a channel's last events of a type for somebody who may read the channel.
    pub(super) fn read_tail(
        &mut self,
        shared: &Arc<ConnectionContext>,
        principal: &Principal,
        channel: Channel,
        kind: &'static str,
    ) {
        let (shared, principal) = (shared.clone(), principal.clone());
        self.push_read(async move {
            let read = || shared.channel_reads.tail(channel.clone(), kind);
            let tail = if_granted(&shared.auth, &principal, &channel, read).await;
            Done::Tail { channel, tail }
        });
    }

    /// Tells all replicas that a client's newest socket is this one.
    pub(super) fn announce(&mut self, shared: &ConnectionContext, client: Arc<str>) {
        let client_sessions = shared.client_sessions.clone();
        self.push(async move { Done::Announced(retrying(|| client_sessions.announce(&client)).await) });
    }

    /// Lists the channels of a namespace that somebody may read.
    pub(super) fn list(
        &mut self,
        shared: &Arc<ConnectionContext>,
        principal: &Principal,
        asked: GrantRequest<&'static str>,
    ) {
        let (auth, identity) = (shared.auth.clone(), principal.identity().cloned());
        self.push(async move {
            asked.wait().await;
            let result = match identity {
                Some(identity) => auth.granted(&identity, asked.what).await,
                None => Ok(Vec::new()),
            };
            Done::Listed { namespace: asked.what, result }
        });
    }

    /// Reads a channel's whole state, and the id behind which it stands, for somebody who may read the channel.
    pub(super) fn snapshot(&mut self, shared: &Arc<ConnectionContext>, principal: &Principal, channel: Channel) {
        let (shared, principal) = (shared.clone(), principal.clone());
        self.push(async move {
            let read = || shared.channel_reads.snapshot(channel.clone());
            match if_granted(&shared.auth, &principal, &channel, read).await {
                Some(state) => Done::Snapshot { channel, state },
                None => Done::NotGranted(channel),
            }
        });
    }

    /// Waits for the next document of a board, for somebody who may read all that it shows.
    pub(super) fn dashboard(
        &mut self,
        shared: &Arc<ConnectionContext>,
        principal: &Principal,
        dashboard: Dashboard,
        org: Arc<str>,
        watching: DashboardWatch,
    ) {
        let (shared, principal) = (shared.clone(), principal.clone());
        self.push(async move {
            for channel in dashboard.channels(&org) {
                if !retrying(|| may_read(&shared.auth, &principal, &channel)).await {
                    return Done::NotGranted(channel);
                }
            }
            Done::Dashboard { dashboard, seen: watching.next().await }
        });
    }

    /// Checks a token. A socket that came without any has nothing to refresh, but may come to be somebody's.
    pub(super) fn verify(&mut self, shared: &Arc<ConnectionContext>, identity: Option<&Identity>, token: String) {
        let (auth, identity) = (shared.auth.clone(), identity.cloned());
        self.of_client += 1;
        self.push(async move {
            let fresh = match identity {
                Some(identity) if !identity.anonymous => auth.refresh(&identity, &token).await,
                _ => auth.verify(&token).await,
            };
            Done::Refreshed(fresh.map(Box::new))
        });
    }

    /// Publishes what a client asks for. A stranger may nothing.
    pub(super) fn publish(
        &mut self,
        shared: &Arc<ConnectionContext>,
        identity: Option<&Identity>,
        channel: Channel,
        event: Bytes,
        reference: u64,
    ) {
        let (publishing, identity) = (shared.publishing.clone(), identity.cloned());
        self.of_client += 1;
        self.push(async move {
            let published = match identity {
                Some(identity) => publishing.publish(&identity, &channel, event).await,
                None => Err(NotPublished::Forbidden),
            };
            Done::Published { reference, published }
        });
    }
}

async fn may_read(auth: &Auth, principal: &Principal, channel: &Channel) -> Result<bool, BrokerError> {
    match principal {
        Principal::User(identity) => auth.may_read(identity, channel).await,
        Principal::Public => Ok(true),
        Principal::Pending => Ok(false),
    }
}

/// What is read of a channel, for somebody who may read it before, so that nothing is read for anybody else, and behind:
/// the channel may have come to be another org's meanwhile, and what was read, written by that.
async fn if_granted<T, F>(auth: &Auth, principal: &Principal, channel: &Channel, read: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, BrokerError>>,
{
    let granted = || may_read(auth, principal, channel);
    if !retrying(granted).await {
        return None;
    }
    let answer = retrying(read).await;
    retrying(granted).await.then_some(answer)
}

/// Tries until the broker answers: the socket waits for the broker as long as its patience lasts.
async fn retrying<T, F: Future<Output = Result<T, BrokerError>>>(read: impl Fn() -> F) -> T {
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
