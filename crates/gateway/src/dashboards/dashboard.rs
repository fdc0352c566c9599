//! An org at a glance: counts of its state documents, and its last events.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, Event, Field, catalog::forge::knowledge::COUNTS, timestamp};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::metrics;
use crate::{
    broker::{BrokerError, LogStore, captured::LAST_EVENTS},
    state::StateSnapshot,
};

/// How many events a dashboard shows.
const EVENTS: usize = 20;
/// Most bytes of these events: large events are fewer.
const EVENT_BYTES: usize = 256 << 10;
/// The status of documents without one.
const UNKNOWN: &str = "unknown";

#[derive(Serialize)]
struct DashboardMessage<'a> {
    agents: StatusCounts,
    tasks: Tasks<'a>,
    knowledge: Counts,
    metrics: Box<RawValue>,
    events: Vec<&'a RawValue>,
}

#[derive(Default, Serialize)]
struct StatusCounts {
    total: usize,
    by_status: BTreeMap<String, usize>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

#[derive(Serialize)]
struct Tasks<'a> {
    #[serde(flatten)]
    counted: StatusCounts,
    /// Percentage by task, where known.
    progress: BTreeMap<&'a str, f64>,
}

/// The fields that are read from a document. Everything else is up to its producer.
#[derive(Default, Deserialize)]
struct DocumentFields {
    status: Option<String>,
    percentage: Option<f64>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Counts {
    nodes: u64,
    edges: u64,
}

/// The whole message.
pub(super) fn message(
    agents: &StateSnapshot,
    tasks: &StateSnapshot,
    knowledge: &StateSnapshot,
    newest: &StateSnapshot,
    events: &[Bytes],
) -> String {
    let counts = knowledge.document(COUNTS).and_then(|counts| serde_json::from_str(counts.get()).ok());
    let dashboard = DashboardMessage {
        agents: counted(agents),
        tasks: Tasks { counted: counted(tasks), progress: progress(tasks) },
        knowledge: counts.unwrap_or_default(),
        metrics: RawValue::from_string(metrics::sets(newest)).unwrap_or_default(),
        events: events.iter().filter_map(|event| serde_json::from_slice(event).ok()).collect(),
    };
    // Strings, numbers and raw JSON always serialise.
    let data = serde_json::to_string(&dashboard).unwrap_or_default();
    format!(r#"{{"type":"dashboard","data":{data},"timestamp":"{}"}}"#, timestamp::now())
}

fn read(document: &RawValue) -> DocumentFields {
    serde_json::from_str(document.get()).unwrap_or_default()
}

fn counted(state: &StateSnapshot) -> StatusCounts {
    let mut counted =
        StatusCounts { total: state.documents.len(), truncated: state.truncated, ..StatusCounts::default() };
    for (_, document) in &state.documents {
        let status = read(document).status.unwrap_or_else(|| UNKNOWN.to_owned());
        *counted.by_status.entry(status).or_default() += 1;
    }
    counted
}

fn progress(tasks: &StateSnapshot) -> BTreeMap<&str, f64> {
    let known = tasks.documents.iter().filter_map(|(key, document)| Some((key.as_str(), read(document).percentage?)));
    known.collect()
}

/// The last events of these channels, oldest first, each as published.
///
/// # Errors
/// Errors of the broker.
pub(super) async fn last_events(
    log: &dyn LogStore,
    channels: &[Channel],
    states: &[Arc<StateSnapshot>],
) -> Result<Vec<Bytes>, BrokerError> {
    let ends = channels.iter().zip(states).filter_map(|(channel, state)| Some((channel, state.head?.offset())));
    let pages =
        try_join_all(ends.map(|(channel, end)| log.history(channel, end.saturating_sub(EVENTS as u64), EVENTS)));
    let live = try_join_all(channels.iter().map(|channel| log.live(channel, LAST_EVENTS)));
    let (pages, live) = futures_util::try_join!(pages, live)?;
    let logged = pages.into_iter().map(|page| page.entries);
    Ok(merged(logged.chain(live.into_iter().map(|live| live.lines))))
}

/// Merges the channels by their events' timestamps. Each channel keeps its own order.
fn merged(channels: impl Iterator<Item = Vec<Bytes>>) -> Vec<Bytes> {
    let mut all: Vec<(Duration, Bytes)> = Vec::new();
    for entries in channels {
        let mut latest = Duration::ZERO;
        for event in entries.into_iter().filter_map(|raw| Event::parse(raw).ok()) {
            let moment = event.field(Field::Timestamp).and_then(|text| timestamp::parse(&text));
            latest = latest.max(moment.unwrap_or_default());
            all.push((latest, event.raw().clone()));
        }
    }
    // Stable: events of the same moment keep the order of their channels.
    all.sort_by_key(|(moment, _)| *moment);
    let mut room = EVENT_BYTES;
    let newest = all.into_iter().rev().take(EVENTS).map_while(|(_, raw)| {
        room = room.checked_sub(raw.len())?;
        Some(raw)
    });
    let mut events: Vec<Bytes> = newest.collect();
    events.reverse();
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: usize, second: &str) -> Bytes {
        Bytes::from(format!(r#"{{"type":"x","n":{n},"timestamp":"2026-03-01T12:00:{second}Z"}}"#))
    }

    #[test]
    fn events_are_merged_by_timestamp_and_keep_the_order_of_their_channel() {
        let without = Bytes::from_static(br#"{"type":"x"}"#);
        let agents = vec![event(1, "01"), without.clone(), event(3, "05")];
        let tasks = vec![event(4, "02"), event(5, "01"), event(6, "09")];
        let expected = [event(1, "01"), without, event(4, "02"), event(5, "01"), event(3, "05"), event(6, "09")];
        assert_eq!(merged([agents, tasks].into_iter()), expected);
    }

    #[test]
    fn at_most_twenty_events_are_shown_and_fewer_large_ones() {
        let many = |channel: usize| (0..20).map(|n| event(channel, &format!("{n:02}"))).collect::<Vec<_>>();
        let last = merged([many(1), many(2)].into_iter());
        assert_eq!((last.len(), &last[0], &last[19]), (EVENTS, &event(1, "10"), &event(2, "19")));
        let large = |n: usize| Bytes::from(format!(r#"{{"type":"x","n":{n},"long":"{}"}}"#, "x".repeat(100_000)));
        let last = merged([(0..5).map(large).collect()].into_iter());
        assert_eq!(last, [large(3), large(4)]);
    }
}
