//! The stream dialect as a state machine: the actions for each input.

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::{auth::testing::user, hub::Item};

/// A socket and its pending actions.
struct Bench {
    stream: StreamDialect,
    out: Actions,
}

impl Bench {
    /// A socket whose client has said nothing yet.
    fn silent(replaces: bool) -> Self {
        Self { stream: StreamDialect::new(4, replaces), out: Actions::new() }
    }

    /// A socket whose client connected with a token.
    fn new() -> Self {
        let mut bench = Self::silent(false);
        bench.stream.on_open(Some(&user("u1")), &mut bench.out);
        assert!(bench.out.is_empty(), "an authenticated client need not send anything first");
        bench
    }

    fn say(&mut self, text: &str) -> Vec<String> {
        self.stream.on_client(text, &mut self.out);
        self.lines()
    }

    fn open(&mut self, name: &str, position: Option<&str>) -> Vec<String> {
        let position = position.map(|id| id.parse().unwrap());
        self.stream.on_channel(&channel(name), &Opening { position, retained: None }, &mut self.out);
        self.lines()
    }

    fn list(&mut self, names: &[&str]) -> Vec<String> {
        let channels: Vec<Channel> = names.iter().map(|name| channel(name)).collect();
        self.stream.on_listed(STREAMS, &mut channels.iter(), &mut self.out);
        self.lines()
    }

    fn deliver(&mut self, name: &str, event: &str) -> Vec<String> {
        assert!(!self.stream.is_paused(&channel(name)), "a paused channel is not read");
        self.stream.on_entry(&channel(name), &entry(event), &mut self.out);
        self.lines()
    }

    /// Actions as lines; frames are shown as their text.
    fn lines(&mut self) -> Vec<String> {
        self.out.drain(..).map(line).collect()
    }
}

fn line(action: Action) -> String {
    match action {
        Action::Send(frame) => format!("send {}", text(&frame)),
        Action::Deliver(frame, ..) => format!("deliver {}", text(&frame)),
        Action::Subscribe { channel, start } => format!("subscribe {channel} {start:?}"),
        Action::SubscribeAll { namespace, start, appearing } => format!("all {namespace} {start:?} then {appearing:?}"),
        Action::Unsubscribe(channel) => format!("unsubscribe {channel}"),
        Action::Authenticate(token) => format!("authenticate {token}"),
        Action::Publish { channel, event, .. } => format!("publish {channel} {}", String::from_utf8_lossy(&event)),
        Action::Close(code, reason) => format!("close {} {reason}", code.number()),
        Action::Resume => "read on".to_owned(),
        Action::UnsubscribeAll { namespace } => format!("none of {namespace}"),
        other => format!("{other:?}"),
    }
}

fn text(frame: &Bytes) -> String {
    // A server's text frame has a head of two bytes, or of four for payloads over 125 bytes.
    String::from_utf8(frame[if frame[1] < 126 { 2 } else { 4 }..].to_vec()).unwrap()
}

fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

fn entry(text: &str) -> Arc<Entry> {
    let event = Event::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
    let id = event.id();
    Arc::new(Entry::new(Item::Event(event), id))
}

/// The code and the `ref` of the only error that was sent.
fn refused(lines: &[String]) -> (String, Value) {
    let [one] = lines else { panic!("{lines:?}") };
    let error: Value = serde_json::from_str(one.strip_prefix("send ").unwrap()).unwrap();
    assert_eq!((&error["type"], &error["source"]), (&"error".into(), &"gateway".into()), "{one}");
    assert!(!error["message"].as_str().unwrap().is_empty());
    (error["code"].as_str().unwrap().to_owned(), error["ref"].clone())
}

const FIRST: &str = "1-000000abcdef";
const SECOND: &str = "2-abcdefghijkl";

#[test]
fn a_subscription_is_answered_before_its_first_event_and_events_are_the_producers() {
    let mut bench = Bench::new();
    let asked = bench.say(r#"{"action":"subscribe","stream_id":"w","ref":7}"#);
    assert_eq!(asked, ["subscribe stream:w Retained"]);
    assert!(bench.stream.is_paused(&channel("stream:w")));
    let opened = bench.open("stream:w", Some(FIRST));
    let answer = format!(r#"send {{"type":"subscribed","stream_id":"w","position":{{"stream:w":"{FIRST}"}},"ref":7}}"#);
    assert_eq!(opened, [answer, "read on".to_owned()]);
    let logged = format!(r#"{{"id":"{SECOND}", "type":"x",  "n":1.50 }}"#);
    let envelope = format!(
        r#"deliver {{"type":"event","channel":"stream:w","id":"{SECOND}","event":{{ "type":"x",  "n":1.50 }}}}"#
    );
    assert_eq!(bench.deliver("stream:w", &logged), [envelope]);
    let live = r#" {"type":"x","id":"mine"}"#;
    let envelope = format!(r#"deliver {{"type":"event","channel":"stream:w","id":null,"event":{live}}}"#);
    assert_eq!(bench.deliver("stream:w", live), [envelope]);
}

#[test]
fn a_channel_without_an_owner_is_answered_as_pending_and_opens_without_another_answer() {
    let mut bench = Bench::new();
    bench.say(r#"{"action":"subscribe","channel":"mission:a","ref":7}"#);
    bench.stream.on_pending(&channel("mission:a"), &mut bench.out);
    let keys = r#""channel":"mission:a","position":{"mission:a":null},"pending":["mission:a"]"#;
    assert_eq!(bench.lines(), [format!(r#"send {{"type":"subscribed",{keys},"ref":7}}"#), "read on".to_owned()]);
    assert_eq!(
        bench.say(r#"{"action":"subscribe","channel":"mission:a","event_types":["x"]}"#).len(),
        2,
        "another subscription is answered at once"
    );
    let retained = Some(entry(r#"{"type":"signal"}"#));
    bench.stream.on_channel(&channel("mission:a"), &Opening { position: None, retained }, &mut bench.out);
    let event = r#"{"type":"event","channel":"mission:a","id":null,"event":{"type":"signal"}}"#;
    assert_eq!(bench.lines(), [format!("deliver {event}")]);
    let answer = bench.say(r#"{"action":"subscribe","channel":"mission:a","event_types":["y"]}"#);
    assert!(answer[0].contains("subscribed") && !answer[0].contains("pending"), "{answer:?}");

    bench.say(r#"{"action":"subscribe","channel":"graph:b"}"#);
    bench.stream.on_pending(&channel("graph:b"), &mut bench.out);
    bench.lines();
    bench.stream.on_refused(Denied::Channel(&channel("graph:b")), &mut bench.out);
    assert_eq!(refused(&bench.lines()).0, "forbidden");
}

#[test]
fn filters_add_up_and_an_event_that_several_accept_is_sent_once() {
    let mut bench = Bench::new();
    for keys in [
        r#""stream_id":"w","event_types":["EXECUTION_STARTED","straße"]"#,
        r#""channel":"stream:w","execution_id":"e1""#,
    ] {
        bench.say(&format!(r#"{{"action":"subscribe",{keys}}}"#));
    }
    bench.open("stream:w", None);
    let mut count = |kind: &str, execution: &str| {
        bench.deliver("stream:w", &format!(r#"{{"type":"{kind}","execution_id":"{execution}"}}"#)).len()
    };
    assert_eq!(count("execution_started", "e1"), 1, "both accept it");
    assert_eq!(count("Execution_Started", "e2"), 1, "types are compared case-insensitively");
    assert_eq!(count("STRASSE", "e2"), 0);
    assert_eq!(count("Straße", "e2"), 1);
    assert_eq!(count("node_executed", "e1"), 1);
    assert_eq!(count("node_executed", "e2"), 0);
    bench.say(r#"{"action":"unsubscribe","execution_id":"e1","channel":"stream:w"}"#);
    assert_eq!(bench.deliver("stream:w", r#"{"type":"node_executed","execution_id":"e1"}"#).len(), 0);
}

#[test]
fn a_subscription_to_all_streams_is_answered_when_all_of_them_are_open() {
    let mut bench = Bench::new();
    let asked = bench.say(r#"{"action":"subscribe"}"#);
    assert_eq!(asked, ["all stream Retained then Since(Beginning)"]);
    assert!(bench.list(&["stream:a", "stream:b"]).is_empty());
    assert!(bench.open("stream:b", Some(FIRST)).is_empty());
    assert!(bench.stream.is_paused(&channel("stream:b")), "its events wait in the ring");
    let answer = format!(r#"send {{"type":"subscribed","position":{{"stream:a":null,"stream:b":"{FIRST}"}}}}"#);
    assert_eq!(bench.open("stream:a", None), [answer, "read on".to_owned()]);
    // A stream that appears is read from its first event; one that is no longer granted is dropped.
    bench.list(&["stream:a", "stream:b", "stream:c"]);
    bench.open("stream:c", Some(FIRST));
    assert_eq!(bench.deliver("stream:c", r#"{"type":"x"}"#).len(), 1);
    bench.stream.on_channel_gone(&channel("stream:a"), &mut bench.out);
    bench.list(&["stream:b", "stream:c"]);
    let answer = format!(
        r#"send {{"type":"subscribed","execution_id":"e","position":{{"stream:b":"{FIRST}","stream:c":null}}}}"#
    );
    assert_eq!(bench.say(r#"{"action":"subscribe","execution_id":"e"}"#), [answer, "read on".to_owned()]);
    assert_eq!(bench.say(r#"{"action":"unsubscribe"}"#), ["none of stream", r#"send {"type":"unsubscribed"}"#]);
}

#[test]
fn no_streams_are_answered_immediately_and_so_are_streams_whose_last_closed_one_leaves() {
    let mut bench = Bench::new();
    bench.say(r#"{"action":"subscribe"}"#);
    assert_eq!(bench.list(&[]), [r#"send {"type":"subscribed","position":{}}"#, "read on"]);
    let mut bench = Bench::new();
    bench.say(r#"{"action":"subscribe"}"#);
    bench.list(&["stream:a"]);
    bench.stream.on_channel_gone(&channel("stream:a"), &mut bench.out);
    assert_eq!(bench.lines()[0], r#"send {"type":"subscribed","position":{}}"#);
}

#[test]
fn since_restarts_a_channel_and_without_it_an_open_channel_continues() {
    let mut bench = Bench::new();
    bench.say(r#"{"action":"subscribe","channel":"graph:abc"}"#);
    bench.open("graph:abc", Some(FIRST));
    let again = bench.say(r#"{"action":"subscribe","channel":"graph:abc","event_types":["x"],"ref":"a"}"#);
    let position = format!(r#""position":{{"graph:abc":"{FIRST}"}}"#);
    let answer =
        format!(r#"send {{"type":"subscribed","channel":"graph:abc","event_types":["x"],{position},"ref":"a"}}"#);
    assert_eq!(again, [answer, "read on".to_owned()]);
    let since = format!(r#"{{"action":"subscribe","channel":"graph:abc","since":"{FIRST}"}}"#);
    assert_eq!(bench.say(&since), [format!("subscribe graph:abc Since(After({FIRST}))")]);
    // The events after `since` follow, wherever the channel stood.
    let answer = format!(r#"send {{"type":"subscribed","channel":"graph:abc",{position}}}"#);
    assert_eq!(bench.open("graph:abc", Some(SECOND)), [answer]);
    for (since, start) in [("0", "Beginning"), ("\"0\"", "Beginning"), ("\"rubbish\"", "Unknown")] {
        let say = format!(r#"{{"action":"subscribe","channel":"graph:abc","since":{since}}}"#);
        assert_eq!(bench.say(&say), [format!("subscribe graph:abc Since({start})")]);
        let answer = r#"send {"type":"subscribed","channel":"graph:abc","position":{"graph:abc":null}}"#;
        assert_eq!(bench.open("graph:abc", Some(SECOND)), [answer]);
    }
}

#[test]
fn a_channel_is_read_as_long_as_a_subscription_covers_it() {
    let mut bench = Bench::new();
    bench.say(r#"{"action":"subscribe"}"#);
    bench.list(&["stream:a"]);
    bench.open("stream:a", None);
    assert_eq!(bench.say(r#"{"action":"subscribe","stream_id":"a"}"#)[0], "subscribe stream:a Retained");
    bench.say(r#"{"action":"subscribe","channel":"stream:a","event_types":["x"]}"#);
    let one = r#"{"action":"unsubscribe","stream_id":"a"}"#;
    assert_eq!(bench.say(one), [r#"send {"type":"unsubscribed","stream_id":"a"}"#], "another subscription covers it");
    assert_eq!(bench.deliver("stream:a", r#"{"type":"y"}"#).len(), 1, "the subscription to all streams covers it");
    assert_eq!(
        bench.say(r#"{"action":"unsubscribe","channel":"stream:a","event_types":["X"]}"#)[0],
        "unsubscribe stream:a"
    );
    assert_eq!(
        bench.deliver("stream:a", r#"{"type":"x"}"#).len(),
        1,
        "the subscription to all streams still covers it"
    );
    assert_eq!(
        bench.say(one),
        [r#"send {"type":"unsubscribed","stream_id":"a"}"#],
        "unsubscribing twice is not an error"
    );
}

#[test]
fn a_subscription_that_is_ended_immediately_gets_both_answers() {
    let mut bench = Bench::new();
    bench.say(r#"{"action":"subscribe","channel":"run:r","ref":1}"#);
    let sent = bench.say(r#"{"action":"unsubscribe","channel":"run:r","ref":2}"#);
    let answers = [
        r#"send {"type":"subscribed","channel":"run:r","position":{},"ref":1}"#,
        "unsubscribe run:r",
        r#"send {"type":"unsubscribed","channel":"run:r","ref":2}"#,
    ];
    assert_eq!(sent, answers);
}

#[test]
fn a_channel_without_a_grant_is_refused_and_the_others_continue() {
    let mut bench = Bench::new();
    bench.say(r#"{"action":"subscribe","channel":"run:mine"}"#);
    bench.open("run:mine", None);
    bench.say(r#"{"action":"subscribe","channel":"run:r","ref":"x"}"#);
    bench.stream.on_refused(Denied::Channel(&channel("run:r")), &mut bench.out);
    assert_eq!(refused(&bench.lines()), ("forbidden".to_owned(), "x".into()));
    assert_eq!(bench.deliver("run:mine", r#"{"type":"x"}"#).len(), 1);
    bench.stream.on_refused(Denied::Channel(&channel("run:mine")), &mut bench.out);
    let lines = bench.lines();
    assert!(lines[0].contains(r#""channel":"run:mine""#), "{lines:?}");
    assert_eq!(refused(&lines), ("forbidden".to_owned(), Value::Null));
}

#[test]
fn subscriptions_are_bounded() {
    let mut bench = Bench::new();
    for n in 0..4 {
        let say = format!(r#"{{"action":"subscribe","channel":"run:r{n}"}}"#);
        assert_eq!(bench.say(&say).len(), 1);
    }
    let more = bench.say(r#"{"action":"subscribe","channel":"run:r4","ref":1}"#);
    assert_eq!(refused(&more), ("too_many_subscriptions".to_owned(), 1.into()));
    for _ in 1..MAX_DUE {
        assert!(
            bench.say(r#"{"action":"subscribe","channel":"run:r0"}"#).is_empty(),
            "the same keys are the same subscription"
        );
    }
    assert_eq!(refused(&bench.say(r#"{"action":"subscribe","channel":"run:r0"}"#)).0, "too_many_subscriptions");
    assert_eq!(bench.open("run:r0", None).len(), MAX_DUE + 1, "each request is answered");
}

#[test]
fn each_malformed_message_has_its_error_code() {
    let mut bench = Bench::new();
    let deep = format!(r#"{{"action":"ping","x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(bench.say(&deep), [r#"send {"type":"pong"}"#]);
    let long = "x".repeat(300);
    let cases = [
        ("", "bad_json"),
        ("{", "bad_json"),
        ("nonsense", "bad_json"),
        ("7", "bad_message"),
        ("null", "bad_message"),
        (r#"[{"action":"ping"}]"#, "bad_message"),
        (r#"["ping"]"#, "bad_message"),
        ("{}", "bad_message"),
        (r#"{"action":7}"#, "bad_message"),
        (r#"{"action":"dance"}"#, "unknown_action"),
        (r#"{"action":"auth"}"#, "bad_message"),
        (r#"{"action":"auth","token":7}"#, "bad_message"),
        (r#"{"action":"ping","ref":[]}"#, "bad_message"),
        (r#"{"action":"ping","ref":true}"#, "bad_message"),
        (&format!(r#"{{"action":"ping","ref":"{long}"}}"#), "bad_message"),
        (r#"{"action":"subscribe","event_types":"x"}"#, "bad_message"),
        (r#"{"action":"subscribe","event_types":[1]}"#, "bad_message"),
        (&format!(r#"{{"action":"subscribe","event_types":["{long}"]}}"#), "bad_message"),
        (&format!(r#"{{"action":"subscribe","execution_id":"{long}"}}"#), "bad_message"),
        (r#"{"action":"subscribe","since":"0"}"#, "bad_message"),
        (r#"{"action":"subscribe","channel":"a:b","since":1}"#, "bad_message"),
        (r#"{"action":"subscribe","channel":"a:b","stream_id":"b"}"#, "bad_message"),
        (r#"{"action":"subscribe","channel":"a b"}"#, "bad_channel"),
        (r#"{"action":"subscribe","stream_id":"*"}"#, "bad_channel"),
        (r#"{"action":"publish","channel":"a:b"}"#, "bad_message"),
        (r#"{"action":"publish","event":{}}"#, "bad_message"),
        (r#"{"action":"publish","channel":"ab","event":{}}"#, "bad_channel"),
    ];
    for (text, code) in cases {
        assert_eq!(refused(&bench.say(text)).0, code, "{text}");
    }
    assert_eq!(refused(&bench.say(r#"{"action":"dance","ref":"\u00e9"}"#)).1, "é");
    for ping in ["ping", r#""ping""#, r#"{"type":"ping"}"#, r#"{"action":"ping"}"#] {
        assert_eq!(bench.say(ping), [r#"send {"type":"pong"}"#], "{ping}");
    }
    assert!(bench.say(r#"{"type":"pong"}"#).is_empty() && bench.say(r#"{"action":"pong"}"#).is_empty());
    let nulls = r#"{"action":"subscribe","stream_id":null,"execution_id":null,"event_types":null}"#;
    assert_eq!(bench.say(nulls).len(), 1, "null counts as absent");
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_token_within_five_seconds_is_closed() {
    let mut stream = StreamDialect::new(4, false);
    let mut out = Actions::new();
    stream.on_open(None, &mut out);
    let Some(Action::WakeAt(at)) = out.pop() else { panic!() };
    assert_eq!(at - Instant::now(), Duration::from_secs(5));
    let mut bench = Bench { stream, out };
    bench.stream.on_timer(at, &mut bench.out);
    assert_eq!(bench.lines(), ["close 1008 Auth required"]);
}

#[test]
fn anything_but_a_token_first_closes_the_socket_at_once() {
    for first in [
        r#"{"action":"subscribe","ref":1}"#,
        r#"{"action":"publish","channel":"a:b","event":{}}"#,
        r#"{"action":"auth"}"#,
        r#"{"action":"ping"}"#,
        "ping",
        "hello",
        "[]",
    ] {
        let mut bench = Bench::silent(false);
        assert_eq!(bench.say(first), ["close 1008 Auth required"], "{first}");
    }
}

#[test]
fn a_further_subscribe_replaces_the_others_if_the_operator_says_so() {
    let mut bench = Bench::silent(true);
    bench.stream.on_open(Some(&user("u1")), &mut bench.out);
    bench.say(r#"{"action":"subscribe","stream_id":"a"}"#);
    bench.open("stream:a", None);
    assert_eq!(
        bench.say(r#"{"action":"subscribe","stream_id":"b","event_types":["x"]}"#),
        ["subscribe stream:b Retained", "unsubscribe stream:a"]
    );
    bench.open("stream:b", None);
    let narrowed = bench.say(r#"{"action":"subscribe","stream_id":"b","event_types":["y"]}"#);
    assert!(narrowed[0].starts_with(r#"send {"type":"subscribed""#), "the channel is read on: {narrowed:?}");
    assert!(bench.deliver("stream:b", r#"{"type":"x"}"#).is_empty(), "the first filter is gone");
    assert_eq!(bench.deliver("stream:b", r#"{"type":"y"}"#).len(), 1);
    bench.say(r#"{"action":"subscribe","stream_id":"c","ref":1}"#);
    bench.open("stream:c", None);
    assert_eq!(bench.deliver("stream:b", r#"{"type":"y"}"#).len(), 1, "with a ref, subscriptions add up");
}

#[test]
fn a_first_token_is_answered_and_an_invalid_one_closes_the_socket() {
    let mut bench = Bench::silent(false);
    assert_eq!(bench.say(r#"{"action":"auth","token":"x","ref":1}"#), ["authenticate x"]);
    bench.stream.on_timer(Instant::now(), &mut bench.out);
    assert!(bench.out.is_empty(), "the token came in time");
    let identity = Identity { expires_at: Some(1_772_366_400), ..user("u1") };
    bench.stream.on_identity(&identity, &mut bench.out);
    let answer = r#"send {"type":"authenticated","sub":"u1","expires_at":"2026-03-01T12:00:00.000Z","ref":1}"#;
    assert_eq!(bench.lines(), [answer]);
    bench.stream.on_identity(&user("u1"), &mut bench.out);
    assert_eq!(bench.lines(), [r#"send {"type":"authenticated","sub":"u1","expires_at":null}"#], "a refresh");
    bench.stream.on_bad_token(&AuthError::Signature, &mut bench.out);
    assert_eq!(bench.lines(), ["close 1008 auth failed: bad signature: get a new token"]);
    bench.stream.on_bad_token(&AuthError::KeysUnavailable, &mut bench.out);
    assert!(bench.lines()[0].starts_with("close 1013 auth failed: "), "not the client's fault");
}

#[test]
fn a_publish_is_answered_with_the_id_or_the_reason_for_the_refusal() {
    let mut bench = Bench::new();
    let say = r#"{"action":"publish","channel":"stream:w","event":{ "type":"x", "n":1.50 },"ref":1}"#;
    let mut answer = |published| {
        assert_eq!(bench.say(say), [r#"publish stream:w { "type":"x", "n":1.50 }"#]);
        bench.stream.on_published(0, published, &mut bench.out);
        bench.lines()
    };
    let id = Some(FIRST.parse().unwrap());
    let expected = format!(r#"send {{"type":"published","channel":"stream:w","id":"{FIRST}","ref":1}}"#);
    assert_eq!(answer(Ok(id)), [expected]);
    assert_eq!(answer(Ok(None)), [r#"send {"type":"published","channel":"stream:w","id":null,"ref":1}"#]);
    for (why, code) in [
        (NotPublished::Forbidden, "forbidden"),
        (NotPublished::Bad("no".to_owned()), "bad_message"),
        (NotPublished::Unavailable, "broker_unavailable"),
    ] {
        assert_eq!(refused(&answer(Err(why))), (code.to_owned(), 1.into()));
    }
}

#[test]
fn ten_rate_limited_messages_in_a_row_close_the_socket() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        for _ in 1..MAX_TOO_OFTEN {
            bench.stream.on_too_often(&mut bench.out);
            assert_eq!(refused(&bench.lines()).0, "rate_limited");
        }
        assert_eq!(bench.say(r#"{"action":"ping"}"#).len(), 1, "an accepted message resets the count");
    }
    (0..MAX_TOO_OFTEN).for_each(|_| bench.stream.on_too_often(&mut bench.out));
    assert_eq!(bench.lines().last().unwrap(), "close 4429 too many messages");
}

#[test]
fn a_retained_event_follows_the_answer_and_is_sent_once() {
    let mut bench = Bench::new();
    let retained = r#"{"type":"signal"}"#;
    for types in ["[\"other\"]", "[\"signal\"]"] {
        bench.say(&format!(r#"{{"action":"subscribe","channel":"mission:abc","event_types":{types}}}"#));
    }
    let opening = Opening { position: None, retained: Some(entry(retained)) };
    bench.stream.on_channel(&channel("mission:abc"), &opening, &mut bench.out);
    let lines = bench.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("send {\"type\":\"subscribed\"")).count(), 2);
    assert_eq!(
        lines[2..],
        [
            format!(r#"deliver {{"type":"event","channel":"mission:abc","id":null,"event":{retained}}}"#),
            "read on".to_owned()
        ]
    );
}

#[test]
fn an_event_is_encoded_once_for_all_sockets() {
    let shared = entry(r#"{"type":"x"}"#);
    let frames: Vec<Bytes> = (0..2)
        .map(|_| {
            let mut bench = Bench::new();
            bench.say(r#"{"action":"subscribe","stream_id":"w"}"#);
            bench.open("stream:w", None);
            bench.stream.on_entry(&channel("stream:w"), &shared, &mut bench.out);
            match bench.out.remove(0) {
                Action::Deliver(frame, ..) => frame,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(frames[0].as_ptr(), frames[1].as_ptr());
}
