//! Dialects: what a socket says, without doing it.
//!
//! A dialect turns what happens (the socket opens, an entry arrives, the client speaks, time passes) into
//! [`Action`]s, and the connection carries them out. A dialect does no I/O and knows no socket, so that
//! each is tested as a plain state machine. A new one is a file here and a line in `routes/sockets.rs`.

pub mod control;
pub mod crew;
pub mod sse;

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId};
use tokio::time::Instant;

use crate::{
    hub::Entry,
    replay::{Opening, Start},
    transport::close::CloseCode,
};

/// What the connection is to do.
#[derive(Debug)]
pub enum Action {
    /// Send an encoded frame.
    Send(Bytes),
    /// Send an entry's shared frame: it counts as a delivery.
    Deliver(Bytes, Arc<Entry>),
    /// Read a channel. The connection asks for the grant and closes with 4403 where there is none.
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
    /// Read one log entry: answered with `on_fetched`.
    Fetch {
        /// Whose log.
        channel: Channel,
        /// Which entry.
        offset: u64,
    },
    /// Take a fresh token.
    Refresh(String),
    /// Call `on_timer` then.
    WakeAt(Instant),
    /// Close the socket.
    Close(CloseCode, Cow<'static, str>),
}

/// The actions of one step, in order.
pub type Actions = Vec<Action>;

/// One channel's name and position, for `ping`.
pub type Positions<'a, 'b> = &'a mut (dyn Iterator<Item = (&'b Channel, Option<EventId>)> + 'b);

/// One socket's side of a protocol.
pub trait Dialect: Send {
    /// The value of the `dialect` label.
    fn label(&self) -> &'static str;

    /// How often `on_heartbeat` is called.
    fn heartbeat(&self) -> Option<Duration>;

    /// The socket is open and the identity known.
    fn on_open(&mut self, out: &mut Actions);

    /// A channel is open; its entries follow.
    fn on_channel(&mut self, channel: &Channel, opening: &Opening, out: &mut Actions);

    /// The next entry of a channel.
    fn on_entry(&mut self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions);

    /// Every entry that there was has been handed over; the reader stands at `position`.
    fn on_caught_up(&mut self, channel: &Channel, position: Option<EventId>, out: &mut Actions);

    /// The answer to [`Action::Fetch`].
    fn on_fetched(&mut self, channel: &Channel, event: Option<Event>, out: &mut Actions);

    /// A channel of a `SubscribeAll` is no longer granted.
    fn on_channel_gone(&mut self, channel: &Channel, out: &mut Actions);

    /// The client sent a text message.
    fn on_client(&mut self, text: &str, out: &mut Actions);

    /// The heartbeat is due.
    fn on_heartbeat(&mut self, positions: Positions<'_, '_>, out: &mut Actions);

    /// A moment asked for with [`Action::WakeAt`] has come.
    fn on_timer(&mut self, now: Instant, out: &mut Actions);
}
