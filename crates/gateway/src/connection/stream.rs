//! One event stream over plain HTTP: the same subscriptions, jobs and deadlines as a socket's, but a body
//! to write to and nobody to listen to.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::{
    sync::mpsc,
    time::{Duration, Instant},
};
use tokio_util::sync::PollSender;

use super::{
    Admission, ConnectionContext, Principal, close_code,
    deadlines::Deadlines,
    jobs::{Done, GrantRequest, Jobs},
    subscriptions::Subscriptions,
};
use crate::{
    auth::Identity,
    dialect::{Action, Actions, Dialect, control, sse::control_event},
    hub::{Flag, Notifier},
    relay::LinkState,
    telemetry::metrics::{Metric, counter, gauge},
    transport::close::CloseCode,
};

/// A body's chunks end when they pass this many bytes.
const CHUNK: usize = 64 << 10;
/// Chunks that wait for the client at most: behind them the reader is a cursor again.
pub const CHUNKS: usize = 2;
/// How long the last words of a stream that ends may take.
const FLUSH_ON_CLOSE: Duration = Duration::from_secs(5);

struct EventStream {
    shared: Arc<ConnectionContext>,
    identity: Identity,
    principal: Principal,
    dialect: Box<dyn Dialect>,
    notifier: Arc<Notifier>,
    subscriptions: Subscriptions,
    jobs: Jobs,
    deadlines: Deadlines,
    actions: Actions,
    pending: BytesMut,
    body: PollSender<Bytes>,
    client_gone: BoxFuture<'static, ()>,
    written: u64,
    reported_link_down: bool,
    is_over: bool,
    /// How its end is counted: as a socket's would be.
    code: CloseCode,
    admission: Admission,
}

/// The client has closed the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ClientGone;

enum Wakeup {
    Entries,
    Flags,
    Done(Done),
    Deadline,
    ClientGone,
}

/// Serves one event stream into `body` until the client goes away or its grant ends.
pub async fn run_stream(
    shared: Arc<ConnectionContext>,
    body: mpsc::Sender<Bytes>,
    identity: Identity,
    dialect: Box<dyn Dialect>,
    admission: Admission,
) {
    let label = dialect.label();
    gauge(Metric::Connections, &[("dialect", label)]).increment(1.0);
    counter(Metric::ConnectionsOpened, &[("dialect", label)]).increment(1);
    let mut stream = EventStream::new(shared, body, identity, dialect, admission);
    let place = stream.shared.connections.enter(stream.notifier.clone(), stream.identity.org.clone());
    let counted = stream.shared.usage.enter(stream.identity.org.clone(), stream.admission.endpoint.clone());
    stream.subscriptions.metrics.of(counted.of().clone());
    stream.open();
    while !stream.is_over {
        let wakeup = stream.next_wakeup().await;
        stream.handle(wakeup);
    }
    stream.flush_rest().await;
    let code = stream.code.label();
    drop((stream, place, counted));
    gauge(Metric::Connections, &[("dialect", label)]).decrement(1.0);
    counter(Metric::ConnectionsClosed, &[("dialect", label), ("code", code)]).increment(1);
}

fn closed(body: mpsc::Sender<Bytes>) -> BoxFuture<'static, ()> {
    Box::pin(async move { body.closed().await })
}

impl EventStream {
    fn new(
        shared: Arc<ConnectionContext>,
        body: mpsc::Sender<Bytes>,
        identity: Identity,
        dialect: Box<dyn Dialect>,
        admission: Admission,
    ) -> Self {
        let notifier = Arc::new(Notifier::default());
        let deadlines = Deadlines::new(dialect.heartbeat(), shared.limits.stall, identity.expires_at).without_answers();
        Self {
            subscriptions: Subscriptions::new(notifier.clone()),
            deadlines,
            jobs: Jobs::default(),
            actions: Vec::new(),
            pending: BytesMut::new(),
            client_gone: closed(body.clone()),
            body: PollSender::new(body),
            written: 0,
            reported_link_down: false,
            is_over: false,
            code: CloseCode::Goodbye,
            shared,
            principal: Principal::User(identity.clone()),
            identity,
            dialect,
            notifier,
            admission,
        }
    }

    fn open(&mut self) {
        // What was revoked before this stream entered the crowd has told nobody.
        if let Err(error) = self.shared.auth.revalidate(&self.identity) {
            return self.end(close_code(&error), "unauthorized", &error.reason());
        }
        self.dialect.on_open(Some(&self.identity), &mut self.actions);
        self.perform();
        self.check_link();
        if self.shared.drain.is_draining() {
            self.notifier.raise(Flag::Drain);
        }
    }

    async fn next_wakeup(&mut self) -> Wakeup {
        poll_fn(|cx| {
            self.notifier.register(cx.waker());
            if self.client_gone.as_mut().poll(cx).is_ready() || self.poll_flush(cx) == Poll::Ready(Err(ClientGone)) {
                return Poll::Ready(Wakeup::ClientGone);
            }
            self.deadlines.watch_progress(self.written, !self.pending.is_empty());
            if self.deadlines.poll(cx, &self.shared.timer, &self.notifier).is_ready() {
                return Poll::Ready(Wakeup::Deadline);
            }
            if self.notifier.is_raised() {
                return Poll::Ready(Wakeup::Flags);
            }
            if let Poll::Ready(done) = self.jobs.poll(cx) {
                return Poll::Ready(Wakeup::Done(done));
            }
            if self.pending.is_empty() && self.subscriptions.have_entries() {
                return Poll::Ready(Wakeup::Entries);
            }
            Poll::Pending
        })
        .await
    }

    /// Hands what is pending to the body.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientGone>> {
        while !self.pending.is_empty() {
            match self.body.poll_reserve(cx) {
                Poll::Ready(Ok(())) => {
                    let chunk = self.pending.split().freeze();
                    self.written += chunk.len() as u64;
                    if self.body.send_item(chunk).is_err() {
                        return Poll::Ready(Err(ClientGone));
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(ClientGone)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What was still to be said, if the client takes it soon.
    async fn flush_rest(&mut self) {
        let flushing = poll_fn(|cx| self.poll_flush(cx));
        let _ = tokio::time::timeout(FLUSH_ON_CLOSE, flushing).await;
    }

    fn handle(&mut self, wakeup: Wakeup) {
        match wakeup {
            Wakeup::Entries => {
                while self.pending.len() < CHUNK && self.subscriptions.read_next(&mut *self.dialect, &mut self.actions)
                {
                    self.perform();
                }
                self.subscriptions.ask_for_page(&mut self.jobs, &self.shared);
            }
            Wakeup::Flags => self.on_flags(),
            Wakeup::Done(done) => self.on_done(done),
            Wakeup::Deadline => self.on_deadline(Instant::now()),
            Wakeup::ClientGone => self.is_over = true,
        }
        self.perform();
    }

    fn on_flags(&mut self) {
        if self.notifier.take(Flag::Timer) {
            self.deadlines.timer_fired();
        }
        if self.notifier.take(Flag::Grants) {
            if let Err(error) = self.shared.auth.revalidate(&self.identity) {
                return self.end(CloseCode::Unauthorized, "unauthorized", &error.reason());
            }
            self.subscriptions.review(&self.principal, &mut self.jobs, &self.shared);
        }
        if self.notifier.take(Flag::Link) {
            self.check_link();
        }
        if self.notifier.take(Flag::Drain) {
            self.deadlines.leave_in(self.admission.leave.moment());
        }
    }

    fn check_link(&mut self) {
        let state = *self.shared.link.borrow();
        let is_up = state == LinkState::Up;
        if self.reported_link_down == is_up {
            self.reported_link_down = !is_up;
            self.pending.extend_from_slice(&control_event(&control::broker(is_up)));
        }
        self.deadlines.give_up_at(match state {
            LinkState::Up => None,
            LinkState::Down(since) => Some(since + self.shared.patience),
        });
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Page { reader_ref, page } => {
                self.subscriptions.take_page(reader_ref, page.as_deref(), &mut *self.dialect, &mut self.actions);
            }
            Done::Granted { key, result: Ok(true), .. } => self.subscriptions.grant(key, &self.shared),
            Done::Granted { result: Ok(false), .. } => {
                self.end(CloseCode::Forbidden, "forbidden", "the token no longer grants a channel of this stream");
            }
            Done::Granted { key, channel, result: Err(_) } => {
                self.jobs.ask(&self.shared, &self.principal, GrantRequest::again(key, channel));
            }
            // An event stream never asks for these.
            Done::Fetched { .. }
            | Done::State { .. }
            | Done::Snapshot { .. }
            | Done::Dashboard { .. }
            | Done::NotGranted(_)
            | Done::Tail { .. }
            | Done::Announced(_)
            | Done::Listed { .. }
            | Done::Refreshed(_)
            | Done::Published { .. } => {}
        }
    }

    fn on_deadline(&mut self, now: Instant) {
        if self.deadlines.has_stalled(now, self.written, !self.pending.is_empty()) {
            self.code = CloseCode::Stalled;
            self.is_over = true;
            return;
        }
        if self.deadlines.has_expired(now) {
            return self.end(CloseCode::Unauthorized, "unauthorized", "token expired");
        }
        if self.deadlines.has_given_up(now) {
            return self.end(CloseCode::Overloaded, "broker_unavailable", "the broker is away: reconnect with backoff");
        }
        if self.deadlines.leaves(now) {
            let in_ms = self.admission.leave.reconnect_hint_ms();
            // EventSource waits this long before it comes back.
            self.pending.extend_from_slice(format!("retry: {in_ms}\n").as_bytes());
            self.pending.extend_from_slice(&control_event(&control::reconnect(in_ms)));
            self.code = CloseCode::GoingAway;
            self.is_over = true;
            return;
        }
        // The protocol-level ping is the socket's; here the heartbeat alone writes.
        self.deadlines.pings(now);
        if self.deadlines.beats(now) {
            self.dialect.on_heartbeat(&mut self.subscriptions.positions(), &mut self.actions);
        }
    }

    fn perform(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Send(text) => self.pending.extend_from_slice(&text),
                Action::Deliver(text, _, entry) => {
                    self.subscriptions.metrics.count(&text, &entry);
                    self.pending.extend_from_slice(&text);
                }
                Action::Subscribe { channel, start } => {
                    let key = self.subscriptions.ask(channel.clone(), start);
                    self.jobs.ask(&self.shared, &self.principal, GrantRequest::now(key, channel));
                }
                Action::WakeAt(at) => self.deadlines.wake_dialect_at(at),
                Action::Close(code, _) => {
                    self.code = code;
                    self.is_over = true;
                }
                // The dialect of event streams has no use for these.
                Action::DeliverBatch { .. }
                | Action::SubscribeAll { .. }
                | Action::SubscribeOwn { .. }
                | Action::Unsubscribe(_)
                | Action::Resume
                | Action::UnsubscribeAll { .. }
                | Action::Fetch { .. }
                | Action::ReadState { .. }
                | Action::ReadSnapshot { .. }
                | Action::Watch(_)
                | Action::ReadTail { .. }
                | Action::Replace { .. }
                | Action::Authenticate(_)
                | Action::Publish { .. } => {}
            }
        }
        self.subscriptions.metrics.flush(self.dialect.label());
    }

    /// The stream's head has long been answered with 200: why it ends can only be said in it.
    fn end(&mut self, code: CloseCode, word: &str, text: &str) {
        self.code = code;
        self.pending.extend_from_slice(&control_event(&control::error(word, text)));
        self.is_over = true;
    }
}
