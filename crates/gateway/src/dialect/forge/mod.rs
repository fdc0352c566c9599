//! Dialect `forge`: an org's agents, tasks and knowledge as they change, its metrics and its dashboard at intervals.
//!
//! Each event is the producer's own object. Agents and tasks start with the channel's state documents. Every event
//! after the id of that state follows, as for a client that resumes there.

use std::{borrow::Cow, fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, Since};
use serde_json::json;

use super::{
    Action, Actions, Denied, Dialect, Positions,
    client_input::{self, ClientInput, ClientMessage},
    control, encoding,
};
use crate::{
    auth::Identity,
    dashboards::Dashboard,
    hub::{Entry, Item},
    replay::{Opening, Start},
    state::StateSnapshot,
};
use crewcast_websocket::{close::CloseCode, frame::text_frame};

/// How often a socket that reads a channel is sent its position.
const HEARTBEAT: Duration = Duration::from_secs(45);

/// The endpoint of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ForgeEndpoint {
    /// The org's channel of this namespace: first its state, then its events.
    WithSnapshot(&'static str),
    /// The org's channel of this namespace: only its events.
    Events(&'static str),
    /// A document at each interval.
    Dashboard(Dashboard),
}

/// One socket of the forge dialect.
pub(crate) struct ForgeDialect {
    endpoint: ForgeEndpoint,
    since: Option<Since>,
    /// Sent when the channel is open at the snapshot's id: from then on nothing is missed, live events included.
    snapshot: Option<Bytes>,
    /// `Some` until the snapshot, which is the first message, is sent: the number of pings to answer after it.
    waiting: Option<u32>,
    client: ClientInput,
}

impl ForgeDialect {
    /// A socket with the query's `since`. A socket that resumes gets no snapshot.
    pub(crate) fn new(endpoint: ForgeEndpoint, since: Option<Since>) -> Self {
        Self { endpoint, since, snapshot: None, waiting: None, client: ClientInput::default() }
    }

    fn begin_with_snapshot(&mut self, namespace: &'static str, identity: Option<&Identity>, out: &mut Actions) {
        let org = identity.and_then(|identity| identity.org.as_deref());
        match org.and_then(|org| Channel::new(namespace, org).ok()) {
            Some(channel) => {
                self.waiting = Some(0);
                out.push(Action::ReadSnapshot { channel });
            }
            None => self.on_refused(Denied::Own, out),
        }
    }
}

impl Dialect for ForgeDialect {
    fn label(&self) -> &'static str {
        "forge"
    }

    fn heartbeat(&self) -> Option<Duration> {
        match self.endpoint {
            ForgeEndpoint::WithSnapshot(_) | ForgeEndpoint::Events(_) => Some(HEARTBEAT),
            ForgeEndpoint::Dashboard(_) => None,
        }
    }

    fn on_open(&mut self, identity: Option<&Identity>, out: &mut Actions) {
        match (self.endpoint, self.since) {
            (ForgeEndpoint::WithSnapshot(namespace), None) => self.begin_with_snapshot(namespace, identity, out),
            (ForgeEndpoint::WithSnapshot(namespace) | ForgeEndpoint::Events(namespace), since) => {
                let start = since.map_or(Start::Live, Start::Since);
                out.push(Action::SubscribeOwn { namespace, start });
            }
            (ForgeEndpoint::Dashboard(dashboard), _) => out.push(Action::Watch(dashboard)),
        }
    }

    fn on_refused(&mut self, denied: Denied<'_>, out: &mut Actions) {
        let reason = match denied {
            Denied::Own => "the token names no org: this socket brings what is of its claim \"org\"",
            Denied::Channel(_) => "the token does not grant this channel of its org: ask for access",
        };
        out.push(Action::Close(CloseCode::Forbidden, Cow::Borrowed(reason)));
    }

    fn on_snapshot(&mut self, channel: &Channel, state: &Arc<StateSnapshot>, out: &mut Actions) {
        self.snapshot = Some(state.encoded(|| text_frame(snapshot(state).as_bytes())));
        let since = state.head.map_or(Since::Beginning, Since::After);
        out.push(Action::Subscribe { channel: channel.clone(), start: Start::Since(since) });
    }

    fn on_dashboard(&mut self, frame: &Bytes, out: &mut Actions) {
        out.push(Action::Send(frame.clone()));
    }

    fn on_channel(&mut self, _channel: &Channel, _opening: &Opening, out: &mut Actions) {
        let Some(snapshot) = self.snapshot.take() else { return };
        out.push(Action::Send(snapshot));
        for _ in 0..self.waiting.take().unwrap_or(0) {
            self.on_notice(&control::pong(), out);
        }
    }

    fn on_entry(&mut self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions) {
        match entry.item() {
            Item::Event(event) => {
                let frame = entry.encoded(encoding::RAW_FRAME, || text_frame(event.raw()));
                out.push(Action::Deliver(frame, encoding::RAW_FRAME, entry.clone()));
            }
            mark @ (Item::Reset { .. } | Item::Gap { .. }) => {
                out.extend(control::mark(channel, mark).map(|text| Action::Send(control::frame(&text))));
            }
        }
    }

    fn on_client(&mut self, text: &str, out: &mut Actions) {
        match (self.client.parse(text), &mut self.waiting) {
            // The snapshot is the first message.
            (ClientMessage::Ping, Some(pings)) => *pings += 1,
            (message, _) => client_input::answer(self, message, out),
        }
    }

    fn on_heartbeat(&mut self, positions: Positions<'_, '_>, out: &mut Actions) {
        out.push(Action::Send(control::frame(&control::ping(positions))));
    }
}

/// The documents by key, as their producers wrote them, and the id of this state.
fn snapshot(state: &StateSnapshot) -> String {
    let mut text = String::from(r#"{"type":"snapshot","data":{"#);
    for (n, (key, document)) in state.documents.iter().enumerate() {
        let comma = if n > 0 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{}:{document}", json!(key));
    }
    let truncated = if state.truncated { r#","truncated":true"# } else { "" };
    let _ = write!(text, r#"}},"position":{}{truncated}}}"#, json!(state.head));
    text
}

#[cfg(test)]
mod tests;
