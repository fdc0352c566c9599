//! Server-sent events: any granted channel over plain HTTP, resumed by `Last-Event-ID`.
//!
//! The HTML standard, section 9.2, defines the format. Each event is sent as `id:` (logged events), `event:` and
//! `data:`. With several channels, the id contains the position in each, as `<channel>=<id>` joined by commas. The
//! position of a channel without events is `0`, as in `since=0`.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{self, Write as _},
    iter::once,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId, Since};
use crewcast_websocket::close::CloseCode;

use super::{Action, Actions, Conflated, Denied, Dialect, Positions, control, encoding};
use crate::{
    auth::Identity,
    hub::Entry,
    replay::{Opening, Start},
};

/// A comment at this interval keeps proxies from closing a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The longest id, in bytes. Clients repeat it in a header, and proxies accept headers of 8 KB (nginx's
/// `large_client_header_buffers`).
pub(crate) const MAX_ID: usize = 4096;
/// Bytes of a position besides its channel's name: an equals sign, an event id and a comma.
const POSITION: usize = 31;

/// The longest possible id of a stream of these channels, in bytes.
pub(crate) fn longest_id(channels: &[Channel]) -> usize {
    channels.iter().map(|channel| channel.as_str().len() + POSITION).sum()
}

/// One event stream.
pub(crate) struct Sse {
    channels: Vec<(Channel, Start)>,
    /// With several channels: the known position in each, `None` before the channel's first event.
    positions: Option<BTreeMap<Channel, Option<EventId>>>,
    types: Box<[String]>,
}

impl Sse {
    /// A stream of these channels. `last_event_id` is the value that the browser repeats: one id, which applies to
    /// every channel, or `<channel>=<id>` joined by commas.
    pub(crate) fn new(channels: Vec<Channel>, last_event_id: Option<&str>, types: Vec<String>) -> Self {
        let is_combined = channels.len() > 1;
        let since = |channel: &Channel| -> Option<Since> {
            let text = last_event_id.filter(|text| !text.is_empty())?;
            if !text.contains('=') {
                return text.parse().ok();
            }
            let parts = text.split(',').filter_map(|part| part.split_once('='));
            parts.filter(|(name, _)| *name == channel.as_str()).find_map(|(_, id)| id.parse().ok())
        };
        let channels: Vec<_> = channels
            .into_iter()
            .map(|channel| {
                let start = since(&channel).map_or(Start::Live, Start::Since);
                (channel, start)
            })
            .collect();
        let positions = is_combined.then(|| {
            let known = channels.iter().filter_map(|(channel, start)| match start {
                Start::Since(Since::After(id)) => Some((channel.clone(), Some(*id))),
                // The log's events follow, and none has been sent yet.
                Start::Since(Since::Beginning | Since::Unknown) => Some((channel.clone(), None)),
                Start::Live | Start::Retained => None,
            });
            known.collect()
        });
        Self { channels, positions, types: types.into() }
    }

    /// For these channels, a stream that does not resume gets the retained event first.
    pub(crate) fn retaining(mut self, retains: impl Fn(&Channel) -> bool) -> Self {
        for (channel, start) in &mut self.channels {
            if *start == Start::Live && retains(channel) {
                *start = Start::Retained;
            }
        }
        self
    }

    fn deliver(&self, entry: &Arc<Entry>, event: &Event, out: &mut Actions) {
        let text = entry.encoded(encoding::SSE, || encode(event));
        out.push(Action::Deliver(text, encoding::SSE, entry.clone()));
    }

    fn resumes(&self, channel: &Channel) -> bool {
        self.channels.iter().any(|(known, start)| known == channel && matches!(start, Start::Since(_)))
    }

    fn is_wanted(&self, event: &Event) -> bool {
        self.types.is_empty() || self.types.iter().any(|kind| *kind == event.kind())
    }

    /// The `id:` line after these channels moved; empty if no position is known.
    fn id_line<'a>(&mut self, moved: impl Iterator<Item = (&'a Channel, Option<EventId>)>) -> String {
        let Some(positions) = &mut self.positions else {
            return moved.last().map(|(_, id)| format!("id: {}\n", Position(id))).unwrap_or_default();
        };
        for (channel, id) in moved {
            match positions.get_mut(channel) {
                Some(position) => *position = id,
                None => _ = positions.insert(channel.clone(), id),
            }
        }
        let mut line = String::new();
        for (n, (channel, id)) in positions.iter().enumerate() {
            let before = if n == 0 { "id: " } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(line, "{before}{channel}={}", Position(*id));
        }
        if !line.is_empty() {
            line.push('\n');
        }
        line
    }
}

/// A position as `since` takes it.
struct Position(Option<EventId>);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => id.fmt(f),
            None => f.write_str("0"),
        }
    }
}

impl Dialect for Sse {
    fn label(&self) -> &'static str {
        "sse"
    }

    fn heartbeat(&self) -> Option<Duration> {
        Some(HEARTBEAT)
    }

    fn on_open(&mut self, _identity: Option<&Identity>, out: &mut Actions) {
        // The first bytes tell the client, and every proxy in between, that the stream is open.
        out.push(Action::Send(Bytes::from_static(b": crewcast\n\n")));
        for (channel, start) in &self.channels {
            out.push(Action::Subscribe { channel: channel.clone(), start: *start });
        }
    }

    fn on_pending(&mut self, channel: &Channel, out: &mut Actions) {
        if !self.resumes(channel) {
            // Everything that will be logged there is news to this client.
            let line = self.id_line(once((channel, None)));
            out.push(Action::Send(format!("{line}\n").into()));
        }
    }

    fn on_channel(&mut self, channel: &Channel, opening: &Opening, out: &mut Actions) {
        if self.resumes(channel) {
            return;
        }
        // A client that is disconnected before its first event resumes from here.
        let line = self.id_line(once((channel, opening.position)));
        let retained = opening.retained.as_ref().and_then(|entry| Some((entry, entry.event()?)));
        match retained.filter(|(_, event)| self.is_wanted(event)) {
            Some((entry, event)) => {
                out.push(Action::Send(line.into()));
                self.deliver(entry, event, out);
            }
            None => out.push(Action::Send(format!("{line}\n").into())),
        }
    }

    fn on_entry(&mut self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions) {
        let Some(event) = entry.event() else {
            out.extend(control::mark(channel, entry.item()).map(|text| Action::Send(control_event(&text))));
            return;
        };
        if !self.is_wanted(event) {
            return;
        }
        if let Some(id) = event.id() {
            out.push(Action::Send(self.id_line(once((channel, Some(id)))).into()));
        }
        self.deliver(entry, event, out);
    }

    fn may_conflate(&self, _channel: &Channel, event: &Event) -> bool {
        self.is_wanted(event)
    }

    fn on_conflated(&mut self, channel: &Channel, skipped: Conflated, out: &mut Actions) {
        let line = self.id_line(once((channel, skipped.position)));
        out.push(Action::Send(line.into()));
        out.push(Action::Send(control_event(&control::skipped(channel, skipped))));
    }

    fn on_refused(&mut self, _denied: Denied<'_>, out: &mut Actions) {
        let reason = "the token no longer grants a channel of this stream";
        out.push(Action::Close(CloseCode::Forbidden, Cow::Borrowed(reason)));
    }

    fn on_notice(&mut self, text: &str, out: &mut Actions) {
        out.push(Action::Send(control_event(text)));
    }

    /// The stream's head was answered with 200 long ago: why it ends can only be said in it.
    fn on_close(&mut self, code: CloseCode, reason: &str, out: &mut Actions) {
        let code = match code {
            CloseCode::Unauthorized => "unauthorized",
            CloseCode::Forbidden => "forbidden",
            CloseCode::Overloaded => "broker_unavailable",
            _ => return,
        };
        out.push(Action::Send(control_event(&control::error(code, reason))));
    }

    fn on_heartbeat(&mut self, positions: Positions<'_, '_>, out: &mut Actions) {
        // An id without data moves the client's Last-Event-ID past events that its filter hides.
        let line = self.id_line(positions);
        out.push(Action::Send(format!(": ping\n{line}\n").into()));
    }
}

/// A gateway message as an event of its type. EventSource waits as long as a `reconnect` says before it comes back.
fn control_event(text: &str) -> Bytes {
    let message: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let kind = message["type"].as_str().unwrap_or("message");
    let wait = message["in_ms"].as_u64().filter(|_| kind == "reconnect");
    let retry = wait.map(|wait| format!("retry: {wait}\n")).unwrap_or_default();
    format!("{retry}event: {kind}\ndata: {text}\n\n").into()
}

/// `event:` and `data:` of one event. `error` is an event name of EventSource itself, so it is sent as `agent_error`.
fn encode(event: &Event) -> Bytes {
    let kind = event.kind();
    let name = if kind == "error" { "agent_error" } else { &kind };
    let mut text = format!("event: {name}\n");
    // A line break inside the JSON is white space; the format needs a field for each line.
    for line in event.text().split(['\n', '\r']) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_follows_the_html_standard() {
        let event = Event::parse(Bytes::from_static(b"{\"type\":\"error\",\r\n\"n\":1}")).unwrap();
        assert_eq!(&encode(&event)[..], b"event: agent_error\ndata: {\"type\":\"error\",\ndata: \ndata: \"n\":1}\n\n");
    }

    fn channels(names: &[&str]) -> Vec<Channel> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn id(text: &str) -> Option<EventId> {
        Some(text.parse().unwrap())
    }

    /// Everything that was sent, as one text.
    fn sent(out: &mut Actions) -> String {
        let text = |action| match action {
            Action::Send(text) | Action::Deliver(text, ..) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        out.drain(..).map(text).collect()
    }

    fn opened(sse: &mut Sse, channel: &Channel, position: Option<EventId>) -> String {
        let mut out = Actions::new();
        sse.on_channel(channel, &Opening { position, retained: None }, &mut out);
        sent(&mut out)
    }

    #[test]
    fn a_channel_without_an_owner_is_resumed_from_its_beginning() {
        for (names, id) in [(channels(&["graph:a"]), "0"), (channels(&["graph:a", "run:r"]), "graph:a=0")] {
            let (mut sse, mut out) = (Sse::new(names.clone(), None, Vec::new()), Actions::new());
            sse.on_pending(&names[0], &mut out);
            assert_eq!(sent(&mut out), format!("id: {id}\n\n"));
            let mut resumed = Sse::new(names.clone(), Some("7-abcdefghijkl"), Vec::new());
            resumed.on_pending(&names[0], &mut out);
            assert_eq!(sent(&mut out), "", "it keeps its own id");
        }
    }

    #[test]
    fn several_channels_share_one_id() {
        let names = channels(&["graph:a", "run:r"]);
        let mut sse = Sse::new(names.clone(), Some("graph:a=7-abcdefghijkl"), Vec::new());
        assert_eq!(sse.channels[0].1, Start::Since("7-abcdefghijkl".parse().unwrap()));
        assert_eq!(sse.channels[1].1, Start::Live);
        let line = sse.id_line(once((&names[1], id("3-abcdefghijkl"))));
        assert_eq!(line, "id: graph:a=7-abcdefghijkl,run:r=3-abcdefghijkl\n");
    }

    #[test]
    fn a_channel_without_events_is_at_its_beginning() {
        let names = channels(&["graph:a", "run:r"]);
        let mut one = Sse::new(names[..1].to_vec(), None, Vec::new());
        assert_eq!(opened(&mut one, &names[0], None), "id: 0\n\n");
        let mut both = Sse::new(names.clone(), None, Vec::new());
        assert_eq!(opened(&mut both, &names[0], None), "id: graph:a=0\n\n");
        let last = opened(&mut both, &names[1], id("3-abcdefghijkl"));
        assert_eq!(last, "id: graph:a=0,run:r=3-abcdefghijkl\n\n");
        let mut again = Sse::new(names.clone(), last.trim_end().strip_prefix("id: "), Vec::new());
        assert_eq!(again.channels[0].1, Start::Since(Since::Beginning));
        assert_eq!(opened(&mut again, &names[0], None), "", "the client knows its position");
        let line = again.id_line(once((&names[1], id("4-abcdefabcdef"))));
        assert_eq!(line, "id: graph:a=0,run:r=4-abcdefabcdef\n", "graph:a is kept");
    }

    #[test]
    fn a_malformed_id_is_never_ignored() {
        let channels = channels(&["graph:a", "run:r"]);
        let starts = |channels: &[Channel], last: &str| -> Vec<Start> {
            Sse::new(channels.to_vec(), Some(last), Vec::new()).channels.into_iter().map(|(_, start)| start).collect()
        };
        let (beginning, unknown) = (Start::Since(Since::Beginning), Start::Since(Since::Unknown));
        assert_eq!(starts(&channels, "graph:a=rubbish,run:r=0"), [unknown, beginning]);
        assert_eq!(starts(&channels, "0"), [beginning, beginning]);
        assert_eq!(starts(&channels, "rubbish"), [unknown, unknown]);
        assert_eq!(starts(&channels, ""), [Start::Live, Start::Live]);
        assert_eq!(starts(&channels[1..], "graph:a=7-abcdefghijkl,run:r=0"), [beginning]);
        // A channel that still has no event is kept in the next id.
        let mut sse = Sse::new(channels.clone(), Some("run:r=0"), Vec::new());
        let line = sse.id_line(std::iter::once((&channels[0], "1-000000abcdef".parse().ok())));
        assert_eq!(line, "id: graph:a=1-000000abcdef,run:r=0\n");
    }

    #[test]
    fn a_channel_of_which_nothing_was_sent_stays_at_its_beginning() {
        for last in ["0", "rubbish", "graph:a=rubbish,run:r=0"] {
            let mut sse = Sse::new(channels(&["graph:a", "run:r"]), Some(last), Vec::new());
            assert_eq!(sse.id_line(std::iter::empty()), "id: graph:a=0,run:r=0\n", "{last}");
        }
    }

    #[test]
    fn a_heartbeat_sends_the_positions_once() {
        let names = channels(&["graph:a", "graph:b", "graph:c"]);
        let mut sse = Sse::new(names.clone(), None, Vec::new());
        let mut out = Actions::new();
        sse.on_heartbeat(&mut std::iter::empty(), &mut out);
        assert_eq!(sent(&mut out), ": ping\n\n", "nothing is open yet");
        let ids = [id("1-000000abcdef"), None, id("3-abcdefghijkl")];
        sse.on_heartbeat(&mut names.iter().zip(ids), &mut out);
        let combined = "id: graph:a=1-000000abcdef,graph:b=0,graph:c=3-abcdefghijkl";
        assert_eq!(sent(&mut out), format!(": ping\n{combined}\n\n"));
    }

    #[test]
    fn no_id_exceeds_the_computed_length() {
        let names = channels(&["graph:a", "run:r"]);
        let longest = id("9007199254740992-abcdefghijkl");
        let mut sse = Sse::new(names.clone(), None, Vec::new());
        let line = sse.id_line(names.iter().map(|channel| (channel, longest)));
        // The last position has no comma.
        assert_eq!(line.trim_end().len(), "id: ".len() + longest_id(&names) - 1);
    }
}
