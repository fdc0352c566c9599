//! Conflation: if the operator allows it, a lagging reader skips old progress, is told so, and keeps an exact position.

use crewcast_client::{Client, Delivery, Request, Start};
use crewcast_events::EventId;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{
    PATIENCE,
    gateway::{self, Gateway, client},
    socket::{Socket, connect},
    sse::EventStream,
    token::token,
};

const CHANNEL: &str = "graph:abc";
/// Events after the first one. More than a reader takes at once.
const EVENTS: usize = 300;

/// A gateway whose ring holds the channel's events, and their ids. The events are the alternating progress of two
/// calls, with an error in the middle and both ends.
async fn full_ring(settings: &[(&str, &str)]) -> (Gateway, Socket, Vec<EventId>) {
    let gateway = gateway::memory(settings).await;
    let mut first = connect(&gateway.ws("/ws/graph/abc?since=0"), Some(&reader())).await;
    let call = |kind: &str, tool: &str, n: usize| {
        let (run, agent) = ("r", "a");
        json!({ "type": kind, "run_id": run, "agent_id": agent, "tool": tool, "n": n })
    };
    let mut events = vec![json!({ "type": "marker" }), call("tool_start", "search", 1), call("tool_start", "shell", 2)];
    for n in 3..=EVENTS - 2 {
        events.push(match n {
            150 => json!({ "type": "error", "message": "m", "n": n }),
            n => call("tool_progress", if n % 2 == 0 { "search" } else { "shell" }, n),
        });
    }
    events.extend([call("tool_end", "search", EVENTS - 1), call("tool_end", "shell", EVENTS)]);
    let lines: Vec<String> =
        events.iter().map(|event| json!({ "channel": CHANNEL, "event": event }).to_string()).collect();
    let publisher = token(json!({ "publish": ["graph:*"] }));
    let mut ids = Vec::new();
    for part in lines.chunks(100) {
        let request = client().post(gateway.url("/api/v1/publish")).bearer_auth(&publisher);
        let answer = request.header("content-type", "application/x-ndjson").body(part.join("\n")).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        ids.extend(
            answer["ids"].as_array().expect("ids").iter().map(|id| id.as_str().unwrap().parse::<EventId>().unwrap()),
        );
    }
    assert_eq!(ids.len(), EVENTS + 1);
    // When the last event has arrived, the ring has all of them.
    let mut last = None;
    while last != ids.last().copied() {
        let message = first.json().await;
        let id = if message["type"] == "skipped" { &message["position"] } else { &message["id"] };
        last = id.as_str().map(|id| id.parse().unwrap());
    }
    (gateway, first, ids)
}

fn reader() -> String {
    token(json!({ "crews": ["abc"] }))
}

/// Asserts that the newest progress of each call has come, and everything that is not progress.
fn assert_what_matters_came(kinds_and_numbers: &[(String, u64)]) {
    let last = EVENTS as u64;
    let has = |kind: &str, n: u64| kinds_and_numbers.iter().any(|(k, m)| k == kind && *m == n);
    for (kind, n) in [
        ("tool_start", 1),
        ("tool_start", 2),
        ("error", 150),
        ("tool_progress", last - 3),
        ("tool_progress", last - 2),
        ("tool_end", last - 1),
        ("tool_end", last),
    ] {
        assert!(has(kind, n), "{kind} {n} of {kinds_and_numbers:?}");
    }
    assert!(kinds_and_numbers.is_sorted_by_key(|(_, n)| *n), "in order");
}

#[tokio::test]
async fn a_socket_is_told_what_was_skipped_and_its_ids_stay_chained() {
    let (gateway, _first, ids) = full_ring(&[("CREWCAST_NAMESPACES__GRAPH__SKIP_PROGRESS", "true")]).await;
    let mut socket = connect(&gateway.ws(&format!("/ws/graph/abc?since={}", ids[0])), Some(&reader())).await;
    let (mut at, mut seen, mut skipped) = (ids[0], Vec::new(), 0);
    while at != ids[EVENTS] {
        let message = socket.json().await;
        let id = |key: &str| message[key].as_str().unwrap().parse::<EventId>().unwrap();
        if message["type"] == "skipped" {
            assert_eq!((&message["source"], &message["channel"]), (&json!("gateway"), &json!(CHANNEL)));
            let position = id("position");
            assert_eq!(position.offset() - at.offset(), message["events"].as_u64().unwrap());
            skipped += position.offset() - at.offset();
            at = position;
        } else {
            assert!(id("id").continues(Some(at)), "{message} after {at}");
            at = id("id");
            seen.push((message["type"].as_str().unwrap().to_owned(), message["n"].as_u64().unwrap()));
        }
    }
    assert_what_matters_came(&seen);
    assert_eq!(seen.len() as u64 + skipped, EVENTS as u64);
    assert!(skipped > 200, "{skipped} of {EVENTS}");
    assert!(gateway.metric("crewcast_events_skipped_total", "graph").await >= skipped as f64);
    // A reader whose filter hides progress skips nothing and is told nothing.
    let quiet = format!("/ws/graph/abc?since={}&types=tool_start,tool_end", ids[0]);
    let mut socket = connect(&gateway.ws(&quiet), Some(&reader())).await;
    for kind in ["tool_start", "tool_start", "tool_end", "tool_end"] {
        assert_eq!(socket.json().await["type"], kind);
    }
}

#[tokio::test]
async fn clients_resume_after_skipped_events() {
    let (gateway, _first, ids) = full_ring(&[("CREWCAST_NAMESPACES__GRAPH__SKIP_PROGRESS", "true")]).await;
    let client = Client::builder(gateway.url("")).token(reader()).build().unwrap();
    let of_stream: Request = client.stream([(CHANNEL.parse().unwrap(), Start::After(ids[0]))]);
    for request in [client.graph("abc").since(ids[0]), of_stream] {
        let mut subscription = request.connect();
        let (mut seen, mut skipped) = (Vec::new(), 0);
        while seen.len() as u64 + skipped < EVENTS as u64 {
            match timeout(PATIENCE, subscription.next()).await.unwrap().unwrap().unwrap() {
                Delivery::Event { event, .. } => {
                    let n = serde_json::from_str::<Value>(event.text()).unwrap()["n"].as_u64().unwrap();
                    seen.push((event.kind().into_owned(), n));
                }
                Delivery::Skipped { channel, events } => {
                    assert_eq!(channel.unwrap().as_str(), CHANNEL);
                    skipped += events;
                }
                Delivery::Connected { resumed: true } => {}
                other => panic!("{other:?}"),
            }
            let at = subscription.positions()[CHANNEL];
            assert_eq!(at, ids[seen.len() + skipped as usize], "the position is not exact");
        }
        assert_what_matters_came(&seen);
        assert!(skipped > 200);
    }
}

#[tokio::test]
async fn an_event_stream_reports_its_position_after_skipped_events() {
    let (gateway, _first, ids) = full_ring(&[("CREWCAST_NAMESPACES__GRAPH__SKIP_PROGRESS", "true")]).await;
    let url = gateway.url(&format!("/sse?channel={CHANNEL}"));
    let request = client().get(url).bearer_auth(reader()).header("last-event-id", ids[0].to_string());
    let mut stream = EventStream::open(request).await;
    let (mut events, mut skipped) = (0, 0);
    while events + skipped < EVENTS as u64 {
        let message = stream.next().await.unwrap();
        match message.kind.as_str() {
            "skipped" => {
                assert!(message.has_id);
                skipped += message.json()["events"].as_u64().unwrap();
            }
            _ => events += 1,
        }
    }
    assert_eq!(stream.last_id, ids[EVENTS].to_string());
    assert!(skipped > 200);
}

#[tokio::test]
async fn nothing_is_skipped_unless_the_operator_allows_it() {
    let (gateway, _first, ids) = full_ring(&[]).await;
    let mut socket = connect(&gateway.ws(&format!("/ws/graph/abc?since={}", ids[0])), Some(&reader())).await;
    for id in &ids[1..] {
        assert_eq!(socket.json().await["id"], id.to_string());
    }
}
