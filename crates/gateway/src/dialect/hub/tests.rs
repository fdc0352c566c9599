//! The hub dialect as a state machine: the actions for each input.

use bytes::Bytes;
use crewcast_events::{Body, ResetReason};

use super::*;
use std::sync::LazyLock;

use regex::Regex;

const HUB: &str = "hub:acme";

fn channel() -> Channel {
    HUB.parse().unwrap()
}

fn event(text: &str) -> Event {
    Event::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

/// An event as the log holds it, at offset 3.
fn logged(text: &str) -> Event {
    Event::parse(Body::parse(text.to_owned()).unwrap().with_id("3-aaaaaabbbbbb".parse().unwrap())).unwrap()
}

fn entry(event: Event) -> Arc<Entry> {
    Arc::new(Entry::new(Item::Event(event), None))
}

fn hub(types: &[&str], batch_ms: Option<u64>) -> HubDialect {
    HubDialect::new(None, types.iter().map(|&kind| kind.to_owned()).collect(), batch_ms.map(Duration::from_millis))
}

/// The frame's text. When an event arrived is written as 0 and `now`.
fn text(frame: &Bytes) -> String {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"("sequence":)\d{16}\b"#).unwrap());
    static TIME: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"("sequence":\d+,"timestamp":")[^"]*"#).unwrap());
    let text = String::from_utf8(payload_of(frame).to_vec()).unwrap();
    TIME.replace_all(&NUMBER.replace_all(&text, "${1}0"), "${1}now").into_owned()
}

/// What follows the producer's own fields of a live event.
const LIVE: &str = r#","sequence":0,"timestamp":"now"}"#;

/// Actions as lines; frames are shown as their text.
fn lines(actions: &mut Actions) -> Vec<String> {
    let line = |action| match action {
        Action::Send(frame) => format!("send {}", text(&frame)),
        Action::Deliver(frame, ..) => format!("deliver {}", text(&frame)),
        Action::DeliverBatch { frame, events } => format!("deliver {events} {}", text(&frame)),
        Action::Authenticate(_) => "authenticate".to_owned(),
        Action::WakeAt(_) => "wake".to_owned(),
        Action::Close(code, reason) => format!("close {} {reason}", code.number()),
        other => format!("{other:?}"),
    };
    actions.drain(..).map(line).collect()
}

fn on_entry(hub: &mut HubDialect, event: Event) -> Vec<String> {
    let mut out = Actions::new();
    hub.on_entry(&channel(), &entry(event), &mut out);
    lines(&mut out)
}

#[test]
fn the_envelope_is_the_producers_object_with_two_fields_after_it() {
    let ours = r#","message_id":"3-aaaaaabbbbbb","sequence":3"#;
    for (object, stamp) in [
        (r#"{"type":"task_started","data":{"id":1.50,"e":"\u00e9é🙂"},"timestamp":"2026-01-01T00:00:00Z"}"#, "}"),
        (r#"{"timestamp":null,"type":"x"}"#, "}"),
        (r#"{ "data": {"message_id":"inside","b":[1, 2]} , "type" : "x" }"#, r#","timestamp":"now"}"#),
        ("{\n\t\"type\":\"x\",\"z\":0,\"a\":\"}\"\n}", r#","timestamp":"now"}"#),
        (r#"{"type":"message_id","not_message_id":1}"#, r#","timestamp":"now"}"#),
    ] {
        let producers = object.strip_suffix('}').unwrap();
        let expected = format!("deliver {producers}{ours}{stamp}");
        assert_eq!(on_entry(&mut hub(&[], None), logged(object)), [expected.as_str()]);
        serde_json::from_str::<serde_json::Value>(&expected["deliver ".len()..]).unwrap();
    }
}

#[test]
fn a_producers_own_message_id_is_kept_as_the_only_one() {
    for key in ["message_id", r"message\u005fid"] {
        for value in ["\"mine\"", "7", "null"] {
            let object = format!(r#"{{"type":"x","{key}":{value},"data":{{}}}}"#);
            let producers = object.strip_suffix('}').unwrap();
            let expected = format!(r#"deliver {producers},"sequence":3,"timestamp":"now"}}"#);
            assert_eq!(on_entry(&mut hub(&[], None), logged(&object)), [expected]);
        }
    }
    // Of two equal keys, every common parser keeps the last.
    let delivered = on_entry(&mut hub(&[], None), logged(r#"{"sequence":"mine","type":"x"}"#));
    let parsed: serde_json::Value = serde_json::from_str(&delivered[0]["deliver ".len()..]).unwrap();
    assert_eq!(parsed["sequence"], 3);
}

#[test]
fn a_live_event_has_a_sequence_and_a_timestamp_but_no_message_id() {
    for object in ["{\"type\" : \"x\"}", r#"{"id":"mine","type":"x"}"#, r#"{"id":"3-aaaaaabbbbbb","type":"x"}"#] {
        let expected = format!("deliver {}{LIVE}", object.strip_suffix('}').unwrap());
        assert_eq!(on_entry(&mut hub(&[], None), event(object).into_live()), [expected]);
    }
    let stamped = on_entry(&mut hub(&[], None), event(" {\"timestamp\":\"mine\",\"type\":\"x\"}\n"));
    assert_eq!(stamped, [r#"deliver {"timestamp":"mine","type":"x","sequence":0}"#]);
}

/// The `sequence` of each event that a socket is sent.
fn sequences(hub: &mut HubDialect, entries: &[Arc<Entry>]) -> Vec<u64> {
    let mut out = Actions::new();
    entries.iter().for_each(|entry| hub.on_entry(&channel(), entry, &mut out));
    let frame = |action| match action {
        Action::Deliver(frame, ..) | Action::DeliverBatch { frame, .. } => frame,
        other => panic!("{other:?}"),
    };
    let number = |frame: Bytes| {
        serde_json::from_slice::<serde_json::Value>(payload_of(&frame)).unwrap()["sequence"].as_u64().unwrap()
    };
    out.into_iter().map(frame).map(number).collect()
}

fn opened_at(position: Option<&str>) -> HubDialect {
    let mut hub = hub(&[], None);
    let position = position.map(|id| id.parse().unwrap());
    hub.on_channel(&channel(), &Opening { position, retained: None }, &mut Actions::new());
    hub
}

#[test]
fn live_events_count_on_behind_logged_ones_and_logged_ones_behind_them() {
    let live = || entry(event(r#"{"type":"x"}"#));
    let at_three = entry(logged(r#"{"type":"x"}"#));
    let mut hub = opened_at(Some("2-aaaaaaaaaaaa"));
    assert_eq!(sequences(&mut hub, &[at_three.clone(), live(), live()]), [3, 4, 5]);
    assert_eq!(sequences(&mut hub, &[at_three]), [6], "a later offset that is not higher");
    assert_eq!(sequences(&mut opened_at(Some("9-aaaaaaaaaaaa")), &[live()]), [10], "behind what was logged before");
}

#[test]
fn a_gap_does_not_start_the_numbers_over_and_a_reset_before_the_first_does() {
    let mark = |item| Arc::new(Entry::new(item, None));
    let (live, at_three) = (entry(event(r#"{"type":"x"}"#)), entry(logged(r#"{"type":"x"}"#)));
    let after = |item, next: &Arc<Entry>| {
        let mut hub = opened_at(Some("9-aaaaaaaaaaaa"));
        hub.on_entry(&channel(), &mark(item), &mut Actions::new());
        sequences(&mut hub, std::slice::from_ref(next))
    };
    assert_eq!(after(Item::Gap { missed: Some(1) }, &live), [10]);
    assert_eq!(after(Item::Reset { reason: ResetReason::UnknownId, from: None }, &at_three), [3]);
}

#[test]
fn where_only_live_events_come_numbers_rise_on_every_socket_and_after_a_reconnect() {
    let events: Vec<_> = (0..50).map(|_| entry(event(r#"{"type":"x"}"#))).collect();
    let first = sequences(&mut opened_at(None), &events);
    assert!(first.is_sorted_by(|before, after| before < after), "{first:?}");
    std::thread::sleep(Duration::from_micros(100));
    let later = entry(event(r#"{"type":"x"}"#));
    assert!(sequences(&mut opened_at(None), &[later])[0] > first[49], "another socket, or another replica");
}

#[test]
fn an_event_is_encoded_once_for_all_sockets() {
    let shared = entry(logged(r#"{"type":"x"}"#));
    let frames = [(), ()].map(|()| {
        let mut out = Actions::new();
        hub(&[], None).on_entry(&channel(), &shared, &mut out);
        match out.remove(0) {
            Action::Deliver(frame, ..) => frame,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(frames[0].as_ptr(), frames[1].as_ptr());
}

#[test]
fn it_opens_the_channel_of_its_own_org_and_reports_losses() {
    let open = |since: Option<Since>| {
        let mut out = Actions::new();
        HubDialect::new(since, Vec::new(), None).on_open(None, &mut out);
        lines(&mut out)
    };
    assert_eq!(open(None), [r#"SubscribeOwn { namespace: "hub", start: Live }"#]);
    assert_eq!(open("0".parse().ok()), [r#"SubscribeOwn { namespace: "hub", start: Since(Beginning) }"#]);
    let mut out = Actions::new();
    hub(&[], None).on_refused(Denied::Own, &mut out);
    hub(&[], None).on_refused(Denied::Channel(&channel()), &mut out);
    for (line, word) in lines(&mut out).iter().zip(["names no org", "does not grant"]) {
        assert!(line.starts_with("close 4403 ") && line.contains(word), "{line}");
        assert!(line.len() - "close 4403 ".len() <= 123, "fits a close frame: {line}");
    }
}

#[test]
fn events_are_filtered_by_type_and_marks_are_not() {
    let mut hub = hub(&["a", "b"], None);
    assert!(on_entry(&mut hub, event(r#"{"type":"c"}"#)).is_empty());
    assert_eq!(on_entry(&mut hub, event(r#"{"type":"b"}"#)), [format!(r#"deliver {{"type":"b"{LIVE}"#)]);
    let mut out = Actions::new();
    for item in [Item::Reset { reason: ResetReason::UnknownId, from: None }, Item::Gap { missed: None }] {
        hub.on_entry(&channel(), &Arc::new(Entry::new(item, None)), &mut out);
    }
    let reset = r#"send {"type":"reset","source":"gateway","channel":"hub:acme","reason":"unknown_id","from":null}"#;
    assert_eq!(
        lines(&mut out),
        [reset, r#"send {"type":"gap","source":"gateway","channel":"hub:acme","missed":null}"#]
    );
}

#[test]
fn a_ping_carries_the_position_of_a_reader_whose_filter_hides_everything() {
    let mut hub = hub(&["nothing"], None);
    assert_eq!(hub.heartbeat(), Some(Duration::from_secs(45)));
    let (channel, position) = (channel(), "7-abcdefghijkl".parse().ok());
    let mut out = Actions::new();
    hub.on_heartbeat(&mut std::iter::once((&channel, position)), &mut out);
    let sent = lines(&mut out);
    assert!(sent[0].starts_with(r#"send {"type":"ping","source":"gateway","timestamp":""#), "{sent:?}");
    assert!(sent[0].ends_with(r#","position":{"hub:acme":"7-abcdefghijkl"}}"#), "{sent:?}");
}

#[test]
fn a_client_may_send_the_same_messages_as_in_crew() {
    let mut hub = hub(&[], None);
    let mut out = Actions::new();
    hub.on_client(r#"{"type":"pong"}"#, &mut out);
    assert!(out.is_empty());
    for ping in ["ping", r#""ping""#, r#"{"type":"ping"}"#, r#"{"action":"ping"}"#] {
        (0..20).for_each(|_| hub.on_client(ping, &mut out));
        let pongs = lines(&mut out);
        assert!(pongs.len() == 20 && pongs[0].starts_with(r#"send {"type":"pong","timestamp":""#), "{pongs:?}");
    }
    hub.on_client(r#"{"action":"auth","token":"x"}"#, &mut out);
    assert_eq!(lines(&mut out), ["authenticate"]);
    for _ in 0..9 {
        hub.on_client("hello", &mut out);
        assert!(lines(&mut out)[0].contains("unknown_action"));
        assert!(out.is_empty());
    }
    hub.on_client("tenth", &mut out);
    assert!(lines(&mut out)[1].starts_with("close 4400 "));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_due_after_its_first_message_and_is_an_array_of_all_messages() {
    let mut hub = hub(&[], Some(50));
    assert_eq!(on_entry(&mut hub, logged(r#"{"type":"a"}"#)), ["wake"]);
    tokio::time::advance(Duration::from_millis(30)).await;
    assert!(on_entry(&mut hub, event(r#"{"type":"b"}"#)).is_empty(), "the first message has set the timer");
    let mut out = Actions::new();
    hub.on_entry(&channel(), &Arc::new(Entry::new(Item::Gap { missed: Some(1) }, None)), &mut out);
    hub.on_notice(r#"{"type":"broker"}"#, &mut out);
    hub.on_client("?", &mut out);
    assert!(out.is_empty());
    tokio::time::advance(Duration::from_millis(19)).await;
    hub.on_timer(Instant::now(), &mut out);
    assert_eq!(lines(&mut out), ["wake"], "not yet");
    tokio::time::advance(Duration::from_millis(1)).await;
    hub.on_timer(Instant::now(), &mut out);
    let sent = lines(&mut out);
    assert_eq!(sent.len(), 1, "{sent:?}");
    let array: Vec<serde_json::Value> =
        serde_json::from_str(sent[0].strip_prefix("deliver 2 ").expect("two of them are events")).unwrap();
    let kinds: Vec<&str> = array.iter().map(|message| message["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["a", "b", "gap", "broker", "error"]);
    assert_eq!(array[0]["sequence"], 3);
    hub.on_timer(Instant::now() + Duration::from_secs(1), &mut out);
    assert!(out.is_empty(), "an empty batch is not sent");
    assert_eq!(on_entry(&mut hub, event(r#"{"type":"c"}"#)), ["wake"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_is_sent_immediately() {
    const BOUND: usize = 64 << 10;
    let mut hub = hub(&[], Some(1000));
    let long = |n: usize| event(&format!(r#"{{"type":"x","long":"{}"}}"#, "x".repeat(n)));
    let mut frames = Vec::new();
    for _ in 0..100 {
        let mut out = Actions::new();
        hub.on_entry(&channel(), &entry(long(3000)), &mut out);
        frames.extend(out.into_iter().filter_map(|action| match action {
            Action::DeliverBatch { frame, events } => Some((payload_of(&frame).len(), events)),
            _ => None,
        }));
    }
    assert!(frames.len() >= 4 && frames.iter().all(|(bytes, _)| *bytes <= BOUND + 1), "{frames:?}");
    assert!(frames.iter().all(|(bytes, _)| *bytes > BOUND - 4000), "and is used: {frames:?}");
    // A message that is larger than the bound goes out immediately, after the messages that waited.
    let sent = on_entry(&mut hub, long(BOUND));
    let array =
        |line: &str| -> Vec<serde_json::Value> { serde_json::from_str(line.splitn(3, ' ').nth(2).unwrap()).unwrap() };
    let arrays: Vec<_> = sent.iter().filter(|line| line.starts_with("deliver")).map(|line| array(line)).collect();
    assert_eq!(arrays.len(), 2);
    assert_eq!(arrays[0].len() + frames.iter().map(|(_, events)| events).sum::<usize>(), 100);
    assert_eq!(arrays[1].len(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_messages_go_out_before_the_close() {
    let mut hub = hub(&[], Some(1000));
    let mut out = Actions::new();
    hub.on_close(CloseCode::GoingAway, "", &mut out);
    assert!(out.is_empty());
    on_entry(&mut hub, event(r#"{"type":"a"}"#));
    hub.on_close(CloseCode::GoingAway, "", &mut out);
    assert_eq!(lines(&mut out), [format!(r#"deliver 1 [{{"type":"a"{LIVE}]"#)]);
}
