//! Server-sent events: any granted channel over plain HTTP, resumed by `Last-Event-ID`.
//!
//! The event stream's text is defined by the HTML standard, section 9.2. Each event goes out as `id:` (logged
//! ones), `event:` and `data:`.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId, Since};
use tokio::time::Instant;

use super::{Action, Actions, Dialect, Positions, control};
use crate::{
    hub::{Encoding, Entry},
    replay::{Opening, Start},
};

/// A comment this often keeps proxies from closing a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// One event stream.
pub struct Sse {
    channels: Vec<(Channel, Start)>,
    /// With several channels the id names the position in each; `None`: before its first event.
    positions: Option<BTreeMap<Channel, Option<EventId>>>,
    types: Box<[String]>,
}

impl Sse {
    /// A stream of these channels. `last_event_id` is what the browser repeats: one id (with several channels it is
    /// that of each), or `<channel>=<id>` joined by commas.
    pub fn new(channels: Vec<Channel>, last_event_id: Option<&str>, types: Vec<String>) -> Self {
        let is_combined = channels.len() > 1;
        let since = |channel: &Channel| -> Option<Since> {
            let text = last_event_id.filter(|text| !text.is_empty())?;
            if !text.contains('=') {
                return text.parse().ok();
            }
            let parts = text.split(',').filter_map(|part| part.split_once('='));
            parts.filter(|(name, _)| *name == channel.as_str()).find_map(|(_, id)| id.parse().ok())
        };
        let starts: Vec<_> =
            channels.into_iter().map(|channel| (since(&channel).map_or(Start::Live, Start::Since), channel)).collect();
        let positions = is_combined.then(|| {
            let known = starts.iter().filter_map(|(start, channel)| match start {
                Start::Since(Since::After(id)) => Some((channel.clone(), Some(*id))),
                Start::Since(Since::Beginning) => Some((channel.clone(), None)),
                _ => None,
            });
            known.collect()
        });
        let channels = starts.into_iter().map(|(start, channel)| (channel, start)).collect();
        Self { channels, positions, types: types.into() }
    }

    fn id_line(&mut self, channel: &Channel, id: Option<EventId>) -> Bytes {
        let text = |id: Option<EventId>| id.map_or_else(|| "0".to_owned(), |id| id.to_string());
        let Some(positions) = &mut self.positions else { return format!("id: {}\n", text(id)).into() };
        positions.insert(channel.clone(), id);
        let mut line = String::from("id: ");
        for (n, (channel, id)) in positions.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(line, "{comma}{channel}={}", text(*id));
        }
        line.push('\n');
        line.into()
    }
}

impl Dialect for Sse {
    fn label(&self) -> &'static str {
        "sse"
    }

    fn heartbeat(&self) -> Option<Duration> {
        Some(HEARTBEAT)
    }

    fn on_open(&mut self, out: &mut Actions) {
        // The first bytes tell a client, and every proxy between, that the stream is open.
        out.push(Action::Send(Bytes::from_static(b": crewcast\n\n")));
        for (channel, start) in &self.channels {
            out.push(Action::Subscribe { channel: channel.clone(), start: *start });
        }
    }

    fn on_channel(&mut self, channel: &Channel, opening: &Opening, out: &mut Actions) {
        let starts_live = self.channels.iter().any(|(known, start)| known == channel && *start == Start::Live);
        if starts_live {
            // A client that is cut before its first event resumes from here, also where nothing was ever published.
            let mut line = self.id_line(channel, opening.position).to_vec();
            line.extend_from_slice(b"\n");
            out.push(Action::Send(line.into()));
        }
    }

    fn on_entry(&mut self, channel: &Channel, entry: &Arc<Entry>, out: &mut Actions) {
        let Some(event) = entry.event() else {
            out.extend(control::mark(channel, entry.item()).map(|text| Action::Send(control_event(&text))));
            return;
        };
        if !self.types.is_empty() && !self.types.iter().any(|kind| *kind == event.kind()) {
            return;
        }
        if let Some(id) = event.id() {
            out.push(Action::Send(self.id_line(channel, Some(id))));
        }
        out.push(Action::Deliver(entry.encoded(Encoding::Sse, || encode(event)), entry.clone()));
    }

    fn on_caught_up(&mut self, _channel: &Channel, _position: Option<EventId>, _out: &mut Actions) {}

    fn on_fetched(&mut self, _channel: &Channel, _event: Option<Event>, _out: &mut Actions) {}

    fn on_channel_gone(&mut self, _channel: &Channel, _out: &mut Actions) {}

    fn on_client(&mut self, _text: &str, _out: &mut Actions) {}

    fn on_heartbeat(&mut self, positions: Positions<'_, '_>, out: &mut Actions) {
        let mut text = b": ping\n".to_vec();
        // An id without data moves the client's Last-Event-ID past what its filter hides.
        for (channel, id) in positions {
            if id.is_some() {
                text.extend_from_slice(&self.id_line(channel, id));
            }
        }
        text.push(b'\n');
        out.push(Action::Send(text.into()));
    }

    fn on_timer(&mut self, _now: Instant, _out: &mut Actions) {}
}

/// A gateway's own message as an event of its type.
pub fn control_event(text: &str) -> Bytes {
    let kind = serde_json::from_str::<serde_json::Value>(text).ok();
    let kind = kind.as_ref().and_then(|message| message["type"].as_str()).unwrap_or("message");
    format!("event: {kind}\ndata: {text}\n\n").into()
}

/// `event:` and `data:` of one event. `error` is EventSource's own name, so that it goes out as `agent_error`.
fn encode(event: &Event) -> Bytes {
    let kind = event.kind();
    let name = if kind == "error" { "agent_error" } else { &kind };
    let mut text = format!("event: {name}\n");
    // A line break inside the JSON is white space; the stream's format wants a field for each line.
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
    fn writes_what_the_standard_reads() {
        let event = Event::parse(Bytes::from_static(b"{\"type\":\"error\",\r\n\"n\":1}")).unwrap();
        assert_eq!(&encode(&event)[..], b"event: agent_error\ndata: {\"type\":\"error\",\ndata: \ndata: \"n\":1}\n\n");
    }

    #[test]
    fn several_channels_share_one_id() {
        let channels: Vec<Channel> = ["graph:a", "run:r"].iter().map(|name| name.parse().unwrap()).collect();
        let mut sse = Sse::new(channels.clone(), Some("graph:a=7-abcdefghijkl"), Vec::new());
        assert_eq!(sse.channels[0].1, Start::Since("7-abcdefghijkl".parse().unwrap()));
        assert_eq!(sse.channels[1].1, Start::Live);
        let line = sse.id_line(&channels[1], None);
        assert_eq!(&line[..], b"id: graph:a=7-abcdefghijkl,run:r=0\n");
        let line = sse.id_line(&channels[1], "3-abcdefghijkl".parse().ok());
        assert_eq!(&line[..], b"id: graph:a=7-abcdefghijkl,run:r=3-abcdefghijkl\n");
    }

    #[test]
    fn an_id_of_another_form_is_never_passed_over() {
        let channels: Vec<Channel> = ["graph:a", "run:r"].iter().map(|name| name.parse().unwrap()).collect();
        let starts = |channels: &[Channel], last: &str| -> Vec<Start> {
            Sse::new(channels.to_vec(), Some(last), Vec::new()).channels.into_iter().map(|(_, start)| start).collect()
        };
        let (beginning, unknown) = (Start::Since(Since::Beginning), Start::Since(Since::Unknown));
        assert_eq!(starts(&channels, "graph:a=rubbish,run:r=0"), [unknown, beginning]);
        assert_eq!(starts(&channels, "0"), [beginning, beginning]);
        assert_eq!(starts(&channels, "rubbish"), [unknown, unknown]);
        assert_eq!(starts(&channels, ""), [Start::Live, Start::Live]);
        assert_eq!(starts(&channels[1..], "graph:a=7-abcdefghijkl,run:r=0"), [beginning]);
        // A channel that still has had no event is not forgotten by the next id.
        let mut sse = Sse::new(channels.clone(), Some("run:r=0"), Vec::new());
        let line = sse.id_line(&channels[0], "1-000000abcdef".parse().ok());
        assert_eq!(&line[..], b"id: graph:a=1-000000abcdef,run:r=0\n");
    }
}
