//! Dialects: what a socket says, without doing it.
//!
//! A dialect turns what happens (the socket opens, an entry arrives, the client speaks, time passes) into
//! [`Action`]s, and the connection carries them out. A dialect does no I/O and knows no socket, so that
//! each is tested as a plain state machine. A new one is a file here and a line in `routes/sockets.rs`.

pub mod batch;
pub mod client_input;
pub mod control;
pub mod crew;
pub mod encoding;
pub mod forge;
pub mod hub;
pub mod sse;
pub mod stream;
pub mod tracking;

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId};
use tokio::time::Instant;

use crate::{
    auth::{AuthError, Identity},
    dashboards::Dashboard,
    hub::{EncodingSlot, Entry},
    replay::{Opening, Start, StateDocuments, Tail},
    state::StateSnapshot,
};
use crewcast_websocket::close::CloseCode;

/// How long somebody may take to say who he is, where that is the first message (spec, "How the token travels").
pub const INTRODUCTION: Duration = Duration::from_secs(5);

/// What the connection is to do.
#[derive(Debug)]
pub enum Action {
    /// Send an encoded frame.
    Send(Bytes),
    /// Send an entry's shared frame, which is the entry's in this encoding: it counts as a delivery.
    Deliver(Bytes, EncodingSlot, Arc<Entry>),
    /// Send a frame that holds so many events. How long they took is not measured: they waited because the client wants
    /// them collected.
    DeliverBatch {
        /// The encoded frame.
        frame: Bytes,
        /// How many of the messages in it are events.
        events: usize,
    },
    /// Read a channel. The connection asks for the grant first: `on_refused` where there is none. A channel that is
    /// read already begins anew with [`Start::Since`], with `on_channel`, and goes on otherwise.
    Subscribe {
        /// Which.
        channel: Channel,
        /// From where.
        start: Start,
    },
    /// Read every granted channel of a namespace, now and as they come and go.
    SubscribeAll {
        /// Which namespace.
        namespace: &'static str,
        /// Where the channels of this moment begin.
        start: Start,
        /// Where a channel begins that appears later.
        appearing: Start,
    },
    /// Read the channel of a namespace that is the identity's org's. Without an org there is none: `on_refused`.
    SubscribeOwn {
        /// Which namespace.
        namespace: &'static str,
        /// From where.
        start: Start,
    },
    /// Stop reading a channel that was asked for by name. One of a `SubscribeAll` is read on.
    Unsubscribe(Channel),
    /// Read the channels that were held (`is_paused`).
    Resume,
    /// Stop reading the channels of a `SubscribeAll`. Those that were asked for by name too are read on.
    UnsubscribeAll {
        /// Which namespace.
        namespace: &'static str,
    },
    /// Read one log entry: answered with `on_fetched`.
    Fetch {
        /// Whose log.
        channel: Channel,
        /// Which entry.
        offset: u64,
    },
    /// Read a channel's state documents as they are now, whole, with the id behind which they stand. The connection asks for the grant first: `on_snapshot`, or
    /// `on_refused` where there is none.
    ReadSnapshot {
        /// Whose state.
        channel: Channel,
    },
    /// Watch a document of the identity's org: `on_dashboard` with what was read last, and whenever it is read. Without an
    /// org, or the grant for a channel that is shown: `on_refused`.
    Watch(Dashboard),
    /// Read a channel's state: answered with `on_state`. Sockets that ask at the same moment share one read, which began
    /// after each of them asked.
    ReadState {
        /// Whose.
        channel: Channel,
        /// Only documents beside a lease of the same name that was renewed so recently.
        within: Option<Duration>,
    },
    /// Read the last events of a type that a channel's log holds: answered with `on_tail`. Shared likewise.
    ReadTail {
        /// Whose.
        channel: Channel,
        /// Which type.
        kind: &'static str,
    },
    /// This socket is the one of a client of the user's: older ones, on whichever replica, are closed with 4409.
    Replace {
        /// The id that the client gave itself.
        client: String,
    },
    /// Take a token, the first or a fresh one: answered with `on_identity`, or with `on_bad_token` when it was the
    /// first. A fresh one that is refused closes the socket.
    Authenticate(String),
    /// Publish an event: answered with `on_published`.
    Publish {
        /// Where to.
        channel: Channel,
        /// The event's object.
        event: Bytes,
        /// Given back with the answer.
        reference: u64,
    },
    /// Call `on_timer` then.
    WakeAt(Instant),
    /// Close the socket.
    Close(CloseCode, Cow<'static, str>),
}

/// What was asked for and is not granted.
#[derive(Clone, Copy, Debug)]
pub enum Denied<'a> {
    /// A channel.
    Channel(&'a Channel),
    /// The org's channel of a namespace, by somebody without an org.
    Own(&'static str),
}

/// Why an event was not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotPublished {
    /// The token's claim `publish` does not grant the channel, or it belongs to another org.
    Forbidden,
    /// It is no event; why.
    Bad(String),
    /// The broker did not answer: it may or may not have happened.
    Unavailable,
}

/// Progress in a row that a lagging reader is spared.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Conflated {
    /// How many events.
    pub events: u64,
    /// The channel's position behind them.
    pub position: Option<EventId>,
}

/// The actions of one step, in order.
pub type Actions = Vec<Action>;

/// One channel's name and position, for `ping`.
pub type Positions<'a, 'b> = &'a mut (dyn Iterator<Item = (&'b Channel, Option<EventId>)> + 'b);

/// One socket's side of a protocol. A hook that a dialect does not implement does nothing, or what its default says.
pub trait Dialect: Send {
    /// The value of the `dialect` label.
    fn label(&self) -> &'static str;

    /// How often `on_heartbeat` is called; `None`: never.
    fn heartbeat(&self) -> Option<Duration> {
        None
    }

    /// The socket is open. `identity` is `None` where the endpoint's channels are everybody's, and where the client has
    /// yet to say who he is.
    fn on_open(&mut self, identity: Option<&Identity>, out: &mut Actions);

    /// The token of [`Action::Authenticate`] is good.
    fn on_identity(&mut self, _identity: &Identity, _out: &mut Actions) {}

    /// The first token is not.
    fn on_bad_token(&mut self, error: &AuthError, out: &mut Actions) {
        out.push(Action::Close(CloseCode::Unauthorized, error.reason()));
    }

    /// The token does not grant a channel that was asked for, or no longer does.
    fn on_refused(&mut self, _asked: Denied<'_>, out: &mut Actions) {
        let reason = "the token does not grant this channel: ask for access";
        out.push(Action::Close(CloseCode::Forbidden, Cow::Borrowed(reason)));
    }

    /// The channels of a `SubscribeAll` are known, at first and whenever they have changed; those that are new open
    /// next. An empty list is told, too.
    fn on_listed(
        &mut self,
        _namespace: &'static str,
        _channels: &mut dyn Iterator<Item = &Channel>,
        _out: &mut Actions,
    ) {
    }

    /// Whether a channel that is open is not to be read yet. It stays a place in the ring; [`Action::Resume`] ends it.
    fn is_paused(&self, _channel: &Channel) -> bool {
        false
    }

    /// A socket's connection has something to say of its own (`broker`, `reconnect`).
    fn on_notice(&mut self, text: &str, out: &mut Actions) {
        out.push(Action::Send(control::frame(text)));
    }

    /// The socket closes next: what is held back goes out now, or never.
    fn on_close(&mut self, _out: &mut Actions) {}

    /// What became of [`Action::Publish`].
    fn on_published(&mut self, _reference: u64, _published: Result<Option<EventId>, NotPublished>, _out: &mut Actions) {
    }

    /// The client sends more than it may; what it sent now was not looked at.
    fn on_too_often(&mut self, out: &mut Actions) {
        out.push(Action::Close(CloseCode::TooMany, Cow::Borrowed("too many messages")));
    }

    /// A channel is open; its entries follow.
    fn on_channel(&mut self, _channel: &Channel, _opening: &Opening, _out: &mut Actions) {}

    /// The next entry of a channel.
    fn on_entry(&mut self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions);

    /// Whether progress that newer progress has made old may be left out. What a filter hides is no loss, and not told as
    /// one.
    fn may_conflate(&self, _channel: &Channel, _event: &Event) -> bool {
        true
    }

    /// Progress was left out before the entry that comes next.
    fn on_conflated(&mut self, channel: &Channel, skipped: Conflated, out: &mut Actions) {
        self.on_notice(&control::skipped(channel, skipped), out);
    }

    /// Every entry that there was has been handed over; the reader stands at `position`.
    fn on_caught_up(&mut self, _channel: &Channel, _position: Option<EventId>, _out: &mut Actions) {}

    /// The answer to [`Action::Fetch`].
    fn on_fetched(&mut self, _channel: &Channel, _event: Option<Event>, _out: &mut Actions) {}

    /// The answer to [`Action::ReadSnapshot`].
    fn on_snapshot(&mut self, _channel: &Channel, _state: &Arc<StateSnapshot>, _out: &mut Actions) {}

    /// The newest document of [`Action::Watch`], as a frame that all who watch it share.
    fn on_dashboard(&mut self, _frame: &Bytes, _out: &mut Actions) {}

    /// The answer to [`Action::ReadState`]; `None`: the token does not grant the channel.
    fn on_state(&mut self, _channel: &Channel, _state: Option<&StateDocuments>, _out: &mut Actions) {}

    /// The answer to [`Action::ReadTail`]; `None`: the token does not grant the channel.
    fn on_tail(&mut self, _channel: &Channel, _tail: Option<&Tail>, _out: &mut Actions) {}

    /// A channel of a `SubscribeAll` is no longer granted, and is not read by name either.
    fn on_channel_gone(&mut self, _channel: &Channel, _out: &mut Actions) {}

    /// The client sent a text message.
    fn on_client(&mut self, _text: &str, _out: &mut Actions) {}

    /// The heartbeat is due.
    fn on_heartbeat(&mut self, _positions: Positions<'_, '_>, _out: &mut Actions) {}

    /// A moment asked for with [`Action::WakeAt`] has come.
    fn on_timer(&mut self, _now: Instant, _out: &mut Actions) {}
}
