//! The gateway's WebSocket endpoints: their addresses and the channels that they carry.

use crewcast_events::{BadChannel, Channel, Event, EventId, Field};
use serde::Deserialize;
use url::Url;

use crate::error::ClientError;

/// Where a subscription starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// The endpoint's default: a run starts at its first event, everything else is live.
    #[default]
    Default,
    /// At the first event that the log holds.
    Beginning,
    /// After this event.
    After(EventId),
}

impl From<EventId> for Start {
    fn from(id: EventId) -> Self {
        Start::After(id)
    }
}

impl From<Option<EventId>> for Start {
    fn from(id: Option<EventId>) -> Self {
        id.map_or(Start::Default, Start::After)
    }
}

/// A WebSocket endpoint of a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Endpoint {
    /// `/ws/runs/<run>`
    Run(Channel),
    /// `/ws/graph/<crew>`
    Graph(Channel),
    /// `/ws/graph`: every crew that the token grants.
    Graphs,
    /// `/ws/mission`: every crew that the token grants.
    Mission,
    /// `/ws/stream`: any channels, each requested with a message.
    Stream,
}

impl Endpoint {
    pub(crate) fn run(id: &str) -> Result<Self, BadChannel> {
        Channel::new("run", id).map(Endpoint::Run)
    }

    pub(crate) fn graph(crew: &str) -> Result<Self, BadChannel> {
        Channel::new("graph", crew).map(Endpoint::Graph)
    }

    /// The channel, if this endpoint carries exactly one. Only such an endpoint takes a position in its address.
    pub(crate) fn channel(&self) -> Option<&Channel> {
        match self {
            Endpoint::Run(channel) | Endpoint::Graph(channel) => Some(channel),
            Endpoint::Graphs | Endpoint::Mission | Endpoint::Stream => None,
        }
    }

    /// Whether the gateway starts at the first event by default.
    pub(crate) fn starts_at_the_beginning(&self) -> bool {
        matches!(self, Endpoint::Run(_))
    }

    /// The channel of an event. On an endpoint with several channels, a field of the event names it.
    pub(crate) fn channel_of(&self, event: &Event) -> Option<Channel> {
        match self {
            Endpoint::Run(channel) | Endpoint::Graph(channel) => Some(channel.clone()),
            Endpoint::Graphs => Channel::new("graph", &event.field(Field::CrewId)?).ok(),
            Endpoint::Mission => {
                let signal: Signal = serde_json::from_slice(event.raw()).ok()?;
                Channel::new("mission", &signal.payload.crew_id).ok()
            }
            // The envelope names the channel.
            Endpoint::Stream => None,
        }
    }

    /// The endpoint's address at a gateway.
    pub(crate) fn address(&self, gateway: &Url, start: Start, types: &[String]) -> Url {
        let mut url = gateway.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("ws");
            match self {
                Endpoint::Run(channel) => path.push("runs").push(channel.id()),
                Endpoint::Graph(channel) => path.push("graph").push(channel.id()),
                Endpoint::Graphs => path.push("graph"),
                Endpoint::Mission => path.push("mission"),
                Endpoint::Stream => path.push("stream"),
            };
        }
        let since = match start {
            Start::Default => None,
            Start::Beginning => Some("0".to_owned()),
            Start::After(id) => Some(id.to_string()),
        };
        if let Some(since) = since.filter(|_| self.channel().is_some()) {
            url.query_pairs_mut().append_pair("since", &since);
        }
        if !types.is_empty() && *self != Endpoint::Stream {
            url.query_pairs_mut().append_pair("types", &types.join(","));
        }
        url
    }
}

#[derive(Deserialize)]
struct Signal {
    payload: SignalPayload,
}

#[derive(Deserialize)]
struct SignalPayload {
    #[serde(rename = "crewId")]
    crew_id: String,
}

/// Checks a gateway's address and converts its scheme: `http` to `ws`, `https` to `wss`.
pub(crate) fn gateway(text: &str) -> Result<Url, ClientError> {
    let bad = |problem: &str| ClientError::Url { url: text.to_owned(), problem: problem.to_owned() };
    let mut url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    let scheme = match url.scheme() {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        _ => return Err(bad("it must begin with http, https, ws or wss")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ClientError::Url {
            url: "…".to_owned(), problem: "it holds credentials: use a token".to_owned()
        });
    }
    if url.host_str().is_none_or(str::is_empty) || url.set_scheme(scheme).is_err() {
        return Err(bad("it has no host"));
    }
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn address(gateway_url: &str, endpoint: Endpoint, start: Start, types: &[&str]) -> String {
        let types: Vec<String> = types.iter().map(|t| (*t).to_owned()).collect();
        endpoint.address(&gateway(gateway_url).unwrap(), start, &types).to_string()
    }

    #[test]
    fn addresses() {
        let id: EventId = "7-abcdefghijkl".parse().unwrap();
        let run = Endpoint::run("r.1").unwrap();
        let graph = Endpoint::graph("abc").unwrap();
        assert_eq!(
            address("http://h:8000", run.clone(), Start::After(id), &[]),
            "ws://h:8000/ws/runs/r.1?since=7-abcdefghijkl"
        );
        assert_eq!(address("https://h/live/", run, Start::Default, &[]), "wss://h/live/ws/runs/r.1");
        assert_eq!(
            address("ws://h", graph, Start::Beginning, &["a", "b&c"]),
            "ws://h/ws/graph/abc?since=0&types=a%2Cb%26c"
        );
        assert_eq!(address("ws://h", Endpoint::Graphs, Start::After(id), &[]), "ws://h/ws/graph");
        assert_eq!(address("ws://h?tenant=x", Endpoint::Mission, Start::Beginning, &[]), "ws://h/ws/mission?tenant=x");
    }

    #[test]
    fn bad_addresses_are_refused_without_echoing_credentials() {
        for bad in ["", "localhost:8000", "redis://h", "/ws", "http://"] {
            assert!(matches!(gateway(bad), Err(ClientError::Url { .. })), "{bad}");
        }
        let error = gateway("http://u:hunter2@h").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn events_on_shared_sockets_name_their_channel() {
        let parse = |text: &'static str| Event::parse(Bytes::from_static(text.as_bytes())).unwrap();
        let tool = parse(r#"{"type":"tool_start","crew_id":"abc"}"#);
        let signal = parse(r#"{"type":"signal","payload":{"status":"busy","crewId":"abc"}}"#);
        assert_eq!(Endpoint::Graphs.channel_of(&tool).unwrap().as_str(), "graph:abc");
        assert_eq!(Endpoint::Mission.channel_of(&signal).unwrap().as_str(), "mission:abc");
        assert_eq!(Endpoint::Graphs.channel_of(&signal), None);
        assert_eq!(Endpoint::Mission.channel_of(&tool), None);
        assert_eq!(Endpoint::run("r").unwrap().channel_of(&tool).unwrap().as_str(), "run:r");
    }
}
