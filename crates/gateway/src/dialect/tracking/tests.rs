//! The tracking dialect as a state machine: the actions for each input.

use bytes::Bytes;
use crewcast_events::Body;
use serde_json::Value;
use tokio::time::advance;

use super::*;
use crate::{auth::testing::user, hub::Item};
use crewcast_websocket::frame::payload_of;

const TTL: Duration = Duration::from_secs(60);
const OPENED: [&str; 2] =
    [r#"Replace { client: "client_1_ab" }"#, r#"SubscribeOwn { namespace: "tracking", start: Live }"#];

fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

fn opening() -> Opening {
    Opening { position: None, retained: None }
}

/// An event of a log.
fn logged(offset: u64, text: &str) -> Arc<Entry> {
    let id = format!("{offset}-aaaaaabbbbbb").parse().unwrap();
    let event = Event::parse(Body::parse(text.to_owned()).unwrap().with_id(id)).unwrap();
    Arc::new(Entry::new(Item::Event(event), Some(id)))
}

fn state(documents: &[(&str, &str)], first_end: Option<Duration>) -> StateDocuments {
    let document = |&(key, text): &(&str, &str)| (key.to_owned(), Bytes::copy_from_slice(text.as_bytes()));
    StateDocuments { documents: documents.iter().map(document).collect(), first_end, ..StateDocuments::default() }
}

/// A frame's text, without the gateway's own timestamp.
fn text(frame: &Bytes) -> String {
    let text = String::from_utf8(payload_of(frame).to_vec()).unwrap();
    let message: Value = serde_json::from_str(&text).expect("frames are JSON");
    let Some(seconds) = message["timestamp"].as_f64() else { return text };
    assert!(seconds > 1e9, "{text}");
    // The gateway's timestamp is the last one in `text`, or the first; those of producers are strings.
    let (before, after) = text
        .match_indices(r#""timestamp":"#)
        .map(|(at, key)| text.split_at(at + key.len()))
        .find(|(_, after)| after.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap();
    format!("{before}T{}", after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'))
}

/// A socket with its clock.
struct Bench {
    socket: TrackingDialect,
    out: Actions,
    /// When it last asked for the timer.
    wake: Option<Instant>,
}

impl Bench {
    fn new() -> Self {
        Self { socket: TrackingDialect::new(Some("client_1_ab".to_owned()), TTL), out: Actions::new(), wake: None }
    }

    /// An open socket that has been sent an empty list.
    fn open() -> Self {
        let mut bench = Self::new();
        bench.socket.on_open(Some(&user("u1")), &mut bench.out);
        assert_eq!(bench.sent(), OPENED);
        bench.opens("tracking:acme");
        assert_eq!(bench.sent(), [reads_list()]);
        bench.sees(&state(&[], None));
        assert_eq!(
            bench.sent(),
            [r#"{"type":"active_sessions","timestamp":T,"data":{"total_sessions":0,"sessions":[]}}"#]
        );
        bench
    }

    fn opens(&mut self, name: &str) {
        self.socket.on_channel(&channel(name), &opening(), &mut self.out);
    }

    fn sees(&mut self, state: &StateDocuments) {
        self.socket.on_state(&channel("tracking:acme"), Some(state), &mut self.out);
    }

    fn hears(&mut self, name: &str, entry: &Arc<Entry>) {
        self.socket.on_entry(&channel(name), entry, &mut self.out);
    }

    fn catches_up(&mut self, name: &str) {
        self.socket.on_caught_up(&channel(name), None, &mut self.out);
    }

    fn sends(&mut self, text: &str) {
        self.socket.on_client(text, &mut self.out);
    }

    /// The actions since the last call; frames are shown as their text.
    fn sent(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        for action in std::mem::take(&mut self.out) {
            sent.push(match action {
                Action::Send(frame) | Action::Deliver(frame, ..) | Action::DeliverBatch { frame, .. } => text(&frame),
                Action::Close(code, reason) => format!("close {} {reason}", code.number()),
                Action::WakeAt(at) => {
                    self.wake = Some(at);
                    continue;
                }
                other => format!("{other:?}"),
            });
        }
        sent
    }

    /// Lets time pass, and fires the timer whenever it is due.
    async fn waits(&mut self, time: Duration) -> Vec<String> {
        let until = Instant::now() + time;
        let mut sent = self.sent();
        while let Some(at) = self.wake.take_if(|at| *at <= until) {
            advance(at.duration_since(Instant::now())).await;
            self.socket.on_timer(Instant::now(), &mut self.out);
            sent.extend(self.sent());
        }
        advance(until.duration_since(Instant::now())).await;
        sent
    }
}

fn reads_list() -> String {
    format!("{:?}", Action::ReadState { channel: channel("tracking:acme"), within: Some(TTL) })
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const CHANGED: &str = r#"{"type":"session_changed","session_id":"s1"}"#;

#[tokio::test(start_paused = true)]
async fn the_list_is_sent_first_and_when_it_changes() {
    let mut bench = Bench::open();
    bench.waits(seconds(1)).await;
    bench.hears("tracking:acme", &logged(1, CHANGED));
    bench.hears("tracking:acme", &logged(2, CHANGED));
    bench.catches_up("tracking:acme");
    assert_eq!(bench.sent(), [reads_list()], "once for a burst");
    let one = state(&[("s1", r#" {"session_id":"s1", "new":1.50}"#), ("s2", "7"), ("s3", "{")], None);
    bench.sees(&one);
    let expected = concat!(
        r#"{"type":"active_sessions","timestamp":T,"#,
        r#""data":{"total_sessions":1,"sessions":[{"session_id":"s1", "new":1.50}]}}"#
    );
    assert_eq!(bench.sent(), [expected], "as the producer wrote it; only objects are sessions");
    bench.waits(seconds(1)).await;
    bench.hears("tracking:acme", &logged(3, CHANGED));
    bench.catches_up("tracking:acme");
    bench.sees(&one);
    assert_eq!(bench.sent(), [reads_list()], "an unchanged list is not sent");
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_read_causes_another_read_after_a_pause() {
    let mut bench = Bench::open();
    bench.waits(seconds(1)).await;
    for n in 1..=3 {
        bench.hears("tracking:acme", &logged(n, CHANGED));
        bench.catches_up("tracking:acme");
    }
    assert_eq!(bench.sent(), [reads_list()]);
    bench.sees(&state(&[], None));
    assert_eq!(bench.waits(Duration::from_millis(99)).await, Vec::<String>::new());
    assert_eq!(bench.waits(Duration::from_millis(1)).await, [reads_list()]);
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_producer_died_leaves_without_an_event() {
    let mut bench = Bench::open();
    bench.waits(seconds(1)).await;
    for kind in ["stalled", "lost", "recovered", "session_changed"] {
        bench.waits(seconds(1)).await;
        bench.hears("tracking:acme", &logged(1, &format!(r#"{{"type":"{kind}"}}"#)));
        bench.catches_up("tracking:acme");
        assert_eq!(bench.sent(), [reads_list()], "{kind}");
        bench.sees(&state(&[], None));
    }
    bench.waits(seconds(1)).await;
    bench.hears("tracking:acme", &logged(2, CHANGED));
    bench.catches_up("tracking:acme");
    bench.sent();
    bench.sees(&state(&[("s1", "{}")], Some(seconds(20))));
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.waits(Duration::from_millis(19_999)).await, Vec::<String>::new());
    assert_eq!(bench.waits(Duration::from_millis(1)).await, [reads_list()]);
    bench.sees(&state(&[], None));
    assert_eq!(bench.sent(), [r#"{"type":"active_sessions","timestamp":T,"data":{"total_sessions":0,"sessions":[]}}"#]);
}

#[tokio::test(start_paused = true)]
async fn agent_events_are_sent_unchanged_and_other_org_events_are_not() {
    let mut bench = Bench::open();
    for kind in ["agent_status", "agent_collaboration"] {
        let entry =
            logged(4, &format!(r#"{{ "type":"{kind}" , "progress":65.50, "timestamp":"2026-01-02T03:04:05Z"}}"#));
        bench.hears("tracking:acme", &entry);
        assert_eq!(bench.sent(), [entry.event().unwrap().text()]);
    }
    let list = logged(5, r#"{ "type":"active_sessions","data":{"sessions":[]}}"#);
    bench.hears("tracking:acme", &list);
    bench.hears("tracking:acme", &list);
    assert_eq!(bench.sent(), [list.event().unwrap().text()], "an unchanged list is not repeated");
    for kind in ["session_state", "ping", "session_log", "other"] {
        bench.hears("tracking:acme", &logged(5, &format!(r#"{{"type":"{kind}"}}"#)));
        assert_eq!(bench.sent(), Vec::<String>::new(), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn live_lists_and_documents_are_one_list() {
    let mut bench = Bench::open();
    bench.waits(seconds(1)).await;
    let list = r#"{"type":"active_sessions","data":{"sessions":[{"session_id":"s1","n":1},{"session_id":"s2"}]}}"#;
    let live = Some(Bytes::from_static(list.as_bytes()));
    bench.sees(&StateDocuments { live: live.clone(), ..state(&[], None) });
    assert_eq!(bench.sent(), [list], "as its producer wrote it");
    bench.sees(&StateDocuments { live, ..state(&[("s1", r#"{"session_id":"s1","n":2}"#)], None) });
    let data = r#"{"total_sessions":2,"sessions":[{"session_id":"s1","n":2},{"session_id":"s2"}]}"#;
    assert_eq!(bench.sent(), [format!(r#"{{"type":"active_sessions","timestamp":T,"data":{data}}}"#)]);
}

#[tokio::test(start_paused = true)]
async fn live_events_of_the_org_feed_the_streamed_session() {
    let mut bench = Bench::open();
    bench.sends(START);
    bench.sent();
    for kind in ["session_state", "session_logs"] {
        let entry = logged(1, &format!(r#"{{"type":"{kind}","session_id":"s1","logs":[],"state":{{}}}}"#));
        bench.hears("tracking:acme", &entry);
        assert_eq!(bench.sent(), [entry.event().unwrap().text()]);
        bench.hears("tracking:acme", &logged(2, &format!(r#"{{"type":"{kind}","session_id":"s2"}}"#)));
        assert_eq!(bench.sent(), Vec::<String>::new());
    }
    let s1 = channel("session:s1");
    bench.socket.on_refused(Denied::Channel(&s1), &mut bench.out);
    bench.sent();
    bench.socket.on_tail(&s1, Some(&Tail { live: Some(Vec::new()), ..Tail::default() }), &mut bench.out);
    assert_eq!(bench.sent(), Vec::<String>::new());
    assert!(bench.socket.streaming.is_some(), "live events tell of it");
}

#[tokio::test(start_paused = true)]
async fn streaming_begins_with_the_lines_of_live_events_unless_they_were_requested() {
    let s1 = channel("session:s1");
    let read = format!("{:?}", Action::ReadTail { channel: s1.clone(), kind: LINE });
    let live_entry = |text: &str| {
        let event = Event::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        Arc::new(Entry::new(Item::Event(event), None))
    };
    let live = Tail { live: Some([r#"{"n":1}"#, r#"{"n":2}"#].map(str::to_owned).to_vec()), ..Tail::default() };
    let told = r#"{"type":"session_logs","session_id":"s1","logs":[{"n":1}],"timestamp":T}"#;
    for is_pending in [true, false] {
        let mut bench = Bench::open();
        let begins = |bench: &mut Bench| match is_pending {
            true => bench.socket.on_pending(&s1, &mut bench.out),
            false => bench.socket.on_channel(&s1, &Opening { position: None, retained: None }, &mut bench.out),
        };
        bench.sends(START);
        bench.sent();
        begins(&mut bench);
        assert_eq!(bench.sent(), std::slice::from_ref(&read));
        bench.hears("tracking:acme", &live_entry(r#"{"type":"session_logs","session_id":"s1","logs":[{"n":2}]}"#));
        assert_eq!(bench.sent().len(), 1, "it is passed on at once");
        bench.socket.on_tail(&s1, Some(&live), &mut bench.out);
        assert_eq!(bench.sent(), [told], "without what came meanwhile");
        bench.socket.on_channel(&s1, &Opening { position: None, retained: None }, &mut bench.out);
        assert_eq!(bench.sent(), Vec::<String>::new(), "once");

        bench.sends(r#"{"type":"get_session_logs","session_id":"s1"}"#);
        bench.socket.on_tail(&s1, Some(&live), &mut bench.out);
        bench.sends(START);
        bench.sent();
        begins(&mut bench);
        if is_pending {
            // Only a misspelled id would be reported.
            assert_eq!(bench.sent(), std::slice::from_ref(&read));
            bench.socket.on_tail(&s1, Some(&live), &mut bench.out);
        }
        assert_eq!(bench.sent(), Vec::<String>::new(), "they were requested: nothing is sent again");
        bench.sends(&START.replace('}', r#","backlog":true}"#));
        bench.sent();
        begins(&mut bench);
        bench.socket.on_tail(&s1, None, &mut bench.out);
        let unknown = is_pending.then(|| UNKNOWN.to_owned());
        let expected: Vec<String> = [read.clone()].into_iter().chain(unknown).collect();
        assert_eq!(bench.sent(), expected, "a misspelled id is reported");
        assert!(bench.socket.streaming.is_some(), "the session may begin later");
    }
}

const LOG: &str =
    r#"{"type":"session_log","level":"info","agent":"a","message":"é","timestamp":"2026-01-02T03:04:05Z"}"#;

fn state_event(n: u64) -> String {
    format!(r#"{{"type":"session_state","state":{{"n":{n}.50}},"timestamp":"2026-01-02T03:04:05.678Z"}}"#)
}

fn told_state(n: u64) -> String {
    format!(r#"{{"type":"session_state","session_id":"s1","state":{{"n":{n}.50}},"timestamp":T}}"#)
}

fn told_logs(lines: &[&Arc<Entry>]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.event().unwrap().text()).collect();
    format!(r#"{{"type":"session_logs","session_id":"s1","logs":[{}],"timestamp":T}}"#, lines.join(","))
}

const START: &str = r#"{"type":"start_log_streaming","session_id":"s1"}"#;

#[tokio::test(start_paused = true)]
async fn the_backlog_comes_together_and_then_each_line_and_each_change() {
    let mut bench = Bench::open();
    bench.sends(START);
    assert_eq!(bench.sent().len(), 1);
    let lines = [1, 4].map(|offset| logged(offset, LOG));
    bench.hears("session:s1", &lines[0]);
    bench.hears("session:s1", &logged(2, &state_event(1)));
    bench.hears("session:s1", &logged(3, &state_event(2)));
    bench.hears("session:s1", &lines[1]);
    bench.hears("session:s1", &logged(5, r#"{"type":"session_started"}"#));
    assert_eq!(bench.sent(), Vec::<String>::new());
    bench.catches_up("session:s1");
    assert_eq!(bench.sent(), [told_logs(&[&lines[0], &lines[1]]), told_state(2)], "only the last state is sent");
    for offset in [6, 8] {
        let line = logged(offset, LOG);
        bench.hears("session:s1", &line);
        bench.hears("session:s1", &logged(offset + 1, &state_event(offset)));
        assert_eq!(bench.sent(), [told_logs(&[&line]), told_state(offset)]);
        bench.catches_up("session:s1");
    }
    bench.hears("session:s1", &logged(10, r#"{"type":"session_state"}"#));
    assert_eq!(bench.sent(), Vec::<String>::new(), "an event without a state is ignored");
}

#[tokio::test(start_paused = true)]
async fn a_long_backlog_comes_in_pieces_and_a_line_is_encoded_once_for_all_sockets() {
    let mut bench = Bench::open();
    bench.sends(START);
    bench.sent();
    let lines: Vec<_> = (1..=1001).map(|offset| logged(offset, LOG)).collect();
    lines.iter().for_each(|line| bench.hears("session:s1", line));
    bench.catches_up("session:s1");
    let counts: Vec<usize> = bench.sent().iter().map(|text| text.matches("session_log\"").count()).collect();
    assert_eq!(counts, [500, 500, 1]);
    let wide = logged(1002, &LOG.replace('é', &"x".repeat(64 << 10)));
    let frames = [(), ()].map(|()| {
        bench.hears("session:s1", &wide);
        match bench.out.remove(0) {
            Action::Deliver(frame, ..) => frame,
            other => panic!("immediately, because it is long: {other:?}"),
        }
    });
    assert_eq!(frames[0].as_ptr(), frames[1].as_ptr());
}

#[tokio::test(start_paused = true)]
async fn one_log_is_streamed_at_a_time() {
    let mut bench = Bench::open();
    bench.sends(START);
    assert_eq!(bench.sent(), [subscribe("s1")]);
    let line = logged(1, LOG);
    bench.hears("session:s1", &line);
    bench.sends(&START.replace("s1", "s2"));
    assert_eq!(
        bench.sent(),
        [told_logs(&[&line]), unsubscribe("s1"), subscribe("s2")],
        "the lines that were read go out first"
    );
    bench.hears("session:s1", &logged(2, LOG));
    bench.catches_up("session:s1");
    assert_eq!(bench.sent(), Vec::<String>::new());
    bench.sends(r#"{"type":"stop_log_streaming"}"#);
    assert_eq!(bench.sent(), [unsubscribe("s2")]);
    bench.sends(r#"{"type":"stop_log_streaming"}"#);
    assert_eq!(bench.sent(), Vec::<String>::new());
}

fn subscribe(id: &str) -> String {
    let channel = channel(&format!("session:{id}"));
    format!("{:?}", Action::Subscribe { channel, start: Start::Since(Since::Beginning) })
}

fn unsubscribe(id: &str) -> String {
    format!("{:?}", Action::Unsubscribe(channel(&format!("session:{id}"))))
}

#[tokio::test(start_paused = true)]
async fn streaming_continues_where_the_requested_log_ended() {
    let mut bench = Bench::open();
    let s1 = channel("session:s1");
    let after = |line: &Arc<Entry>| {
        let start = Start::Since(Since::After(line.id().unwrap()));
        format!("{:?}", Action::Subscribe { channel: s1.clone(), start })
    };
    let read = format!("{:?}", Action::ReadTail { channel: s1.clone(), kind: LINE });
    let line = logged(7, LOG);
    let tail = Tail { head: line.id(), entries: vec![line.clone()], live: None };
    bench.sends(r#"{"type":"get_session_logs","session_id":"s1"}"#);
    bench.sends(START);
    assert_eq!(bench.sent(), [read], "streaming waits for the answer");
    bench.socket.on_tail(&s1, Some(&tail), &mut bench.out);
    assert_eq!(bench.sent(), [told_logs(&[&line]), after(&line)]);
    let next = logged(8, LOG);
    bench.hears("session:s1", &next);
    bench.catches_up("session:s1");
    assert_eq!(bench.sent(), [told_logs(&[&next])]);
    bench.sends(START);
    assert_eq!(bench.sent(), [unsubscribe("s1"), after(&next)]);
    bench.sends(&START.replace('}', r#","backlog":true}"#));
    assert_eq!(bench.sent(), [unsubscribe("s1"), subscribe("s1")]);
    bench.sends(&START.replace("s1", "s2"));
    assert_eq!(bench.sent(), [unsubscribe("s1"), subscribe("s2")], "the log of another session was not requested");

    bench.sends(r#"{"type":"get_session_logs","session_id":"s1"}"#);
    bench.sends(START);
    bench.sends(r#"{"type":"stop_log_streaming"}"#);
    bench.sent();
    bench.socket.on_tail(&s1, Some(&tail), &mut bench.out);
    assert_eq!(bench.sent(), [told_logs(&[&line])], "stopped before it began");
}

#[tokio::test(start_paused = true)]
async fn sockets_without_a_token_and_without_takeover_replace_no_other() {
    let anonymous = Identity { anonymous: true, ..user("anonymous") };
    for (client, identity) in [(Some("c".to_owned()), anonymous), (None, user("u1"))] {
        let mut socket = TrackingDialect::new(client, TTL);
        let mut out = Actions::new();
        socket.on_open(Some(&identity), &mut out);
        assert!(!out.iter().any(|action| matches!(action, Action::Replace { .. })), "{out:?}");
    }
}

const UNKNOWN: &str = r#"{"type":"error","source":"gateway","code":"unknown_session","message":"the session is unknown, or the token does not grant it"}"#;

#[tokio::test(start_paused = true)]
async fn an_unknown_or_ungranted_session_is_reported_and_the_socket_stays_open() {
    let mut bench = Bench::open();
    let s1 = channel("session:s1");
    bench.socket.on_state(&s1, None, &mut bench.out);
    bench.socket.on_state(&s1, Some(&state(&[("other", "{}")], None)), &mut bench.out);
    bench.socket.on_tail(&s1, None, &mut bench.out);
    bench.socket.on_tail(&s1, Some(&Tail::default()), &mut bench.out);
    bench.sends(r#"{"type":"get_session_state","session_id":"a b"}"#);
    assert_eq!(bench.sent(), [UNKNOWN; 5]);
    bench.sends(START);
    bench.sent();
    bench.socket.on_refused(Denied::Channel(&s1), &mut bench.out);
    assert_eq!(bench.sent(), [format!("{:?}", Action::ReadTail { channel: s1.clone(), kind: LINE })]);
    bench.socket.on_tail(&s1, None, &mut bench.out);
    assert_eq!(bench.sent(), [UNKNOWN]);
    assert!(bench.socket.streaming.is_none());
    bench.socket.on_refused(Denied::Channel(&channel("tracking:acme")), &mut bench.out);
    bench.socket.on_refused(Denied::Own, &mut bench.out);
    assert!(bench.sent().iter().all(|line| line.starts_with("close 4403 ")));
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_with_the_producers_text() {
    let mut bench = Bench::open();
    let s1 = channel("session:s1");
    bench.sends(r#"{"type":"get_session_state","session_id":"s1"}"#);
    bench.sends(r#"{"type":"get_session_logs","session_id":"s1","more":[]}"#);
    let read = format!("{:?}", Action::ReadState { channel: s1.clone(), within: None });
    assert_eq!(bench.sent(), [read, format!("{:?}", Action::ReadTail { channel: s1.clone(), kind: "session_log" })]);
    bench.socket.on_state(&s1, Some(&state(&[("other", "{}"), ("state", r#"{"n":7.50}"#)], None)), &mut bench.out);
    let lines = [logged(1, LOG), logged(9, LOG)];
    let last = Tail { head: lines[1].id(), entries: lines.to_vec(), live: None };
    bench.socket.on_tail(&s1, Some(&last), &mut bench.out);
    bench.socket.on_tail(&s1, Some(&Tail { entries: Vec::new(), ..last }), &mut bench.out);
    assert_eq!(bench.sent(), [told_state(7), told_logs(&[&lines[0], &lines[1]]), told_logs(&[])]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_twice_and_then_closed() {
    const PING: &str = r#"{"type":"ping","source":"gateway","timestamp":T}"#;
    let mut bench = Bench::open();
    for answer in [r#"{"type":"pong"}"#, "nonsense"] {
        assert_eq!(bench.waits(Duration::from_millis(29_999)).await, Vec::<String>::new());
        assert_eq!(bench.waits(Duration::from_millis(1)).await, [PING]);
        assert_eq!(bench.waits(seconds(30)).await, [PING]);
        assert_eq!(bench.waits(Duration::from_millis(29_999)).await, Vec::<String>::new());
        bench.sends(answer);
        bench.sent();
    }
    assert_eq!(bench.waits(seconds(89)).await, [PING, PING]);
    assert_eq!(bench.waits(seconds(1)).await, ["close 4408 no pong: reconnect"]);
}

#[tokio::test(start_paused = true)]
async fn sixty_messages_a_minute_are_accepted_and_pongs_do_not_count() {
    let limited = r#""code":"rate_limited""#;
    let mut bench = Bench::open();
    let ask = r#"{"type":"get_session_state","session_id":"s1"}"#;
    for _ in 0..60 {
        bench.sends(r#"{"type":"pong"}"#);
        bench.sends(ask);
        assert!(bench.sent().concat().starts_with("ReadState"));
    }
    // Four messages a second: one of them is permitted, for a minute.
    let (mut permitted, mut refused) = (0, 0);
    for n in 1..240 {
        bench.sends(ask);
        let sent = bench.sent();
        assert_eq!(sent.len(), 1, "{n}: {sent:?}");
        permitted += u32::from(sent[0].starts_with("ReadState"));
        refused += u32::from(sent[0].contains(limited));
        advance(Duration::from_millis(250)).await;
    }
    assert_eq!((permitted, permitted + refused), (59, 239));
    let sent = loop {
        bench.sends(ask);
        let sent = bench.sent();
        if sent.concat().contains(limited) {
            break sent;
        }
    };
    assert_eq!(sent.len(), 1, "the surplus began a little less than a minute ago: {sent:?}");
    advance(seconds(1)).await;
    let ends = |bench: &mut Bench| {
        (0..2).any(|_| {
            bench.sends(ask);
            bench.sent().concat().contains("close 4429")
        })
    };
    assert!(ends(&mut bench));

    let mut bench = Bench::open();
    for round in 0..3 {
        for n in 0..69 {
            bench.sends(ask);
            let sent = bench.sent().concat();
            assert_eq!(sent.contains(limited), n >= 60, "{round}, {n}: {sent}");
        }
        advance(seconds(60)).await;
    }
    bench.socket.on_too_often(&mut bench.out);
    assert!(bench.sent().concat().contains(limited), "the limit of all sockets is reported likewise");
}

#[tokio::test(start_paused = true)]
async fn a_page_may_check_whether_the_connection_lives() {
    let mut bench = Bench::open();
    for ping in ["ping", r#""ping""#, r#"{"type":"ping"}"#, r#"{"action":"ping"}"#] {
        bench.sends(ping);
        let sent = bench.sent();
        assert!(sent.len() == 1 && sent[0].contains(r#"{"type":"pong","timestamp":"#), "{ping}: {sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn invalid_messages_are_answered_and_finally_close_the_socket() {
    let mut bench = Bench::open();
    let bad = ["", "7", "[]", r#"{"type":"x"}"#, r#"{"type":7}"#, r#"{"type":"get_session_logs"}"#];
    for text in bad.iter().chain([r#"{"type":"start_log_streaming","session_id":7}"#, "{}", "null"].iter()) {
        bench.sends(text);
        let sent = bench.sent();
        assert!(sent.len() == 1 && sent[0].contains(r#""code":"bad_message""#), "{text}: {sent:?}");
    }
    bench.sends("{");
    assert!(bench.sent()[1].starts_with("close 4400 "));
    bench.sends(r#"{"action":"auth","token":"t"}"#);
    assert_eq!(bench.sent(), [r#"Authenticate("t")"#]);
}

#[test]
fn client_ids_must_match_the_pattern() {
    let long = "x".repeat(128);
    for (id, is_one, is_strict) in [
        ("client_1_ab", true, true),
        ("client_1700000000000_k3j9x", true, true),
        ("client_a", true, false),
        ("client-1_ab", true, false),
        ("client_1_aB", true, false),
        ("client_1_a_b", true, false),
        ("client_1_", true, false),
        ("page.7", true, false),
        ("550e8400-e29b-41d4-a716-446655440000", true, false),
        (&*long, true, false),
        (&*format!("{long}x"), false, false),
        ("client_1_a\n", false, false),
        ("client 1", false, false),
        ("client_é", false, false),
        ("", false, false),
    ] {
        assert_eq!((is_client_id(id, false), is_client_id(id, true)), (is_one, is_strict), "{id}");
    }
}
