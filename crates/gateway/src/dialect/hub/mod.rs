//! Dialect `hub`: every event of an org, in one envelope, with its place in the org's sequence.
//!
//! The envelope is the producer's own object, with `message_id` and `sequence` after its last field.

use std::{borrow::Cow, sync::Arc, time::Duration};

use crewcast_events::{Channel, Event, Since};
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
    replay::Start,
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
}

impl HubDialect {
    /// A socket with the query's `since`, `types` and `batch_ms`.
    pub(crate) fn new(since: Option<Since>, types: Vec<String>, batch: Option<Duration>) -> Self {
        Self { since, types: types.into(), batch: batch.map(Batch::new), client: ClientInput::default() }
    }

    fn is_wanted(&self, event: &Event) -> bool {
        self.types.is_empty() || self.types.iter().any(|kind| *kind == event.kind())
    }

    fn deliver(&mut self, entry: &Arc<Entry>, event: &Event, out: &mut Actions) {
        let frame = entry.encoded(encoding::HUB, || text_frame(&envelope(event)));
        match &mut self.batch {
            Some(batch) => batch.add_event(payload_of(&frame), out),
            None => out.push(Action::Deliver(frame, encoding::HUB, entry.clone())),
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

    fn on_entry(&mut self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions) {
        match entry.item() {
            Item::Event(event) if self.is_wanted(event) => self.deliver(entry, event, out),
            Item::Event(_) => {}
            mark @ (Item::Reset { .. } | Item::Gap { .. }) => {
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

/// The producer's object, with `message_id` and `sequence` after its last field. A producer's own `message_id` is kept
/// as the only one. A producer's own `sequence` is kept too, but ours comes after it, and parsers keep the last one. A
/// live event is left unchanged.
fn envelope(event: &Event) -> Cow<'_, [u8]> {
    let (Some(id), Some(tail)) = (event.id(), event.logged_tail()) else { return Cow::Borrowed(event.raw()) };
    // An event has a `type`, so there is a field to put the comma after.
    let fields = tail.trim_ascii_end();
    let fields = fields.strip_suffix(b"}").unwrap_or(fields);
    let offset = id.offset();
    let ours = if event.has_key("message_id") {
        format!(r#","sequence":{offset}}}"#)
    } else {
        format!(r#","message_id":"{id}","sequence":{offset}}}"#)
    };
    Cow::Owned([b"{", fields, ours.as_bytes()].concat())
}

#[cfg(test)]
mod tests;
