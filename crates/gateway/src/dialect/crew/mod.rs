//! Dialect `crew`: runs, mission, graph. Each text frame is one event, exactly as published.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

use crewcast_events::{
    Channel, Event, EventId, Since,
    catalog::mission::{CrewStatus, Signal, SignalPayload},
};
use tokio::time::Instant;

use super::{
    Action, Actions, Dialect, Positions,
    client_input::{self, ClientInput},
    control, encoding,
};
use crate::{
    auth::{Claim, Identity},
    hub::{Entry, Item},
    replay::{Opening, Start},
};
use crewcast_websocket::{close::CloseCode, frame::text_frame};

/// How often mission and graph sockets get a `ping` message.
const HEARTBEAT: Duration = Duration::from_secs(45);

/// The endpoint of a socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CrewEndpoint {
    /// `/ws/runs/{run_id}`: to the terminal event, from the first one or from `since`.
    Run {
        /// `run:<run_id>`.
        channel: Channel,
        /// Event types that end a run.
        terminal: Vec<String>,
    },
    /// `/ws/mission`: every granted crew.
    Mission {
        /// How long a crew's producer may be silent before the gateway reports the crew as offline.
        offline_after: Option<Duration>,
    },
    /// `/ws/graph/{crew}`.
    Graph(Channel),
    /// `/ws/graph`: every granted crew.
    AllGraphs,
}

/// One socket of the crew dialect.
pub(crate) struct CrewDialect {
    endpoint: CrewEndpoint,
    /// Boxed, because most sockets start live.
    since: Option<Box<Since>>,
    /// Only these event types; empty: all types.
    types: Box<[String]>,
    client: ClientInput,
    /// Mission with `offline_after`: when each crew's last event arrived.
    #[expect(clippy::box_collection, reason = "most sockets have none")]
    heard: Option<Box<HashMap<Channel, HeardStatus>>>,
    /// Run: whether the client may have resumed after the run's last event, which is checked once caught up.
    may_be_over: bool,
}

struct HeardStatus {
    at: Instant,
    told_offline: bool,
}

impl CrewDialect {
    /// A socket of `endpoint` with the query's `since` and `types`.
    pub(crate) fn new(endpoint: CrewEndpoint, since: Option<Since>, types: Vec<String>) -> Self {
        let may_be_over = matches!((&endpoint, since), (CrewEndpoint::Run { .. }, Some(Since::After(_))));
        let since = since.map(Box::new);
        Self { endpoint, since, types: types.into(), client: ClientInput::default(), heard: None, may_be_over }
    }

    fn is_wanted(&self, event: &Event) -> bool {
        self.types.is_empty() || self.types.iter().any(|kind| *kind == event.kind())
    }

    fn ends(&self, event: &Event) -> bool {
        match &self.endpoint {
            CrewEndpoint::Run { terminal, .. } => terminal.iter().any(|kind| *kind == event.kind()),
            _ => false,
        }
    }

    fn deliver(&mut self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions) {
        let Some(event) = entry.event() else { return };
        if self.is_wanted(event) {
            let frame = entry.encoded(encoding::RAW_FRAME, || text_frame(event.raw()));
            out.push(Action::Deliver(frame, encoding::RAW_FRAME, entry.clone()));
        }
        if self.ends(event) {
            out.push(run_completed());
        }
        self.note_heard(channel, out);
    }

    fn note_heard(&mut self, channel: &Channel, out: &mut Actions) {
        if let CrewEndpoint::Mission { offline_after: Some(after) } = self.endpoint {
            let at = Instant::now();
            self.heard.get_or_insert_default().insert(channel.clone(), HeardStatus { at, told_offline: false });
            out.push(Action::WakeAt(at + after));
        }
    }
}

impl Dialect for CrewDialect {
    fn label(&self) -> &'static str {
        "crew"
    }

    fn heartbeat(&self) -> Option<Duration> {
        match self.endpoint {
            CrewEndpoint::Run { .. } => None,
            CrewEndpoint::Mission { .. } | CrewEndpoint::Graph(_) | CrewEndpoint::AllGraphs => Some(HEARTBEAT),
        }
    }

    fn granting_claims(&self) -> &'static [Claim] {
        match self.endpoint {
            CrewEndpoint::Run { .. } => &[Claim::Runs, Claim::Crews],
            CrewEndpoint::Mission { .. } | CrewEndpoint::Graph(_) | CrewEndpoint::AllGraphs => &[Claim::Crews],
        }
    }

    fn on_open(&mut self, _identity: Option<&Identity>, out: &mut Actions) {
        let from_first = Start::Since(Since::Beginning);
        out.push(match &self.endpoint {
            CrewEndpoint::Run { channel, .. } => {
                let start = self.since.as_deref().map_or(from_first, |since| Start::Since(*since));
                Action::Subscribe { channel: channel.clone(), start }
            }
            CrewEndpoint::Graph(channel) => {
                let start = self.since.as_deref().map_or(Start::Live, |since| Start::Since(*since));
                Action::Subscribe { channel: channel.clone(), start }
            }
            CrewEndpoint::AllGraphs => {
                Action::SubscribeAll { namespace: "graph", start: Start::Live, appearing: from_first }
            }
            CrewEndpoint::Mission { .. } => {
                Action::SubscribeAll { namespace: "mission", start: Start::Retained, appearing: Start::Retained }
            }
        });
    }

    fn on_channel(&mut self, channel: &Channel, opening: &Opening, out: &mut Actions) {
        let CrewEndpoint::Mission { .. } = self.endpoint else { return };
        match &opening.retained {
            Some(entry) => self.deliver(channel, entry, out),
            None => out.push(Action::Send(text_frame(offline(channel).as_bytes()))),
        }
    }

    fn on_entry(&mut self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions) {
        match entry.item() {
            Item::Event(_) => self.deliver(channel, entry, out),
            Item::Reset { .. } | Item::Gap { .. } => {
                if let Some(text) = control::mark(channel, entry.item()) {
                    out.push(Action::Send(control::frame(&text)));
                }
            }
        }
        self.may_be_over = false;
    }

    fn may_conflate(&self, _channel: &Channel, event: &Event) -> bool {
        self.is_wanted(event) && !self.ends(event)
    }

    fn on_caught_up(&mut self, channel: &Channel, position: Option<EventId>, out: &mut Actions) {
        // A client that resumes after a run's last event would wait forever: read the last event that it saw.
        if std::mem::take(&mut self.may_be_over)
            && let Some(id) = position
        {
            out.push(Action::Fetch { channel: channel.clone(), offset: id.offset() });
        }
    }

    fn on_fetched(&mut self, _channel: &Channel, event: Option<Event>, out: &mut Actions) {
        if event.is_some_and(|event| self.ends(&event)) {
            out.push(run_completed());
        }
    }

    fn on_channel_gone(&mut self, channel: &Channel, _out: &mut Actions) {
        if let Some(heard) = &mut self.heard {
            heard.remove(channel);
        }
    }

    fn on_client(&mut self, text: &str, out: &mut Actions) {
        let message = self.client.parse(text);
        client_input::answer(self, message, out);
    }

    fn on_heartbeat(&mut self, positions: Positions<'_, '_>, out: &mut Actions) {
        out.push(Action::Send(control::frame(&control::ping(positions))));
    }

    fn on_timer(&mut self, now: Instant, out: &mut Actions) {
        let CrewEndpoint::Mission { offline_after: Some(after) } = self.endpoint else { return };
        let mut next: Option<Instant> = None;
        for (channel, heard) in self.heard.iter_mut().flat_map(|heard| heard.iter_mut()) {
            let due = heard.at + after;
            if heard.told_offline {
                continue;
            }
            if due <= now {
                heard.told_offline = true;
                out.push(Action::Send(text_frame(offline(channel).as_bytes())));
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        out.extend(next.map(Action::WakeAt));
    }
}

fn run_completed() -> Action {
    Action::Close(CloseCode::RunCompleted, Cow::Borrowed("run completed"))
}

/// The signal of a crew without a signal: spec, dialect `crew`.
fn offline(channel: &Channel) -> String {
    let payload = SignalPayload { status: CrewStatus::Offline, crew_id: channel.id().to_owned() };
    serde_json::to_string(&Signal { timestamp: None, payload, traceparent: None }).unwrap_or_default()
}

#[cfg(test)]
mod tests;
