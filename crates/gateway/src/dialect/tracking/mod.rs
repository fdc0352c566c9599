//! Dialect `tracking`: the activity of an org's agents, its active sessions, and the state and log of a session on
//! request.
//!
//! - `request.rs`: the client's messages
//! - `answers.rs`: the gateway's messages
//! - `list.rs`: the active sessions, sent when they change
//! - `streaming.rs`: one session's log
//! - `patience.rs`: keepalive and message rate

mod answers;
mod list;
mod patience;
mod request;
mod streaming;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc, time::Duration};

use crewcast_events::{Channel, Event, EventId, Field, Since, catalog::session::STATE_KEY};
use tokio::time::Instant;

use super::{Action, Actions, Denied, Dialect, client_input::MAX_REJECTED, control};
use crate::{
    auth::Identity,
    hub::Entry,
    replay::{Opening, Start, StateDocuments, Tail},
};
use crewcast_websocket::close::CloseCode;
use list::KnownSessions;
use patience::{Due, Keepalive, MessageRate};
pub(crate) use request::is_client_id;
use request::{Ignored, TrackingRequest};
use streaming::{ReadsLive, SentLines, Streaming};

/// The namespace of an org's agents and of its list of sessions.
const ORG: &str = "tracking";
/// The type of a line of a session's log.
const LINE: &str = "session_log";

/// One socket of this dialect.
pub(crate) struct TrackingDialect {
    /// The client's id, if a newer socket of it replaces this one.
    client: Option<String>,
    /// `tracking:<org>`, once it is open.
    org: Option<Channel>,
    list: KnownSessions,
    streaming: Option<Streaming>,
    sent: SentLines,
    keepalive: Keepalive,
    rate: MessageRate,
    misunderstood: u32,
}

impl TrackingDialect {
    /// A socket of the client with this id, which a newer one replaces; `None`: none does. A session is no longer
    /// active once its producer was silent for `session_ttl`.
    pub(crate) fn new(client: Option<String>, session_ttl: Duration) -> Self {
        let now = Instant::now();
        Self {
            client,
            org: None,
            list: KnownSessions::new(session_ttl),
            streaming: None,
            sent: SentLines::default(),
            keepalive: Keepalive::new(now),
            rate: MessageRate::new(now),
            misunderstood: 0,
        }
    }

    fn act(&mut self, request: TrackingRequest, out: &mut Actions) {
        match request {
            TrackingRequest::Pong => {}
            TrackingRequest::Ping => out.push(answers::pong()),
            TrackingRequest::Logs(channel) => {
                self.sent.asked(&channel);
                out.push(Action::ReadTail { channel, kind: LINE });
            }
            TrackingRequest::State(channel) => out.push(Action::ReadState { channel, within: None }),
            TrackingRequest::Start { channel, backlog: true } => self.start(channel, Since::Beginning, true, out),
            TrackingRequest::Start { channel, .. } => {
                if let Some(since) = self.sent.start(&channel) {
                    let wants_live = !self.sent.is_of(&channel);
                    self.start(channel, since, wants_live, out);
                }
            }
            TrackingRequest::Stop => self.stop(out),
            TrackingRequest::Token(token) => out.push(Action::Authenticate(token)),
        }
    }

    fn start(&mut self, channel: Channel, since: Since, wants_live: bool, out: &mut Actions) {
        self.stop(out);
        self.streaming = Some(Streaming::new(channel.clone(), wants_live));
        out.push(Action::Subscribe { channel, start: Start::Since(since) });
    }

    fn stop(&mut self, out: &mut Actions) {
        self.sent.stop();
        if let Some(mut streaming) = self.streaming.take() {
            streaming.flush(out);
            out.push(Action::Unsubscribe(streaming.channel));
        }
    }

    fn refuse(&mut self, refusal: &Ignored, out: &mut Actions) {
        match refusal {
            Ignored::UnknownSession => out.push(answers::unknown_session()),
            Ignored::BadMessage(why) => {
                self.misunderstood += 1;
                out.push(answers::error("bad_message", why));
                if self.misunderstood >= MAX_REJECTED {
                    let reason = "too many messages that are not understood: see the documentation";
                    out.push(Action::Close(CloseCode::BadMessage, Cow::Borrowed(reason)));
                }
            }
        }
    }

    /// Handles an event of the org's channel.
    fn of_org(&mut self, event: &Event, entry: &Arc<Entry>, out: &mut Actions) {
        match &*event.kind() {
            "agent_status" | "agent_collaboration" => out.push(answers::event(event, entry)),
            "active_sessions" if self.list.heard(event.raw(), Instant::now()) => out.push(answers::event(event, entry)),
            "session_state" | "session_logs" | LINE => {
                let id = event.field(Field::SessionId);
                if let Some(streaming) = self.streaming.as_mut().filter(|s| id.as_deref() == Some(s.channel.id())) {
                    streaming.take_of_org(entry, out);
                }
            }
            "session_changed" | "stalled" | "lost" | "recovered" => self.list.changed(Instant::now()),
            _ => {}
        }
    }

    /// Reads what live events brought of the streamed session.
    fn read_live(&mut self, channel: &Channel, reads: ReadsLive, out: &mut Actions) {
        if let Some(streaming) = self.streams(channel) {
            streaming.read_live(reads);
            out.push(Action::ReadTail { channel: channel.clone(), kind: LINE });
        }
    }

    fn streams(&mut self, channel: &Channel) -> Option<&mut Streaming> {
        self.streaming.as_mut().filter(|streaming| streaming.channel == *channel)
    }

    /// Reads the list if that is due, and sets the next timer.
    fn go_on(&mut self, now: Instant, out: &mut Actions) {
        if let Some(org) = &self.org {
            self.list.look(org, now, out);
        }
        let next = self.keepalive.next();
        out.push(Action::WakeAt(self.list.next().map_or(next, |look| look.min(next))));
    }
}

impl Dialect for TrackingDialect {
    fn label(&self) -> &'static str {
        "tracking"
    }

    fn on_open(&mut self, identity: Option<&Identity>, out: &mut Actions) {
        // Sockets without a token are one user: one page of theirs must not end another's.
        if let Some(client) = self.client.take().filter(|_| identity.is_some_and(|identity| !identity.anonymous)) {
            out.push(Action::Replace { client });
        }
        out.push(Action::SubscribeOwn { namespace: ORG, start: Start::Live });
        self.go_on(Instant::now(), out);
    }

    fn on_refused(&mut self, denied: Denied<'_>, out: &mut Actions) {
        let reason = match denied {
            Denied::Channel(channel) if self.streams(channel).is_some() => {
                // Live events of the org may tell of it all the same.
                return self.read_live(channel, ReadsLive::Denied, out);
            }
            Denied::Channel(_) => "the token does not grant what its org's agents do: ask for access",
            Denied::Own => "the token names no org: this socket brings what the agents of its claim \"org\" do",
        };
        out.push(Action::Close(CloseCode::Forbidden, Cow::Borrowed(reason)));
    }

    fn on_too_often(&mut self, out: &mut Actions) {
        out.push(answers::error("rate_limited", "too many messages: this one was not looked at; send fewer"));
        if self.rate.refuse(Instant::now()) {
            out.push(Action::Close(CloseCode::TooMany, Cow::Borrowed("too many messages")));
        }
    }

    fn on_channel(&mut self, channel: &Channel, _opening: &Opening, out: &mut Actions) {
        // The list is read only now: the channel reports every change from here on.
        if channel.namespace() == ORG {
            let now = Instant::now();
            self.org = Some(channel.clone());
            self.list.changed(now);
            self.go_on(now, out);
        } else if self.streams(channel).is_some_and(|streaming| streaming.wants_live()) {
            self.read_live(channel, ReadsLive::Granted, out);
        }
    }

    fn on_pending(&mut self, channel: &Channel, out: &mut Actions) {
        self.read_live(channel, ReadsLive::Pending, out);
    }

    fn on_entry(&mut self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions) {
        match entry.event() {
            Some(event) if channel.namespace() == ORG => self.of_org(event, entry, out),
            Some(_) => {
                self.streams(channel).into_iter().for_each(|streaming| streaming.take(entry, out));
                self.sent.streamed(channel, entry.id());
            }
            None => {
                self.streams(channel).into_iter().for_each(|streaming| streaming.flush(out));
                out.extend(control::mark(channel, entry.item()).map(|text| Action::Send(control::frame(&text))));
                // The missing events may have changed the list.
                self.list.changed(Instant::now());
            }
        }
    }

    fn on_caught_up(&mut self, channel: &Channel, _position: Option<EventId>, out: &mut Actions) {
        self.streams(channel).into_iter().for_each(|streaming| streaming.caught_up(out));
        self.go_on(Instant::now(), out);
    }

    fn on_state(&mut self, channel: &Channel, state: Option<&StateDocuments>, out: &mut Actions) {
        if channel.namespace() == ORG {
            // Without the grant, the channel itself is refused.
            if let Some(state) = state {
                let now = Instant::now();
                self.list.seen(state, now, out);
                self.go_on(now, out);
            }
            return;
        }
        let documents = state.map_or(&[][..], |state| &state.documents);
        let document = documents.iter().find(|(key, _)| key == STATE_KEY);
        let answer = document.and_then(|(_, document)| answers::session_state(channel.id(), document));
        out.push(answer.unwrap_or_else(answers::unknown_session));
    }

    fn on_tail(&mut self, channel: &Channel, tail: Option<&Tail>, out: &mut Actions) {
        let known = tail.filter(|tail| tail.head.is_some() || tail.live.is_some());
        // Reads are answered in order: the client's own requests come first.
        let is_asked = self.sent.is_asked(channel);
        let lines = known.and_then(|tail| tail.live.as_deref()).unwrap_or_default();
        let live = self.streams(channel).filter(|_| !is_asked).and_then(|streaming| streaming.take_live(lines));
        if let Some((lines, reads)) = live {
            if !lines.is_empty() {
                out.push(answers::session_logs(channel.id(), &[], &lines));
            }
            if known.is_none() && reads != ReadsLive::Granted {
                out.push(answers::unknown_session());
            }
            if known.is_none() && reads == ReadsLive::Denied {
                self.streaming = None;
            }
            return;
        }
        out.push(match known {
            Some(tail) => answers::session_logs(channel.id(), &tail.entries, tail.live.as_deref().unwrap_or_default()),
            None => answers::unknown_session(),
        });
        if let Some(since) = self.sent.answered(channel, tail.and_then(|tail| tail.head)) {
            self.start(channel.clone(), since, false, out);
        }
    }

    fn on_client(&mut self, text: &str, out: &mut Actions) {
        let now = Instant::now();
        self.keepalive.heard(now);
        let request = TrackingRequest::read(text);
        if request != Ok(TrackingRequest::Pong) && !self.rate.allows(now) {
            return self.on_too_often(out);
        }
        match request {
            Ok(request) => self.act(request, out),
            Err(refusal) => self.refuse(&refusal, out),
        }
    }

    fn on_timer(&mut self, now: Instant, out: &mut Actions) {
        match self.keepalive.due(now) {
            Due::Nothing => {}
            Due::Ping => out.push(answers::ping()),
            Due::Close => {
                let reason = "no pong: reconnect";
                return out.push(Action::Close(CloseCode::Stalled, Cow::Borrowed(reason)));
            }
        }
        self.go_on(now, out);
    }
}
