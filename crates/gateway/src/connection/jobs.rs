//! The asynchronous work of a connection: pages of the log, grants, fresh tokens, publishes.

use std::{
    collections::HashSet,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{Channel, EventId};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{ConnectionContext, Principal, live_sessions, queue::Queue, subscriptions::ReaderRef};
use crate::{
    auth::{Auth, AuthError, Grant, Identity},
    broker::BrokerError,
    dashboards::{Dashboard, DashboardWatch},
    dialect::NotPublished,
    limits::ClientKey,
    replay::{LogPage, LogRange, StateDocuments, Tail},
    state::StateSnapshot,
};

/// The longest pause before a job tries again after a broker error; the shortest is half of it.
const RETRY: Duration = Duration::from_millis(500);

/// The result of a finished job.
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
    /// The number that the socket was announced with.
    ClientRegistered(u64),
    Snapshot {
        channel: Channel,
        state: Arc<StateSnapshot>,
    },
    Dashboard {
        dashboard: Dashboard,
        seen: Option<(DashboardWatch, Bytes)>,
    },
    Denied(Channel),
    Granted {
        key: u32,
        channel: Channel,
        result: Result<Grant, BrokerError>,
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

/// A request for a grant: of one channel, or of all channels of a namespace.
pub(super) struct GrantRequest<What = Channel> {
    what: What,
    key: u32,
    is_repeated: bool,
}

impl<What> GrantRequest<What> {
    pub(super) fn now(key: u32, what: What) -> Self {
        Self { what, key, is_repeated: false }
    }

    /// The same request after a pause, because the broker did not answer.
    pub(super) fn again(key: u32, what: What) -> Self {
        Self { what, key, is_repeated: true }
    }

    async fn wait(&self) {
        if self.is_repeated {
            pause().await;
        }
    }
}

/// The jobs under way. Without jobs it allocates nothing.
#[derive(Default)]
pub(super) struct Jobs {
    under_way: Option<Box<FuturesUnordered<BoxFuture<'static, Done>>>>,
    /// How many tokens and publishes of the client are under way.
    of_client: u32,
    /// Reads other than pages of the log. One at a time, the next one not begun: answers may be large.
    reads: Queue<BoxFuture<'static, Done>>,
    /// A job has not been polled yet.
    has_unpolled: bool,
}

impl Jobs {
    fn push(&mut self, job: impl Future<Output = Done> + Send + 'static) {
        self.under_way.get_or_insert_default().push(Box::pin(job));
        self.has_unpolled = true;
    }

    fn push_read(&mut self, read: impl Future<Output = Done> + Send + 'static) {
        self.reads.push_back(Box::pin(read));
        self.has_unpolled = true;
    }

    /// Whether a job waits for its first poll.
    pub(super) fn have_unpolled(&self) -> bool {
        self.has_unpolled
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        self.has_unpolled = false;
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

    /// Polls the first of the queued reads. Call it only while the socket has room.
    pub(super) fn poll_reads(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        let Some(first) = self.reads.front_mut() else { return Poll::Pending };
        let done = ready!(first.as_mut().poll(cx));
        self.reads.pop_front();
        Poll::Ready(done)
    }

    /// Whether the client's next message has to wait. A message after a token is judged by that token, and publishes
    /// keep their order.
    pub(super) fn block_client(&self) -> bool {
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

    /// Checks whether the principal may read a channel.
    pub(super) fn request_grant(
        &mut self,
        shared: &Arc<ConnectionContext>,
        principal: &Principal,
        request: GrantRequest,
    ) {
        let (auth, principal) = (shared.auth.clone(), principal.clone());
        self.push(async move {
            request.wait().await;
            let result = grant(&auth, &principal, &request.what).await;
            Done::Granted { key: request.key, channel: request.what, result }
        });
    }

    /// Reads the state of a channel, if the principal may read it.
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
            let state = match within {
                None => live_sessions::state(&shared, &principal, &channel, state).await,
                Some(_) => state,
            };
            Done::State { channel, state }
        });
    }

    /// Reads the last events of one type of a channel, if the principal may read it.
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
            let tail = live_sessions::tail(&shared, &principal, &channel, tail).await;
            Done::Tail { channel, tail }
        });
    }

    /// Announces to all replicas that this is the newest socket of its client.
    pub(super) fn register_client(&mut self, shared: &ConnectionContext, client: Arc<str>) {
        let client_sessions = shared.client_sessions.clone();
        self.push(async move { Done::ClientRegistered(retrying(|| client_sessions.register(&client)).await) });
    }

    /// Lists the channels of a namespace that the principal may read. `listed` are those that it reads so far.
    pub(super) fn list(
        &mut self,
        shared: &Arc<ConnectionContext>,
        principal: &Principal,
        request: GrantRequest<&'static str>,
        listed: Vec<Channel>,
    ) {
        let (auth, identity) = (shared.auth.clone(), principal.identity().cloned());
        self.push(async move {
            request.wait().await;
            let result = match identity {
                Some(identity) => list(&auth, &identity, request.what, listed).await,
                None => Ok(Vec::new()),
            };
            Done::Listed { namespace: request.what, result }
        });
    }

    /// Reads the whole state of a channel and the id that it stands at, if the principal may read the channel.
    pub(super) fn snapshot(&mut self, shared: &Arc<ConnectionContext>, principal: &Principal, channel: Channel) {
        let (shared, principal) = (shared.clone(), principal.clone());
        self.push(async move {
            let read = || shared.channel_reads.snapshot(channel.clone());
            match if_granted(&shared.auth, &principal, &channel, read).await {
                Some(state) => Done::Snapshot { channel, state },
                None => Done::Denied(channel),
            }
        });
    }

    /// Waits for the next document of a dashboard, if the principal may read every channel that it shows.
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
                    return Done::Denied(channel);
                }
            }
            Done::Dashboard { dashboard, seen: watching.next().await }
        });
    }

    /// Checks a token: a refresh for an identified user, a first identification for others. A refused first token that
    /// comes back is answered ever more slowly.
    pub(super) fn verify(
        &mut self,
        shared: &Arc<ConnectionContext>,
        identity: Option<&Identity>,
        token: String,
        client: ClientKey,
    ) {
        let (auth, identity, limits) = (shared.auth.clone(), identity.cloned(), shared.connection_limits.clone());
        self.of_client += 1;
        self.push(async move {
            let fresh = match identity {
                Some(identity) if !identity.anonymous => auth.refresh(&identity, &token).await,
                _ => {
                    let first = auth.verify(&token).await;
                    let is_refused = first.as_ref().is_err_and(|error| !error.is_ours());
                    if let Some(delay) = is_refused.then(|| limits.count_refusal(client, &token)).flatten() {
                        delay.wait().await;
                    }
                    first
                }
            };
            Done::Refreshed(fresh.map(Box::new))
        });
    }

    /// Publishes an event of the client. Without an identity it is forbidden.
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

async fn grant(auth: &Auth, principal: &Principal, channel: &Channel) -> Result<Grant, BrokerError> {
    match principal {
        Principal::User(identity) => auth.grant(identity, channel).await,
        Principal::Public => Ok(Grant::Granted),
        Principal::Pending => Ok(Grant::Denied),
    }
}

async fn may_read(auth: &Auth, principal: &Principal, channel: &Channel) -> Result<bool, BrokerError> {
    Ok(grant(auth, principal, channel).await? == Grant::Granted)
}

async fn list(
    auth: &Auth,
    identity: &Identity,
    namespace: &str,
    listed: Vec<Channel>,
) -> Result<Vec<Channel>, BrokerError> {
    let mut granted = auth.granted(identity, namespace).await?;
    let known: HashSet<&Channel> = granted.iter().collect();
    let missing = listed.into_iter().filter(|channel| !known.contains(channel)).collect();
    granted.extend(auth.still_granted(identity, missing).await?);
    Ok(granted)
}

/// Reads something of a channel; `None` if the principal may not read the channel.
///
/// Checks the grant before the read, so that nothing is read without one, and after it: meanwhile the channel may have
/// got another owner, and the answer may hold what the new owner wrote.
pub(super) async fn if_granted<T, F>(
    auth: &Auth,
    principal: &Principal,
    channel: &Channel,
    read: impl Fn() -> F,
) -> Option<T>
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

/// Tries until the broker answers. `broker.patience` bounds how long the socket waits.
async fn retrying<T, F: Future<Output = Result<T, BrokerError>>>(read: impl Fn() -> F) -> T {
    loop {
        match read().await {
            Ok(answer) => return answer,
            Err(_) => pause().await,
        }
    }
}

/// The pause between tries; random, so that waiting sockets do not try again at the same moment.
async fn pause() {
    tokio::time::sleep(RETRY / 2 + RETRY.mul_f64(fastrand::f64() / 2.0)).await;
}
