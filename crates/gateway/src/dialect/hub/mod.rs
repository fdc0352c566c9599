//! Dialect `hub`: every event of an org, in one envelope, with its place in the org's sequence.
//!
//! The envelope is the producer's own object, with `message_id`, `sequence` and a missing `timestamp` after its last
//! field.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crewcast_events::{Channel, Event, EventId, Since, timestamp};
use tokio::time::Instant;

use super::{
    Action, Actions, Denied, Dialect, Positions,
    batch::Batch,
    client_input::{self, ClientInput},
    control, encoding,
};
use crate::{
    auth::Identity,
    hub::{Entry, Item},
    replay::{Opening, Start},
};
use crewcast_websocket::{
    close::CloseCode,
    frame::{payload_of, text_frame},
};

/// How often a socket is sent its position. A reader whose filter hides most events then resumes nearby, and a reader
/// whose producers set their own `message_id` can resume at all.
const HEARTBEAT: Duration = Duration::from_secs(45);

/// One socket of the hub dialect.
pub(crate) struct HubDialect {
    since: Option<Since>,
    /// Only these event types; empty: all types.
    types: Box<[String]>,
    batch: Option<Batch>,
    client: ClientInput,
    sequence: Sequence,
}

impl HubDialect {
    /// A socket with the query's `since`, `types` and `batch_ms`.
    pub(crate) fn new(since: Option<Since>, types: Vec<String>, batch: Option<Duration>) -> Self {
        Self {
            since,
            types: types.into(),
            batch: batch.map(Batch::new),
            client: ClientInput::default(),
            sequence: Sequence::default(),
        }
    }

    fn is_wanted(&self, event: &Event) -> bool {
        self.types.is_empty() || self.types.iter().any(|kind| *kind == event.kind())
    }

    fn deliver(&mut self, entry: &Arc<Entry>, event: &Event, out: &mut Actions) {
        let (sequence, is_shared) = self.sequence.next(entry);
        let encode = || text_frame(&envelope(event, sequence, entry.arrived_at()));
        let frame = if is_shared { entry.encoded(encoding::HUB, encode) } else { encode() };
        match &mut self.batch {
            Some(batch) => batch.add_event(payload_of(&frame), out),
            None if is_shared => out.push(Action::Deliver(frame, encoding::HUB, entry.clone())),
            None => out.push(Action::DeliverBatch { frame, events: 1 }),
        }
    }
}

impl Dialect for HubDialect {
    fn label(&self) -> &'static str {
        "hub"
    }

    fn heartbeat(&self) -> Option<Duration> {
        Some(HEARTBEAT)
    }

    fn on_open(&mut self, _identity: Option<&Identity>, out: &mut Actions) {
        let start = self.since.map_or(Start::Live, Start::Since);
        out.push(Action::SubscribeOwn { namespace: "hub", start });
    }

    fn on_refused(&mut self, denied: Denied<'_>, out: &mut Actions) {
        let reason = match denied {
            Denied::Own => "the token names no org: this socket brings the events of its claim \"org\"",
            Denied::Channel(_) => "the token does not grant the events of its org: ask for access",
        };
        out.push(Action::Close(CloseCode::Forbidden, Cow::Borrowed(reason)));
    }

    fn on_channel(&mut self, _channel: &Channel, opening: &Opening, _out: &mut Actions) {
        match self.since {
            Some(Since::After(seen)) => self.sequence.begin_at(Some(seen)),
            Some(Since::Beginning | Since::Unknown) => {}
            None => self.sequence.begin_at(opening.position),
        }
    }

    fn on_entry(&mut self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions) {
        match entry.item() {
            Item::Event(event) if self.is_wanted(event) => self.deliver(entry, event, out),
            Item::Event(_) => {}
            mark @ (Item::Reset { .. } | Item::Gap { .. }) => {
                if let Item::Reset { .. } = mark {
                    self.sequence.reset();
                }
                if let Some(text) = control::mark(channel, mark) {
                    self.on_notice(&text, out);
                }
            }
        }
    }

    fn may_conflate(&self, _channel: &Channel, event: &Event) -> bool {
        self.is_wanted(event)
    }

    fn on_notice(&mut self, text: &str, out: &mut Actions) {
        match &mut self.batch {
            Some(batch) => batch.add_message(text, out),
            None => out.push(Action::Send(control::frame(text))),
        }
    }

    fn on_client(&mut self, text: &str, out: &mut Actions) {
        let message = self.client.parse(text);
        client_input::answer(self, message, out);
    }

    fn on_heartbeat(&mut self, positions: Positions<'_, '_>, out: &mut Actions) {
        self.on_notice(&control::ping(positions), out);
    }

    fn on_timer(&mut self, now: Instant, out: &mut Actions) {
        if let Some(batch) = &mut self.batch {
            batch.on_timer(now, out);
        }
    }

    fn on_close(&mut self, _code: CloseCode, _reason: &str, out: &mut Actions) {
        if let Some(batch) = &mut self.batch {
            batch.flush(out);
        }
    }
}

/// The numbers of one socket's events: each is higher than the one before.
///
/// A logged event has its offset, a live one the microsecond of its arrival if nothing was ever logged in the channel:
/// the same on every socket, and rising for a client that reconnects to whichever replica. Where both kinds come, live
/// events count on behind the last offset, and logged ones behind them, so that a client that keeps the highest number
/// takes them all.
#[derive(Default)]
struct Sequence {
    last: u64,
    has_offsets: bool,
    /// Whether the socket was sent a number.
    has_begun: bool,
}

impl Sequence {
    /// Numbers follow this position.
    fn begin_at(&mut self, position: Option<EventId>) {
        *self = Self { last: position.map_or(0, |id| id.offset()), has_offsets: position.is_some(), has_begun: false };
    }

    /// The offsets that follow may be lower than the position that the client named.
    fn reset(&mut self) {
        if !self.has_begun {
            self.last = 0;
        }
    }

    /// The number of the next event, and whether it is the same on every socket.
    fn next(&mut self, entry: &Entry) -> (u64, bool) {
        let shared = match entry.id() {
            Some(id) => Some(id.offset()),
            None if self.has_offsets => None,
            None => u64::try_from(entry.arrived_at().as_micros()).ok(),
        };
        let shared = shared.filter(|number| *number > self.last);
        self.has_offsets |= entry.id().is_some();
        (self.last, self.has_begun) = (shared.unwrap_or(self.last + 1), true);
        (self.last, shared.is_some())
    }
}

/// The producer's object, with `message_id` (of a logged event), `sequence`, and a missing `timestamp` after its last
/// field. A producer's own `message_id` is kept as the only one. A producer's own `sequence` is kept too, but ours
/// comes after it, and parsers keep the last one.
fn envelope(event: &Event, sequence: u64, arrived_at: Duration) -> Vec<u8> {
    let raw = event.raw().trim_ascii();
    let tail = event.logged_tail().or(raw.strip_prefix(b"{")).unwrap_or(raw).trim_ascii_end();
    // An event has a `type`, so there is a field to put the comma after.
    let fields = tail.strip_suffix(b"}").unwrap_or(tail);
    let mut ours = String::new();
    if let Some(id) = event.id().filter(|_| !event.has_key("message_id")) {
        ours += &format!(r#","message_id":"{id}""#);
    }
    ours += &format!(r#","sequence":{sequence}"#);
    if !event.has_key("timestamp") {
        ours += &format!(r#","timestamp":"{}""#, timestamp::format(SystemTime::UNIX_EPOCH + arrived_at));
    }
    [b"{", fields, ours.as_bytes(), b"}"].concat()
}

#[cfg(test)]
mod tests;
