//! Dialects: the protocol of a socket, without its I/O.
//!
//! A dialect turns inputs (the socket opens, an entry arrives, the client sends a message, a timer fires) into
//! [`Action`]s, and the connection executes them. A dialect does no I/O and does not know its socket, so each one is
//! tested as a plain state machine. A new dialect is a file here and a line in `routes/sockets.rs`.

pub(crate) mod batch;
pub(crate) mod client_input;
pub(crate) mod control;
pub(crate) mod crew;
pub(crate) mod encoding;
pub(crate) mod forge;
pub(crate) mod hub;
pub(crate) mod sse;
pub(crate) mod stream;
pub(crate) mod tracking;

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId};
use tokio::time::Instant;

use crate::{
    auth::{AuthError, Claim, Identity},
    dashboards::Dashboard,
    hub::{EncodingSlot, Entry},
    replay::{Opening, Start, StateDocuments, Tail},
    state::StateSnapshot,
};
use crewcast_websocket::close::CloseCode;

/// How long a client may take to send its token, where the token comes in the first message (spec, "How the token
/// travels").
pub(crate) const INTRODUCTION: Duration = Duration::from_secs(5);

/// An action for the connection to execute.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send an encoded frame.
    Send(Bytes),
    /// Send an entry's shared frame in this encoding. Counts as a delivery of the entry.
    Deliver(Bytes, EncodingSlot, Arc<Entry>),
    /// Send a frame with several events. Their latency is not measured: they waited because the client wants them
    /// collected.
    DeliverBatch {
        /// The encoded frame.
        frame: Bytes,
        /// How many of the messages in it are events.
        events: usize,
    },
    /// Read a channel. The connection checks the grant first, and calls `on_refused` without one. A channel that is
    /// already read starts again with [`Start::Since`], with another `on_channel`; otherwise it continues.
    Subscribe {
        /// The channel.
        channel: Channel,
        /// Where to start.
        start: Start,
    },
    /// Read every granted channel of a namespace, now and as channels come and go.
    SubscribeAll {
        /// The namespace.
        namespace: &'static str,
        /// Where the channels that exist now start.
        start: Start,
        /// Where a channel starts that appears later.
        appearing: Start,
    },
    /// Read the channel of a namespace that belongs to the identity's org. An identity without an org gets
    /// `on_refused`.
    SubscribeOwn {
        /// The namespace.
        namespace: &'static str,
        /// Where to start.
        start: Start,
    },
    /// Stop reading a channel that was subscribed to by name. If a `SubscribeAll` covers the channel, reading
    /// continues.
    Unsubscribe(Channel),
    /// Continue reading the paused channels (`is_paused`).
    Resume,
    /// Stop reading the channels of a `SubscribeAll`. Channels that were also subscribed to by name are still read.
    UnsubscribeAll {
        /// The namespace.
        namespace: &'static str,
    },
    /// Read one log entry; answered by `on_fetched`.
    Fetch {
        /// The channel.
        channel: Channel,
        /// The offset of the entry.
        offset: u64,
    },
    /// Read all of a channel's state documents as they are now, with the id at which this state is valid. The
    /// connection checks the grant first: `on_snapshot`, or `on_refused` without one.
    ReadSnapshot {
        /// The channel.
        channel: Channel,
    },
    /// Watch a document of the identity's org: `on_dashboard` with the last one that was read, and with every later
    /// one. `on_refused` without an org, or without the grant for a channel of the document.
    Watch(Dashboard),
    /// Read a channel's state; answered by `on_state`. Sockets that ask at the same moment share one read, which
    /// starts after each of them has asked.
    ReadState {
        /// The channel.
        channel: Channel,
        /// Only documents with a lease of the same name that was renewed within this time.
        within: Option<Duration>,
    },
    /// Read the last events of one type from a channel's log; answered by `on_tail`. Shared like `ReadState`.
    ReadTail {
        /// The channel.
        channel: Channel,
        /// The event type.
        kind: &'static str,
    },
    /// Take over from older connections of the same client of this user: they are closed with 4409, on every replica.
    Replace {
        /// The id that the client chose.
        client: String,
    },
    /// Check a token, the first or a fresh one; answered by `on_identity`. A first token that is refused is answered
    /// by `on_bad_token`; a fresh one closes the socket.
    Authenticate(String),
    /// Publish an event; answered by `on_published`.
    Publish {
        /// The channel.
        channel: Channel,
        /// The event's object.
        event: Bytes,
        /// Returned with the answer.
        reference: u64,
    },
    /// Call `on_timer` at this moment.
    WakeAt(Instant),
    /// Close the socket.
    Close(CloseCode, Cow<'static, str>),
}

/// A request that is not granted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Denied<'a> {
    /// A channel.
    Channel(&'a Channel),
    /// The channel of an org, for an identity without one.
    Own,
}

/// Why an event was not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotPublished {
    /// The token's claim `publish` does not grant the channel, or the channel belongs to another org.
    Forbidden,
    /// Not an event, and why.
    Bad(String),
    /// The broker did not answer: the event may or may not be published.
    Unavailable,
}

/// Consecutive progress events that were left out for a lagging reader.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Conflated {
    /// Number of events.
    pub events: u64,
    /// The channel's position after them.
    pub position: Option<EventId>,
}

/// The actions of one step, in order.
pub(crate) type Actions = Vec<Action>;

/// One channel's name and position, for `ping`.
pub(crate) type Positions<'a, 'b> = &'a mut (dyn Iterator<Item = (&'b Channel, Option<EventId>)> + 'b);

/// One socket's side of a protocol. A hook that a dialect does not implement does nothing, or what its default says.
pub(crate) trait Dialect: Send {
    /// The value of the `dialect` label.
    fn label(&self) -> &'static str;

    /// How often `on_heartbeat` is called; `None`: never.
    fn heartbeat(&self) -> Option<Duration> {
        None
    }

    /// The socket is open. `identity` is `None` if the endpoint's channels are public, or if the client has yet to
    /// send its token.
    fn on_open(&mut self, identity: Option<&Identity>, out: &mut Actions);

    /// The claims of which a token needs one for this socket to deliver anything. A socket that its token leaves silent
    /// is told what is missing. Empty where that is told otherwise.
    fn granting_claims(&self) -> &'static [Claim] {
        &[]
    }

    /// The token of [`Action::Authenticate`] is valid.
    fn on_identity(&mut self, _identity: &Identity, _out: &mut Actions) {}

    /// The first token is not valid.
    fn on_bad_token(&mut self, error: &AuthError, out: &mut Actions) {
        out.push(Action::Close(CloseCode::Unauthorized, error.reason()));
    }

    /// The token does not grant a requested channel, or no longer does.
    fn on_refused(&mut self, _denied: Denied<'_>, out: &mut Actions) {
        let reason = "the token does not grant this channel: ask for access";
        out.push(Action::Close(CloseCode::Forbidden, Cow::Borrowed(reason)));
    }

    /// No org owns a requested channel's id yet. `on_channel` follows once the org of the token does, or `on_refused`
    /// once another org does.
    fn on_pending(&mut self, _channel: &Channel, _out: &mut Actions) {}

    /// The channels of a `SubscribeAll` are known: called at first and after every change, also with an empty list.
    /// New channels open next.
    fn on_listed(
        &mut self,
        _namespace: &'static str,
        _channels: &mut dyn Iterator<Item = &Channel>,
        _out: &mut Actions,
    ) {
    }

    /// Whether an open channel is not to be read yet. It keeps its place in the ring; [`Action::Resume`] continues.
    fn is_paused(&self, _channel: &Channel) -> bool {
        false
    }

    /// The connection sends a message of its own (`broker`, `reconnect`).
    fn on_notice(&mut self, text: &str, out: &mut Actions) {
        out.push(Action::Send(control::frame(text)));
    }

    /// The connection closes next, for this reason: the last chance to send what is held back.
    fn on_close(&mut self, _code: CloseCode, _reason: &str, _out: &mut Actions) {}

    /// The result of [`Action::Publish`].
    fn on_published(&mut self, _reference: u64, _published: Result<Option<EventId>, NotPublished>, _out: &mut Actions) {
    }

    /// The client exceeds its message rate; the current message was ignored.
    fn on_too_often(&mut self, out: &mut Actions) {
        out.push(Action::Close(CloseCode::TooMany, Cow::Borrowed("too many messages")));
    }

    /// A channel is open; its entries follow.
    fn on_channel(&mut self, _channel: &Channel, _opening: &Opening, _out: &mut Actions) {}

    /// The next entry of a channel.
    fn on_entry(&mut self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions);

    /// Whether a progress event that a newer one supersedes may be left out. Return `false` for events that a filter
    /// hides: leaving them out is not a loss to report.
    fn may_conflate(&self, _channel: &Channel, _event: &Event) -> bool {
        true
    }

    /// Progress events were left out before the next entry.
    fn on_conflated(&mut self, channel: &Channel, skipped: Conflated, out: &mut Actions) {
        self.on_notice(&control::skipped(channel, skipped), out);
    }

    /// Every available entry was passed on; the reader is at `position`.
    fn on_caught_up(&mut self, _channel: &Channel, _position: Option<EventId>, _out: &mut Actions) {}

    /// The answer to [`Action::Fetch`].
    fn on_fetched(&mut self, _channel: &Channel, _event: Option<Event>, _out: &mut Actions) {}

    /// The answer to [`Action::ReadSnapshot`].
    fn on_snapshot(&mut self, _channel: &Channel, _state: &Arc<StateSnapshot>, _out: &mut Actions) {}

    /// The newest document of [`Action::Watch`], as a frame that all its watchers share.
    fn on_dashboard(&mut self, _frame: &Bytes, _out: &mut Actions) {}

    /// The answer to [`Action::ReadState`]; `None` if the token does not grant the channel.
    fn on_state(&mut self, _channel: &Channel, _state: Option<&StateDocuments>, _out: &mut Actions) {}

    /// The answer to [`Action::ReadTail`]; `None` if the token does not grant the channel.
    fn on_tail(&mut self, _channel: &Channel, _tail: Option<&Tail>, _out: &mut Actions) {}

    /// A channel of a `SubscribeAll` is no longer granted, and is not read by name either.
    fn on_channel_gone(&mut self, _channel: &Channel, _out: &mut Actions) {}

    /// The client sent a text message.
    fn on_client(&mut self, _text: &str, _out: &mut Actions) {}

    /// The heartbeat is due.
    fn on_heartbeat(&mut self, _positions: Positions<'_, '_>, _out: &mut Actions) {}

    /// A moment requested with [`Action::WakeAt`] has come.
    fn on_timer(&mut self, _now: Instant, _out: &mut Actions) {}
}
