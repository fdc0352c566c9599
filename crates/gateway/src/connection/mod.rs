//! One connection, a socket or an event stream, from its opening to the last byte.
//!
//! [`run`] reads from top to bottom: open, loop, clean up. The loop (`driver.rs`) takes one wakeup at a time
//! (`wakeup.rs`): a client's message, entries, a finished job, a flag, a deadline. It asks the dialect what to do, and
//! does it (`actions.rs`). Most entries are delivered by a fan-out worker of the hub instead, which does the same
//! without waking the task.

mod actions;
mod admission;
mod coarse_timer;
mod compressed;
mod conflate;
mod deadlines;
mod delivery_metrics;
mod driver;
mod jobs;
mod live_sessions;
mod principal;
mod queue;
mod registry;
mod scratch;
mod subscriptions;
mod takeover;
#[cfg(test)]
mod tests;
mod wakeup;

use std::{borrow::Cow, sync::Arc};

use crewcast_events::Namespaces;
use crewcast_websocket::{close::CloseCode, decode::Message, deflate::Compression};
use tokio::{
    sync::watch,
    time::{Duration, Instant},
};

use crate::{
    adoption::CrewWatches,
    auth::{Auth, AuthError, Grant, Identity},
    config::Limits,
    dashboards::Dashboards,
    dialect::{Actions, Denied, Dialect, control},
    drain::DrainController,
    hub::{Flag, Hub, Notifier, WindowPosition},
    limits::{Bucket, ConnectionLimits, Rate},
    outbox::Outbox,
    publishing::Publishing,
    relay::LinkState,
    replay::{ChannelReads, History},
    stats::{UsageCounters, UsageGuard},
    telemetry::metrics::{Metric, counter, gauge},
};
pub(crate) use admission::Admission;
pub(crate) use coarse_timer::CoarseTimer;
use deadlines::Deadlines;
use driver::{SharedConnection, TaskGuard};
use jobs::{Done, GrantRequest, Jobs};
pub(crate) use principal::Principal;
pub(crate) use registry::{ConnectionRegistry, Registration};
use subscriptions::Subscriptions;
pub(crate) use takeover::ClientSessions;
use takeover::Takeover;
use wakeup::Wakeup;

/// The code in the metrics for a peer that left without a close frame (RFC 6455, section 7.4.1).
const LOST: &str = "1006";

/// What all connections of this replica share.
pub(crate) struct ConnectionContext {
    /// Channels in memory.
    pub hub: Arc<Hub>,
    /// The log.
    pub history: Arc<History>,
    /// The aggregated documents of the orgs.
    pub dashboards: Arc<Dashboards>,
    /// Reads of channels other than their events in order: state, snapshots, tails.
    pub channel_reads: Arc<ChannelReads>,
    /// The clients that have one socket at a time.
    pub client_sessions: Arc<ClientSessions>,
    /// Tokens and grants.
    pub auth: Arc<Auth>,
    /// Publishes of clients.
    pub publishing: Arc<Publishing>,
    /// Has the events of crews read that may name a run.
    pub crew_watches: Arc<CrewWatches>,
    /// Usage counters of each org.
    pub usage: Arc<UsageCounters>,
    /// The rules of each namespace.
    pub namespaces: Namespaces,
    /// The state of the link to the broker.
    pub link: watch::Receiver<LinkState>,
    /// All open connections.
    pub connections: Arc<ConnectionRegistry>,
    /// Wakes connections for their deadlines.
    pub timer: Arc<CoarseTimer>,
    /// The drain of this replica.
    pub drain: DrainController,
    /// The configured limits.
    pub limits: Limits,
    /// Admission of connections.
    pub connection_limits: ConnectionLimits,
    /// How many messages a client may send on one socket.
    pub message_rate: Rate,
    /// How long sockets wait for a broker that is away (`broker.patience`).
    pub patience: Duration,
    /// How events are compressed; `None`: compression is off.
    pub compression: Option<Compression>,
}

/// Why and how a connection ends.
type End = (CloseCode, Cow<'static, str>);

/// The close code for a token that was refused.
pub(crate) fn close_code(error: &AuthError) -> CloseCode {
    match error.close_code() {
        4403 => CloseCode::Forbidden,
        1013 => CloseCode::Overloaded,
        _ => CloseCode::Unauthorized,
    }
}

struct Connection<O> {
    shared: Arc<ConnectionContext>,
    principal: Principal,
    dialect: Box<dyn Dialect>,
    outbox: O,
    /// The compressed messages that the peer received last.
    window_position: Option<Box<WindowPosition>>,
    notifier: Arc<Notifier>,
    subscriptions: Subscriptions,
    jobs: Jobs,
    deadlines: Deadlines,
    messages: Bucket,
    admission: Admission,
    /// Held while the connection is open.
    registration: Option<Registration>,
    usage: Option<UsageGuard>,
    /// Set if its client has one socket at a time.
    takeover: Option<Box<Takeover>>,
    actions: Actions,
    reported_link_down: bool,
    peer_gone: bool,
    end: Option<Box<End>>,
}

/// Serves one socket until it ends.
///
/// Not an `async fn`: its future would keep the arguments in addition to the connection made of them, for each idle
/// socket.
pub(crate) fn run<O: Outbox>(
    shared: Arc<ConnectionContext>,
    outbox: O,
    principal: Principal,
    dialect: Box<dyn Dialect>,
    admission: Admission,
) -> impl Future<Output = ()> + Send + 'static {
    live(TaskGuard(SharedConnection::new(Box::new(Connection::new(shared, outbox, principal, dialect, admission)))))
}

async fn live<O: Outbox>(connection: TaskGuard<O>) {
    connection.0.begin(|connection| {
        let label = connection.dialect.label();
        gauge(Metric::Connections, &[("dialect", label)]).increment(1.0);
        counter(Metric::ConnectionsOpened, &[("dialect", label)]).increment(1);
        connection.enter();
        connection.open();
    });
    let Some(mut connection) = connection.0.ended().await else { return };
    (connection.registration, connection.takeover, connection.usage) = (None, None, None);
    connection.flush_on_close();
    if connection.ends_well() {
        // In a box, so that the future of an idle connection stays small.
        Box::pin(connection.flush_rest()).await;
    }
    Box::pin(connection.clean_up()).await;
}

impl<O: Outbox> Connection<O> {
    fn new(
        shared: Arc<ConnectionContext>,
        outbox: O,
        principal: Principal,
        dialect: Box<dyn Dialect>,
        admission: Admission,
    ) -> Self {
        let notifier = Arc::new(Notifier::default());
        let expires_at = principal.identity().and_then(|identity| identity.expires_at);
        Self {
            subscriptions: Subscriptions::new(notifier.clone()),
            deadlines: Deadlines::new(dialect.heartbeat(), shared.limits.stall, expires_at, O::EXPECTS_PONG),
            messages: Bucket::new(Instant::now()),
            jobs: Jobs::default(),
            actions: Vec::new(),
            reported_link_down: false,
            peer_gone: false,
            end: None,
            registration: None,
            usage: None,
            takeover: None,
            window_position: None,
            shared,
            principal,
            dialect,
            outbox,
            notifier,
            admission,
        }
    }

    /// Enters the registry, which control messages go through, and the usage counters, both under the current org.
    fn enter(&mut self) {
        self.registration = Some(self.shared.connections.register(self.notifier.clone(), self.org()));
        let usage = self.shared.usage.enter(self.org(), self.admission.endpoint.clone());
        self.subscriptions.metrics.set_org(usage.of().clone());
        self.usage = Some(usage);
    }

    fn open(&mut self) {
        // A revocation before this socket entered the registry did not reach it.
        if let Some(Err(error)) = self.principal.identity().map(|identity| self.shared.auth.revalidate(identity)) {
            return self.close(close_code(&error), error.reason());
        }
        self.dialect.on_open(self.principal.identity(), &mut self.actions);
        self.check_claims();
        self.perform();
        // The link and the drain may have changed before this socket entered the registry.
        self.check_link();
        self.perform();
        if self.shared.drain.is_draining() {
            self.notifier.raise(Flag::Drain);
        }
    }

    fn handle(&mut self, wakeup: Wakeup) {
        match wakeup {
            Wakeup::Message(message) => self.on_message(message),
            Wakeup::Violation(error) => self.close(error.close_code(), error.to_string()),
            Wakeup::PeerGone => {
                self.peer_gone = true;
                self.close(CloseCode::Goodbye, "");
            }
            Wakeup::Entries => self.pull(),
            Wakeup::Flags => self.on_flags(),
            Wakeup::Done(done) => self.on_done(done),
            Wakeup::Deadline => self.on_deadline(Instant::now()),
        }
        self.perform();
    }

    fn on_message(&mut self, message: Message) {
        let now = Instant::now();
        self.deadlines.heard(now);
        // Control frames count too: each costs as much as a message.
        if !self.messages.take(&self.shared.message_rate, now) {
            return self.dialect.on_too_often(&mut self.actions);
        }
        match message {
            Message::Text(text) => self.dialect.on_client(&text, &mut self.actions),
            Message::Ping(payload) => self.outbox.pong(&payload),
            Message::Pong(_) => {}
            Message::Close(_) => self.close(CloseCode::Goodbye, ""),
        }
    }

    /// Moves entries from the rings to the outbox, until there are no more or its high-water mark is reached.
    fn pull(&mut self) {
        while self.end.is_none() && self.outbox.queued_bytes() < O::HIGH_WATER {
            let is_done = !self.subscriptions.read_next(&mut *self.dialect, &mut self.actions);
            self.perform();
            self.subscriptions.request_page(&mut self.jobs, &self.shared);
            if is_done {
                break;
            }
        }
    }

    fn on_flags(&mut self) {
        if self.notifier.take(Flag::Timer) {
            self.deadlines.timer_fired();
        }
        if self.notifier.take(Flag::Grants) {
            self.review_grants();
        }
        if self.notifier.take(Flag::TakenOver) {
            return self.close(CloseCode::Replaced, CloseCode::Replaced.reason());
        }
        if self.notifier.take(Flag::Link) {
            self.check_link();
        }
        if self.notifier.take(Flag::Drain) {
            self.deadlines.leave_in(self.admission.leave.moment());
        }
    }

    fn review_grants(&mut self) {
        if let Some(identity) = self.principal.identity() {
            if let Err(error) = self.shared.auth.revalidate(identity) {
                return self.close(close_code(&error), error.reason());
            }
            self.subscriptions.review(&self.principal, &mut self.jobs, &self.shared);
        }
    }

    fn check_link(&mut self) {
        let state = *self.shared.link.borrow();
        match state {
            LinkState::Up => {
                self.deadlines.give_up_at(None);
                if std::mem::take(&mut self.reported_link_down) {
                    self.dialect.on_notice(&control::broker(true), &mut self.actions);
                }
            }
            LinkState::Down(since) => {
                self.deadlines.give_up_at(Some(since + self.shared.patience));
                if !std::mem::replace(&mut self.reported_link_down, true) {
                    self.dialect.on_notice(&control::broker(false), &mut self.actions);
                }
            }
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Page { reader_ref, page } => {
                self.subscriptions.take_page(reader_ref, page.as_deref(), &mut *self.dialect, &mut self.actions);
            }
            Done::Fetched { channel, offset, page } => {
                let entry = page.entries.first().filter(|entry| entry.id().is_some_and(|id| id.offset() == offset));
                let event = entry.and_then(|entry| entry.event()).cloned();
                self.dialect.on_fetched(&channel, event, &mut self.actions);
            }
            Done::Snapshot { channel, state } => self.dialect.on_snapshot(&channel, &state, &mut self.actions),
            Done::Dashboard { dashboard, seen: Some((watching, frame)) } => {
                // A peer that does not read gets a newer document later.
                if self.outbox.queued_bytes() < O::HIGH_WATER {
                    self.dialect.on_dashboard(&frame, &mut self.actions);
                }
                self.watch(dashboard, Some(watching));
            }
            Done::Dashboard { seen: None, .. } => self.close(CloseCode::Internal, "internal error"),
            Done::Denied(channel) => self.dialect.on_refused(Denied::Channel(&channel), &mut self.actions),
            Done::State { channel, state } => {
                self.dialect.on_state(&channel, state.as_deref(), &mut self.actions);
            }
            Done::Tail { channel, tail } => self.dialect.on_tail(&channel, tail.as_deref(), &mut self.actions),
            Done::ClientRegistered(number) => self.takeover.iter().for_each(|takeover| takeover.registered(number)),
            Done::Granted { key, channel, .. } if !self.subscriptions.is_current(key, &channel) => {}
            Done::Granted { key, channel, result } => match result {
                Ok(Grant::Granted) => self.subscriptions.grant(key, &self.shared),
                Ok(Grant::Pending) if self.subscriptions.may_wait(key) => {
                    if self.subscriptions.wait_for_owner(key, self.org(), &self.shared) {
                        self.dialect.on_pending(&channel, &mut self.actions);
                    }
                }
                Ok(Grant::Pending | Grant::Denied) => {
                    self.subscriptions.refuse(&channel);
                    self.dialect.on_refused(Denied::Channel(&channel), &mut self.actions);
                }
                // The socket waits for the broker until `broker.patience` ends. Channels that it reads already go on.
                Err(_) => self.jobs.request_grant(&self.shared, &self.principal, GrantRequest::again(key, channel)),
            },
            Done::Listed { namespace, result } => match result {
                Ok(channels) => {
                    let dialect = &mut *self.dialect;
                    if self.subscriptions.list(namespace, channels, dialect, &self.shared, &mut self.actions) {
                        // The directory changed during the read.
                        self.jobs.list(
                            &self.shared,
                            &self.principal,
                            GrantRequest::now(0, namespace),
                            self.subscriptions.listed(),
                        );
                    }
                }
                Err(_) => self.jobs.list(
                    &self.shared,
                    &self.principal,
                    GrantRequest::again(0, namespace),
                    self.subscriptions.listed(),
                ),
            },
            Done::Refreshed(result) => self.on_token(result.map(|identity| *identity)),
            Done::Published { reference, published } => {
                self.dialect.on_published(reference, published, &mut self.actions);
            }
        }
    }

    fn org(&self) -> Option<Arc<str>> {
        self.principal.identity().and_then(|identity| identity.org.clone())
    }

    fn on_token(&mut self, result: Result<Identity, AuthError>) {
        let was_unidentified = self.principal.is_unidentified();
        let fresh = match result {
            Ok(fresh) => fresh,
            Err(error) if was_unidentified => return self.dialect.on_bad_token(&error, &mut self.actions),
            Err(error) => return self.close(close_code(&error), error.reason()),
        };
        if was_unidentified {
            match self.shared.connection_limits.identify(&fresh.sub) {
                Ok(user) => self.admission.user = Some(user),
                Err(limit) => return self.close(CloseCode::TooMany, limit.to_string()),
            }
        }
        self.deadlines.expires_at(fresh.expires_at);
        self.principal = Principal::User(fresh.clone());
        if was_unidentified {
            self.enter();
        }
        self.review_grants();
        self.dialect.on_identity(&fresh, &mut self.actions);
        if was_unidentified {
            self.check_claims();
        }
    }

    /// Tells a client whose token grants nothing here. What sockets without a token may read is up to the operator.
    fn check_claims(&mut self) {
        let Some(identity) = self.principal.identity().filter(|identity| !identity.anonymous) else { return };
        let missing = identity.missing(self.dialect.granting_claims());
        if !missing.is_empty() {
            self.dialect.on_notice(&control::nothing_granted(&missing), &mut self.actions);
        }
    }

    fn on_deadline(&mut self, now: Instant) {
        if self.deadlines.has_expired(now) {
            return self.close(CloseCode::Unauthorized, "token expired");
        }
        if self.deadlines.missed_pong(now) {
            return self.close(CloseCode::Stalled, "no pong: reconnect and resume");
        }
        if self.deadlines.has_stalled(now, self.outbox.written_bytes(), self.outbox.queued_bytes() > 0) {
            return self.close(CloseCode::Stalled, "the reader makes no progress: reconnect and resume");
        }
        if self.deadlines.has_given_up(now) {
            return self.close(CloseCode::Overloaded, "the broker is away: reconnect with backoff");
        }
        if self.deadlines.leaves(now) {
            let reconnect = control::reconnect(self.admission.leave.reconnect_hint_ms());
            self.dialect.on_notice(&reconnect, &mut self.actions);
            self.perform();
            return self.close(CloseCode::GoingAway, "this replica is going away: reconnect and resume");
        }
        if self.deadlines.pings(now) {
            self.outbox.ping();
        }
        if self.deadlines.beats(now) {
            self.dialect.on_heartbeat(&mut self.subscriptions.positions(), &mut self.actions);
        }
        if self.deadlines.wakes_dialect(now) {
            self.dialect.on_timer(now, &mut self.actions);
        }
    }

    fn close(&mut self, code: CloseCode, reason: impl Into<Cow<'static, str>>) {
        if self.end.is_none() {
            self.end = Some(Box::new((code, reason.into())));
        }
    }

    /// Whether everything queued is written before the close: the end is orderly and the peer is still there.
    fn ends_well(&self) -> bool {
        !self.peer_gone
            && self.end.as_ref().is_some_and(|end| matches!(end.0, CloseCode::RunCompleted | CloseCode::GoingAway))
    }

    /// Releases everything, then closes the outbox.
    fn clean_up(self) -> impl Future<Output = ()> + Send + 'static {
        let (code, reason) = self.end.map_or((CloseCode::Internal, Cow::Borrowed("internal error")), |end| *end);
        // Counted before the close, which waits for the peer: a replica whose sockets all stall shows it at once.
        let code_label = if self.peer_gone { LOST } else { code.label() };
        counter(Metric::ConnectionsClosed, &[("dialect", self.dialect.label()), ("code", code_label)]).increment(1);
        let (goodbye, admission, label) = (self.outbox.close(code, &reason), self.admission, self.dialect.label());
        async move {
            goodbye.await;
            drop(admission);
            gauge(Metric::Connections, &[("dialect", label)]).decrement(1.0);
        }
    }
}
