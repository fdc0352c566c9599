//! The crew dialect as a state machine: the actions for each input.

use std::sync::Arc;

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId, ResetReason, Since};
use tokio::time::{Duration, Instant};

use super::*;
use crate::hub::Item;

fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

fn event(text: &str) -> Event {
    Event::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn entry(text: &str) -> Arc<Entry> {
    Arc::new(Entry::new(Item::Event(event(text)), None))
}

fn run(since: Option<&str>, types: &[&str]) -> CrewDialect {
    let endpoint = CrewEndpoint::Run { channel: channel("run:r1"), terminal: vec!["done".to_owned()] };
    let since = since.map(|since| since.parse().unwrap());
    CrewDialect::new(endpoint, since, types.iter().map(|&kind| kind.to_owned()).collect())
}

/// Actions as lines; frames are shown as their text.
fn lines(actions: &mut Actions) -> Vec<String> {
    let text = |frame: &Bytes| {
        // A server's text frame has a head of two bytes, or of four for payloads over 125 bytes.
        let head = if frame[1] < 126 { 2 } else { 4 };
        String::from_utf8(frame[head..].to_vec()).unwrap()
    };
    let line = |action| match action {
        Action::Send(frame) => format!("send {}", text(&frame)),
        Action::Deliver(frame, ..) => format!("deliver {}", text(&frame)),
        Action::Subscribe { channel, start } => format!("subscribe {channel} {start:?}"),
        Action::SubscribeAll { namespace, start, appearing } => format!("all {namespace} {start:?} then {appearing:?}"),
        Action::Fetch { channel, offset } => format!("fetch {channel} {offset}"),
        Action::Authenticate(_) => "authenticate".to_owned(),
        Action::WakeAt(_) => "wake".to_owned(),
        Action::Close(code, reason) => format!("close {} {reason}", code.number()),
        other => format!("{other:?}"),
    };
    actions.drain(..).map(line).collect()
}

#[test]
fn each_endpoint_subscribes_as_the_spec_requires() {
    let open = |mut crew: CrewDialect| {
        let mut out = Actions::new();
        crew.on_open(None, &mut out);
        lines(&mut out).remove(0)
    };
    assert_eq!(open(run(None, &[])), "subscribe run:r1 Since(Beginning)");
    assert_eq!(open(run(Some("4-abcdefghijkl"), &[])), "subscribe run:r1 Since(After(4-abcdefghijkl))");
    assert_eq!(open(run(Some("junk"), &[])), "subscribe run:r1 Since(Unknown)");
    let graph = |since: Option<Since>| CrewDialect::new(CrewEndpoint::Graph(channel("graph:abc")), since, Vec::new());
    assert_eq!(open(graph(None)), "subscribe graph:abc Live");
    assert_eq!(open(graph(Some(Since::Beginning))), "subscribe graph:abc Since(Beginning)");
    let all = open(CrewDialect::new(CrewEndpoint::AllGraphs, None, Vec::new()));
    assert_eq!(all, "all graph Live then Since(Beginning)");
    let mission = open(CrewDialect::new(CrewEndpoint::Mission { offline_after: None }, None, Vec::new()));
    assert_eq!(mission, "all mission Retained then Retained");
}

#[test]
fn a_run_ends_with_its_terminal_event_even_if_the_filter_hides_it() {
    let mut out = Actions::new();
    let mut crew = run(None, &["tool_start"]);
    crew.on_entry(&channel("run:r1"), &entry(r#"{"type":"error","fatal":true}"#), &mut out);
    assert!(out.is_empty(), "an error is an event and does not end the run; the filter hides it");
    crew.on_entry(&channel("run:r1"), &entry(r#"{"type":"tool_start" }"#), &mut out);
    assert_eq!(lines(&mut out), [r#"deliver {"type":"tool_start" }"#]);
    crew.on_entry(&channel("run:r1"), &entry(r#"{"type":"done"}"#), &mut out);
    assert_eq!(lines(&mut out), ["close 1000 run completed"]);
}

#[test]
fn a_client_that_resumes_after_the_end_is_closed() {
    let mut out = Actions::new();
    let mut crew = run(Some("9-abcdefghijkl"), &[]);
    let id: EventId = "9-abcdefghijkl".parse().unwrap();
    crew.on_caught_up(&channel("run:r1"), Some(id), &mut out);
    assert_eq!(lines(&mut out), ["fetch run:r1 9"]);
    crew.on_caught_up(&channel("run:r1"), Some(id), &mut out);
    assert!(out.is_empty(), "once is enough");
    crew.on_fetched(&channel("run:r1"), Some(event(r#"{"type":"task_end"}"#)), &mut out);
    assert!(out.is_empty());
    crew.on_fetched(&channel("run:r1"), Some(event(r#"{"type":"done"}"#)), &mut out);
    assert_eq!(lines(&mut out), ["close 1000 run completed"]);
}

#[test]
fn ten_invalid_messages_close_the_socket() {
    let mut crew = run(None, &[]);
    let mut out = Actions::new();
    crew.on_client(r#"{"type":"pong"}"#, &mut out);
    assert!(out.is_empty());
    crew.on_client(r#"{"action":"auth","token":"x"}"#, &mut out);
    assert_eq!(lines(&mut out), ["authenticate"]);
    let junk = [
        "",
        "7",
        "[]",
        "nonsense",
        r#"{"action":"subscribe"}"#,
        r#"{"action":"auth"}"#,
        "{}",
        "null",
        r#"{"type":"hello"}"#,
    ];
    for text in junk {
        crew.on_client(text, &mut out);
        let answer = lines(&mut out);
        assert_eq!(answer.len(), 1, "{answer:?}");
        assert!(
            answer[0].starts_with(r#"send {"type":"error","source":"gateway","code":"unknown_action","message":"#),
            "{answer:?}"
        );
    }
    crew.on_client("tenth", &mut out);
    assert!(lines(&mut out)[1].starts_with("close 4400 "));
}

#[test]
fn marks_are_sent_as_gateway_messages() {
    let mut crew = run(None, &["nothing"]);
    let mut out = Actions::new();
    let from = "7-abcdefghijkl".parse().ok();
    let reset = Arc::new(Entry::new(Item::Reset { reason: ResetReason::Trimmed, from }, None));
    crew.on_entry(&channel("run:r1"), &reset, &mut out);
    let gap = Arc::new(Entry::new(Item::Gap { missed: Some(3) }, None));
    crew.on_entry(&channel("run:r1"), &gap, &mut out);
    assert_eq!(
        lines(&mut out),
        [
            r#"send {"type":"reset","source":"gateway","channel":"run:r1","reason":"trimmed","from":"7-abcdefghijkl"}"#,
            r#"send {"type":"gap","source":"gateway","channel":"run:r1","missed":3}"#
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_crew_is_reported_offline_once_and_returns_with_its_next_event() {
    let mut crew =
        CrewDialect::new(CrewEndpoint::Mission { offline_after: Some(Duration::from_secs(60)) }, None, Vec::new());
    let mut out = Actions::new();
    let busy = r#"{"type":"signal","payload":{"status":"busy","crewId":"abc"}}"#;
    let opening = Opening { position: None, retained: Some(entry(busy)) };
    crew.on_channel(&channel("mission:abc"), &opening, &mut out);
    assert_eq!(lines(&mut out), [format!("deliver {busy}"), "wake".to_owned()]);
    tokio::time::advance(Duration::from_secs(59)).await;
    crew.on_timer(Instant::now(), &mut out);
    assert_eq!(lines(&mut out), ["wake"], "not yet");
    tokio::time::advance(Duration::from_secs(1)).await;
    crew.on_timer(Instant::now(), &mut out);
    assert_eq!(lines(&mut out), [r#"send {"type":"signal","payload":{"status":"offline","crewId":"abc"}}"#]);
    crew.on_timer(Instant::now() + Duration::from_secs(600), &mut out);
    assert!(out.is_empty(), "reported once");
    crew.on_entry(&channel("mission:abc"), &entry(busy), &mut out);
    assert_eq!(lines(&mut out).len(), 2);
}

#[test]
fn a_crew_without_a_signal_is_offline() {
    let mut crew = CrewDialect::new(CrewEndpoint::Mission { offline_after: None }, None, Vec::new());
    let mut out = Actions::new();
    crew.on_channel(&channel("mission:abc"), &Opening { position: None, retained: None }, &mut out);
    assert_eq!(lines(&mut out), [r#"send {"type":"signal","payload":{"status":"offline","crewId":"abc"}}"#]);
}

#[test]
fn an_event_is_encoded_once_for_all_sockets() {
    let shared = entry(r#"{"type":"x"}"#);
    let frames: Vec<Bytes> = (0..2)
        .map(|_| {
            let mut out = Actions::new();
            run(None, &[]).on_entry(&channel("run:r1"), &shared, &mut out);
            match out.remove(0) {
                Action::Deliver(frame, ..) => frame,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(frames[0].as_ptr(), frames[1].as_ptr());
}
