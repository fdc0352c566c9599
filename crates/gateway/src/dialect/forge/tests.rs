//! The forge dialect as a state machine: the actions for each input.

use crewcast_events::{Body, Event, ResetReason};

use super::*;
use crate::{auth::Grants, broker::StateDocuments};
use crewcast_websocket::frame::payload_of;

const AGENTS: &str = "agents:acme";

fn channel() -> Channel {
    AGENTS.parse().unwrap()
}

fn identity(org: Option<&str>) -> Identity {
    Identity {
        sub: "u1".into(),
        org: org.map(Arc::from),
        grants: Arc::new(Grants::default()),
        expires_at: None,
        issued_at: None,
        jti: None,
        admin: false,
        anonymous: false,
    }
}

fn agents(since: Option<&str>) -> ForgeDialect {
    ForgeDialect::new(ForgeEndpoint::WithSnapshot("agents"), since.and_then(|since| since.parse().ok()))
}

fn text(frame: &Bytes) -> String {
    String::from_utf8(payload_of(frame).to_vec()).unwrap()
}

/// Actions as lines; frames are shown as their text.
fn lines(actions: &mut Actions) -> Vec<String> {
    let line = |action| match action {
        Action::Send(frame) => format!("send {}", text(&frame)),
        Action::Deliver(frame, ..) => format!("deliver {}", text(&frame)),
        Action::Authenticate(_) => "authenticate".to_owned(),
        Action::Close(code, reason) => format!("close {} {reason}", code.number()),
        other => format!("{other:?}"),
    };
    actions.drain(..).map(line).collect()
}

fn opened(forge: &mut ForgeDialect, org: Option<&str>) -> Vec<String> {
    let mut out = Actions::new();
    forge.on_open(Some(&identity(org)), &mut out);
    lines(&mut out)
}

fn answer_to(forge: &mut ForgeDialect, text: &str) -> Vec<String> {
    let mut out = Actions::new();
    forge.on_client(text, &mut out);
    lines(&mut out)
}

fn state(head: Option<&str>, documents: &[(&str, &str)], truncated: bool) -> Arc<StateSnapshot> {
    let document = |&(key, raw): &(&str, &str)| (key.to_owned(), Bytes::from(raw.to_owned()));
    let documents = documents.iter().map(document).collect();
    Arc::new(StateDocuments { head: head.map(|id| id.parse().unwrap()), documents, truncated, first_end: None }.into())
}

#[test]
fn agents_start_with_the_state_and_continue_after_its_head() {
    let mut forge = agents(None);
    assert_eq!(opened(&mut forge, Some("acme")), [format!("ReadSnapshot {{ channel: {:?} }}", channel())]);
    let mut out = Actions::new();
    let documents = [("a1", r#"{ "status":"busy","n":1.50,"e":"\u00e9" }"#), ("a\"2", "[]")];
    forge.on_snapshot(&channel(), &state(Some("7-abcdefghijkl"), &documents, false), &mut out);
    // The snapshot waits until the channel is open, so that nothing published after it is missed.
    match &out[..] {
        [Action::Subscribe { channel: asked, start: Start::Since(Since::After(id)) }] => {
            assert_eq!((asked, id.to_string().as_str()), (&channel(), "7-abcdefghijkl"));
        }
        other => panic!("{other:?}"),
    }
    out.clear();
    let opening = Opening { position: None, retained: None };
    forge.on_channel(&channel(), &opening, &mut out);
    let snapshot = r#"send {"type":"snapshot","data":{"a1":{ "status":"busy","n":1.50,"e":"\u00e9" },"a\"2":[]},"position":"7-abcdefghijkl"}"#;
    assert_eq!(lines(&mut out), [snapshot]);
    forge.on_channel(&channel(), &opening, &mut out);
    assert!(out.is_empty(), "it is sent once");
}

#[test]
fn a_ping_before_the_snapshot_is_answered_after_it() {
    let mut forge = agents(None);
    opened(&mut forge, Some("acme"));
    assert!(answer_to(&mut forge, "ping").is_empty() && answer_to(&mut forge, r#"{"type":"ping"}"#).is_empty());
    let mut out = Actions::new();
    forge.on_snapshot(&channel(), &state(None, &[], false), &mut out);
    assert!(answer_to(&mut forge, "ping").is_empty(), "the snapshot is not sent yet");
    out.clear();
    forge.on_channel(&channel(), &Opening { position: None, retained: None }, &mut out);
    let sent = lines(&mut out);
    assert!(sent.len() == 4 && sent[0].contains("snapshot"), "{sent:?}");
    assert!(sent[1..].iter().all(|line| line.contains("pong")), "{sent:?}");
    assert_eq!(answer_to(&mut forge, "ping").len(), 1);
}

#[test]
fn without_a_state_the_snapshot_is_empty_and_every_event_follows() {
    let mut forge = agents(None);
    let mut out = Actions::new();
    forge.on_snapshot(&channel(), &state(None, &[], false), &mut out);
    assert!(matches!(&out[..], [Action::Subscribe { start: Start::Since(Since::Beginning), .. }]), "{out:?}");
    out.clear();
    forge.on_channel(&channel(), &Opening { position: None, retained: None }, &mut out);
    assert_eq!(lines(&mut out), [r#"send {"type":"snapshot","data":{},"position":null}"#]);
}

#[test]
fn a_truncated_snapshot_says_so_and_is_encoded_once_for_all_sockets() {
    let shared = state(None, &[("a", "1")], true);
    let frames = [(), ()].map(|()| {
        let (mut forge, mut out) = (agents(None), Actions::new());
        forge.on_snapshot(&channel(), &shared, &mut out);
        forge.snapshot.take().unwrap()
    });
    assert_eq!(text(&frames[0]), r#"{"type":"snapshot","data":{"a":1},"position":null,"truncated":true}"#);
    assert_eq!(frames[0].as_ptr(), frames[1].as_ptr());
}

#[test]
fn a_socket_that_resumes_gets_no_snapshot() {
    for (since, start) in [("0", "Since(Beginning)"), ("nonsense", "Since(Unknown)")] {
        let expected = format!(r#"SubscribeOwn {{ namespace: "agents", start: {start} }}"#);
        assert_eq!(opened(&mut agents(Some(since)), Some("acme")), [expected]);
    }
}

#[test]
fn knowledge_starts_live_and_dashboards_are_watched() {
    let mut knowledge = ForgeDialect::new(ForgeEndpoint::Events("knowledge"), None);
    assert_eq!(opened(&mut knowledge, Some("acme")), [r#"SubscribeOwn { namespace: "knowledge", start: Live }"#]);
    assert_eq!(knowledge.heartbeat(), Some(Duration::from_secs(45)));
    for dashboard in [Dashboard::Metrics, Dashboard::Dashboard] {
        let mut forge = ForgeDialect::new(ForgeEndpoint::Dashboard(dashboard), None);
        assert_eq!(opened(&mut forge, Some("acme")), [format!("Watch({dashboard:?})")]);
        assert_eq!(forge.heartbeat(), None);
        let mut out = Actions::new();
        forge.on_dashboard(&text_frame(b"{}"), &mut out);
        assert_eq!(lines(&mut out), ["send {}"]);
    }
}

#[test]
fn without_an_org_or_the_grant_the_socket_is_closed() {
    assert!(opened(&mut agents(None), None)[0].starts_with("close 4403 the token names no org"));
    let mut out = Actions::new();
    agents(None).on_refused(Denied::Channel(&channel()), &mut out);
    let closed = lines(&mut out);
    assert!(closed[0].starts_with("close 4403 ") && closed[0].len() <= "close 4403 ".len() + 123, "{closed:?}");
}

#[test]
fn an_event_is_the_producers_object_and_marks_report_losses() {
    let body = Body::parse(r#"{ "type":"anything","data":{"n":1.50} ,"timestamp":"x"}"#.to_owned()).unwrap();
    let logged = Event::parse(body.with_id("3-aaaaaabbbbbb".parse().unwrap())).unwrap();
    let live = Event::parse(Bytes::from_static(b" {\"type\" : \"x\"}")).unwrap();
    let mut out = Actions::new();
    for event in [&logged, &live] {
        let entry = Arc::new(Entry::new(Item::Event(event.clone()), None));
        agents(None).on_entry(&channel(), &entry, &mut out);
    }
    for item in [Item::Reset { reason: ResetReason::Trimmed, from: None }, Item::Gap { missed: Some(2) }] {
        agents(None).on_entry(&channel(), &Arc::new(Entry::new(item, None)), &mut out);
    }
    assert_eq!(
        lines(&mut out),
        [
            format!("deliver {}", logged.text()),
            "deliver  {\"type\" : \"x\"}".to_owned(),
            r#"send {"type":"reset","source":"gateway","channel":"agents:acme","reason":"trimmed","from":null}"#
                .to_owned(),
            r#"send {"type":"gap","source":"gateway","channel":"agents:acme","missed":2}"#.to_owned(),
        ]
    );
}

#[test]
fn every_form_of_ping_is_answered() {
    let mut forge = agents(None);
    for ping in ["ping", "\"ping\"", " ping\n", r#"{"type":"ping"}"#, r#"{"n":1,"type":"p\u0069ng"}"#] {
        let answer = answer_to(&mut forge, ping);
        let timestamp = answer[0].strip_prefix(r#"send {"type":"pong","timestamp":""#).expect(ping);
        assert!(crewcast_events::timestamp::parse(timestamp.strip_suffix("\"}").unwrap()).is_some(), "{answer:?}");
        assert_eq!(answer.len(), 1);
    }
    assert!(answer_to(&mut forge, r#"{"type":"pong"}"#).is_empty());
    assert_eq!(answer_to(&mut forge, r#"{"action":"auth","token":"x"}"#), ["authenticate"]);
    for _ in 0..9 {
        let answer = answer_to(&mut forge, "pingpong");
        assert!(answer.len() == 1 && answer[0].contains("unknown_action") && answer[0].contains("ping"), "{answer:?}");
    }
    assert!(answer_to(&mut forge, "tenth")[1].starts_with("close 4400 "));
}
