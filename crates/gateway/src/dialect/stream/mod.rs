//! Dialect `stream`: many channels on one socket, each event in an envelope that names its channel.
//!
//! Subscriptions add up: a channel is read once, however many of them cover it, and an event that several accept is
//! sent once. A channel that no answered subscription covers is paused (`is_paused`): its events wait in the ring, so
//! none is sent before `subscribed`.

mod answers;
mod channels;
mod filter;
mod request;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc, time::Duration};

use crewcast_events::{Channel, Event, EventId, Since};
use tokio::time::Instant;

use super::{Action, Actions, Conflated, Denied, Dialect, INTRODUCTION, NotPublished, Positions, control, encoding};
use crate::{
    auth::{AuthError, Claim, Identity},
    hub::Entry,
    replay::{Opening, Start},
};
use channels::Channels;
use crewcast_websocket::close::CloseCode;
use filter::{ChannelScope, Keys, STREAMS};
use request::{Command, Ref, RequestError, StreamRequest};

/// How often a `ping` with the positions is sent.
const HEARTBEAT: Duration = Duration::from_secs(45);
/// A socket is closed after this many rate-limited messages in a row.
const MAX_TOO_OFTEN: u32 = 10;
/// How often the same subscription may be requested before its first answer.
const MAX_DUE: usize = 16;

/// Any of these grants a channel to read or to publish to.
const GRANTING_CLAIMS: [Claim; 7] =
    [Claim::Org, Claim::Crews, Claim::Runs, Claim::Streams, Claim::Sessions, Claim::Channels, Claim::Publish];

/// One socket of the dialect.
pub(crate) struct StreamDialect {
    /// Whether the client's identity is known: from the handshake, the first message, or `auth.anonymous`.
    is_introduced: bool,
    /// `limits.subscriptions`.
    max_subscriptions: usize,
    /// Whether a further subscription without a `ref` ends those before it (`stream.subscribe`).
    replaces: bool,
    subscriptions: Vec<Subscription>,
    channels: Channels,
    /// The `ref` of the `auth` under way. The client's next messages wait for its answer.
    authenticating: Option<Option<Ref>>,
    /// The publish under way, likewise.
    publishing: Option<(Channel, Option<Ref>)>,
    too_often: u32,
}

struct Subscription {
    keys: Keys,
    /// Whether it has been answered: its events are sent.
    is_active: bool,
    /// The `ref`s of the requests for it that are not answered yet.
    due: Vec<Option<Ref>>,
}

impl StreamDialect {
    /// A socket with at most this many subscriptions.
    pub(crate) fn new(max_subscriptions: usize, replaces: bool) -> Self {
        Self {
            is_introduced: false,
            max_subscriptions,
            replaces,
            subscriptions: Vec::new(),
            channels: Channels::default(),
            authenticating: None,
            publishing: None,
            too_often: 0,
        }
    }

    /// Whether the client still has to send its token. One that came in time may take longer to verify.
    fn awaits_token(&self) -> bool {
        !self.is_introduced && self.authenticating.is_none()
    }

    fn act(&mut self, command: Command, reference: Option<Ref>, out: &mut Actions) -> Result<(), RequestError> {
        match command {
            Command::Auth(token) => {
                self.authenticating = Some(reference);
                out.push(Action::Authenticate(token));
            }
            Command::Ping => out.push(answers::pong(reference.as_ref())),
            Command::Pong => {}
            Command::Subscribe { keys, since } => return self.subscribe(keys, since, reference, out),
            Command::Unsubscribe(keys) => self.unsubscribe(keys, reference.as_ref(), out),
            Command::Publish { channel, event } => {
                self.publishing = Some((channel.clone(), reference));
                out.push(Action::Publish { channel, event, reference: 0 });
            }
        }
        Ok(())
    }

    fn subscribe(
        &mut self,
        keys: Keys,
        since: Option<Since>,
        reference: Option<Ref>,
        out: &mut Actions,
    ) -> Result<(), RequestError> {
        let was_read = self.subscriptions.iter().any(|subscription| subscription.keys.scope == keys.scope);
        let known = self.subscriptions.iter().position(|subscription| subscription.keys == keys);
        let replaces = self.replaces && reference.is_none();
        let is_too_much = match known {
            Some(known) => self.subscriptions[known].due.len() >= MAX_DUE,
            None => self.subscriptions.len() >= self.max_subscriptions && !replaces,
        };
        if is_too_much {
            let message = format!("a socket has at most {} subscriptions: end one", self.max_subscriptions);
            return Err(RequestError::new("too_many_subscriptions", message));
        }
        match &keys.scope {
            ChannelScope::Channel(channel) if since.is_some() || !was_read => {
                self.channels.ask(channel, since);
                let start = since.map_or(Start::Retained, Start::Since);
                out.push(Action::Subscribe { channel: channel.clone(), start });
            }
            ChannelScope::Streams if !was_read => out.push(Action::SubscribeAll {
                namespace: STREAMS,
                start: Start::Retained,
                appearing: Start::Since(Since::Beginning),
            }),
            _ => {}
        }
        let asked = known.unwrap_or(self.subscriptions.len());
        match known {
            Some(known) => self.subscriptions[known].due.push(reference),
            None => self.subscriptions.push(Subscription { keys, is_active: false, due: vec![reference] }),
        }
        if replaces {
            self.end_others(asked, out);
        }
        self.settle(out);
        Ok(())
    }

    /// Answers the subscriptions whose channels are all open by now, or wait for an owner.
    fn settle(&mut self, out: &mut Actions) {
        let is_ready = |s: &Subscription| !s.due.is_empty() && self.channels.are_settled(&s.keys.scope);
        let ready: Vec<usize> = (0..).zip(&self.subscriptions).filter(|(_, s)| is_ready(s)).map(|(n, _)| n).collect();
        let mut begins = false;
        for &n in &ready {
            self.answer(n, out);
            begins |= !std::mem::replace(&mut self.subscriptions[n].is_active, true);
        }
        for &n in &ready {
            let retained = self.channels.take_retained(&self.subscriptions[n].keys.scope);
            self.deliver_retained(retained, out);
        }
        if begins {
            out.push(Action::Resume);
        }
    }

    fn deliver_retained(&self, retained: Vec<(Channel, Arc<Entry>)>, out: &mut Actions) {
        for (channel, entry) in retained {
            self.deliver(&channel, &entry, out);
        }
    }

    /// Answers each request for a subscription with `subscribed`.
    fn answer(&mut self, n: usize, out: &mut Actions) {
        let subscription = &mut self.subscriptions[n];
        let due = std::mem::take(&mut subscription.due);
        if due.is_empty() {
            return;
        }
        let positions = self.channels.positions(&subscription.keys.scope);
        let pending = self.channels.pending(&subscription.keys.scope);
        let keys = &subscription.keys.text;
        let answer = |reference: &Option<Ref>| answers::subscribed(keys, &positions, pending, reference.as_ref());
        out.extend(due.iter().map(answer));
    }

    /// Ends every subscription but the one at `kept`.
    fn end_others(&mut self, kept: usize, out: &mut Actions) {
        let last = self.subscriptions.len().saturating_sub(1);
        self.subscriptions.swap(kept, last);
        for n in (0..last).rev() {
            self.end(n, out);
        }
    }

    fn end(&mut self, n: usize, out: &mut Actions) {
        // Every request gets its answer, also one that is ended before.
        self.answer(n, out);
        let gone = self.subscriptions.remove(n);
        self.release(&gone.keys.scope, out);
    }

    fn unsubscribe(&mut self, keys: Option<Keys>, reference: Option<&Ref>, out: &mut Actions) {
        let mut n = 0;
        while n < self.subscriptions.len() {
            if keys.as_ref().is_some_and(|keys| self.subscriptions[n].keys != *keys) {
                n += 1;
            } else {
                self.end(n, out);
            }
        }
        self.settle(out);
        out.push(answers::unsubscribed(keys.as_ref().map_or("", |keys| &keys.text), reference));
    }

    /// Stops reading the channels of a scope that no subscription covers any more.
    fn release(&mut self, scope: &ChannelScope, out: &mut Actions) {
        if self.subscriptions.iter().any(|subscription| subscription.keys.scope == *scope) {
            return;
        }
        match scope {
            ChannelScope::Channel(channel) => {
                self.channels.unname(channel);
                out.push(Action::Unsubscribe(channel.clone()));
            }
            ChannelScope::Streams => {
                let subscriptions = &self.subscriptions;
                self.channels.unlist(|channel| {
                    subscriptions
                        .iter()
                        .any(|s| matches!(&s.keys.scope, ChannelScope::Channel(named) if named == channel))
                });
                out.push(Action::UnsubscribeAll { namespace: STREAMS });
            }
        }
    }

    /// The answered subscriptions that cover this channel.
    fn active<'a>(&'a self, channel: &'a Channel) -> impl Iterator<Item = &'a Subscription> {
        let of_channel = |s: &&Subscription| s.is_active && self.channels.is_in(channel, &s.keys.scope);
        self.subscriptions.iter().filter(of_channel)
    }

    fn deliver(&self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions) {
        match entry.event() {
            Some(event) => {
                if self.active(channel).any(|subscription| subscription.keys.let_through(event)) {
                    let frame = entry.encoded(encoding::STREAM, || answers::event(channel, event));
                    out.push(Action::Deliver(frame, encoding::STREAM, entry.clone()));
                }
            }
            None => out.extend(control::mark(channel, entry.item()).map(|text| Action::Send(control::frame(&text)))),
        }
    }
}

impl Dialect for StreamDialect {
    fn label(&self) -> &'static str {
        "stream"
    }

    fn heartbeat(&self) -> Option<Duration> {
        Some(HEARTBEAT)
    }

    fn on_open(&mut self, identity: Option<&Identity>, out: &mut Actions) {
        self.is_introduced = identity.is_some();
        if !self.is_introduced {
            out.push(Action::WakeAt(Instant::now() + INTRODUCTION));
        }
    }

    fn granting_claims(&self) -> &'static [Claim] {
        &GRANTING_CLAIMS
    }

    fn on_identity(&mut self, identity: &Identity, out: &mut Actions) {
        self.is_introduced = true;
        let reference = self.authenticating.take().flatten();
        out.push(answers::authenticated(identity, reference.as_ref()));
    }

    fn on_bad_token(&mut self, error: &AuthError, out: &mut Actions) {
        let code = if error.is_ours() { CloseCode::Overloaded } else { CloseCode::Policy };
        out.push(Action::Close(code, Cow::Owned(format!("auth failed: {}", error.reason()))));
    }

    fn on_refused(&mut self, denied: Denied<'_>, out: &mut Actions) {
        // Only channels are requested by name in this dialect.
        let Denied::Channel(channel) = denied else { return };
        let refusal = RequestError::new("forbidden", "the token does not grant this channel: ask for access");
        let is_of = |s: &Subscription| matches!(&s.keys.scope, ChannelScope::Channel(named) if named == channel);
        for gone in self.subscriptions.extract_if(.., |subscription| is_of(subscription)) {
            if gone.due.is_empty() {
                out.push(answers::error(&refusal, Some(channel), None));
            }
            out.extend(gone.due.iter().map(|due| answers::error(&refusal, Some(channel), due.as_ref())));
        }
        self.channels.remove(channel);
        self.settle(out);
    }

    fn on_pending(&mut self, channel: &Channel, out: &mut Actions) {
        self.channels.wait(channel);
        self.settle(out);
    }

    fn on_listed(&mut self, _namespace: &'static str, channels: &mut dyn Iterator<Item = &Channel>, out: &mut Actions) {
        self.channels.list(channels);
        self.settle(out);
    }

    fn is_paused(&self, channel: &Channel) -> bool {
        self.active(channel).next().is_none()
    }

    fn on_published(&mut self, _reference: u64, published: Result<Option<EventId>, NotPublished>, out: &mut Actions) {
        let Some((channel, reference)) = self.publishing.take() else { return };
        let refusal = match published {
            Ok(id) => return out.push(answers::published(&channel, id, reference.as_ref())),
            Err(NotPublished::Forbidden) => {
                RequestError::new("forbidden", "the token does not grant publishing to this channel: ask for access")
            }
            Err(NotPublished::Bad(why)) => RequestError::new("bad_message", why),
            Err(NotPublished::Unavailable) => RequestError::new(
                "broker_unavailable",
                "the broker did not answer: the event may or may not be published",
            ),
        };
        out.push(answers::error(&refusal, Some(&channel), reference.as_ref()));
    }

    fn on_too_often(&mut self, out: &mut Actions) {
        self.too_often += 1;
        let refusal = RequestError::new("rate_limited", "too many messages: this one was not looked at; send fewer");
        out.push(answers::error(&refusal, None, None));
        if self.too_often >= MAX_TOO_OFTEN {
            out.push(Action::Close(CloseCode::TooMany, Cow::Borrowed("too many messages")));
        }
    }

    fn on_channel(&mut self, channel: &Channel, opening: &Opening, out: &mut Actions) {
        let was_pending = self.channels.open(channel, opening);
        self.settle(out);
        if was_pending {
            // Its subscription was answered before.
            let retained = self.channels.take_retained(&ChannelScope::Channel(channel.clone()));
            self.deliver_retained(retained, out);
        }
    }

    fn on_entry(&mut self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions) {
        self.channels.stand_at(channel, entry.position());
        self.deliver(channel, entry, out);
    }

    fn may_conflate(&self, channel: &Channel, event: &Event) -> bool {
        self.active(channel).any(|subscription| subscription.keys.let_through(event))
    }

    fn on_conflated(&mut self, channel: &Channel, skipped: Conflated, out: &mut Actions) {
        self.channels.stand_at(channel, skipped.position);
        self.on_notice(&control::skipped(channel, skipped), out);
    }

    fn on_caught_up(&mut self, channel: &Channel, position: Option<EventId>, _out: &mut Actions) {
        self.channels.stand_at(channel, position);
    }

    fn on_channel_gone(&mut self, channel: &Channel, out: &mut Actions) {
        self.channels.remove(channel);
        self.settle(out);
    }

    fn on_client(&mut self, text: &str, out: &mut Actions) {
        self.too_often = 0;
        let StreamRequest { reference, asked } = StreamRequest::read(text);
        if self.awaits_token() && !matches!(asked, Ok(Command::Auth(_))) {
            return out.push(auth_required());
        }
        let done = asked.and_then(|asked| self.act(asked, reference.clone(), out));
        if let Err(refusal) = done {
            out.push(answers::error(&refusal, None, reference.as_ref()));
        }
    }

    fn on_heartbeat(&mut self, positions: Positions<'_, '_>, out: &mut Actions) {
        out.push(Action::Send(control::frame(&control::ping(positions))));
    }

    fn on_timer(&mut self, _now: Instant, out: &mut Actions) {
        if self.awaits_token() {
            out.push(auth_required());
        }
    }
}

fn auth_required() -> Action {
    Action::Close(CloseCode::Policy, Cow::Borrowed("Auth required"))
}
