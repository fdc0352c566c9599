//! Byte identity: readers get exactly the JSON that the producer wrote.

use crewcast_events::{Body, EventId};
use crewcast_publisher::Publisher;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::support::{
    gateway::{self, Gateway},
    publish::{logged, until_heard},
    redis::RedisServer,
    seed,
    socket::{Socket, connect},
    token::token,
};

/// JSON white space, or none.
fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{1,4}"]
}

/// A JSON string with its quotes.
fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ -!#-\\[\\]-~]{0,12}",
        "[à-ÿ⌘漢字🙂👩‍🔬\u{7f}\u{2028}\u{feff}\u{10ffff}]{1,4}",
        proptest::sample::select(vec![
            r#"\""#,
            r"\\",
            r"\/",
            r"\b",
            r"\f",
            r"\n",
            r"\r",
            r"\t",
            r"\u0000",
            r"\u00e9",
            r"\u00E9",
            r"\ud83d\ude42",
            // A lone surrogate is unusual, but the grammar allows it.
            r"\ud800",
            r"\uDFFF",
            r"\udc00\ud800",
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn scalar() -> impl Strategy<Value = String> {
    let numbers = vec![
        "0",
        "-0",
        "-0.0",
        "1.50",
        "1e400",
        "-1E-400",
        "1E+2",
        "0.1e1",
        "123456789012345678901234567890",
        "1.0000000000000001",
        "9007199254740993",
        "true",
        "false",
        "null",
    ];
    prop_oneof![proptest::sample::select(numbers).prop_map(str::to_owned), string()]
}

/// Keys of an event: repeated, escaped, unusual, and the gateway's own.
fn key() -> impl Strategy<Value = String> {
    let keys = vec![
        r#""a""#,
        r#""b""#,
        r#""""#,
        r#""\u0061""#,
        r#""source""#,
        r#""position""#,
        r#""crew_id""#,
        r#""timestamp""#,
        r#""run_id""#,
        r#""traceparent""#,
        r#""agent\u005fid""#,
        r#""__proto__""#,
        r#""channel""#,
        r#""\ud800""#,
    ];
    prop_oneof![2 => proptest::sample::select(keys).prop_map(str::to_owned), 1 => string()]
}

fn member(key: impl Strategy<Value = String>, value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (space(), key, space(), space(), value, space())
        .prop_map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"))
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(5, 40, 6, |inner| {
        let nested_key = prop_oneof![3 => key(), 1 => Just(r#""type""#.to_owned()), 1 => Just(r#""id""#.to_owned())];
        let list = proptest::collection::vec((space(), inner.clone(), space()), 0..6).prop_map(|items| {
            let items: Vec<String> = items.into_iter().map(|(a, item, b)| a + &item + &b).collect();
            format!("[{}]", items.join(","))
        });
        let object =
            proptest::collection::vec(member(nested_key, inner), 0..6).prop_map(|all| format!("{{{}}}", all.join(",")));
        prop_oneof![list, object]
    })
}

/// A `type`, including those of the gateway's own messages, in every spelling.
fn kind() -> impl Strategy<Value = String> {
    let kinds = vec![
        r#""tool_start""#,
        r#""ping""#,
        r#""pong""#,
        r#""reset""#,
        r#""gap""#,
        r#""error""#,
        r#""reconnect""#,
        r#""broker""#,
        r#""subscribed""#,
        r#""done""#,
        r#""signal""#,
        r#""\u0074ool""#,
        r#""é🙂""#,
        r#""with space""#,
        r#""\"quoted\"""#,
    ];
    proptest::sample::select(kinds).prop_map(str::to_owned)
}

/// Any event: an object with a string `type` somewhere, with white space around it if `padded`.
fn event() -> impl Strategy<Value = String> {
    let type_key = prop_oneof![5 => Just(r#""type""#.to_owned()), 1 => Just(r#""t\u0079pe""#.to_owned())];
    // The last of two `type` keys counts, so the first may be anything.
    let false_type = proptest::option::weighted(0.1, member(Just(r#""type""#.to_owned()), scalar()));
    let members = || proptest::collection::vec(member(key(), value()), 0..5);
    (false_type, members(), member(type_key, kind()), members()).prop_map(|(false_type, before, kind, after)| {
        let all: Vec<String> = false_type.into_iter().chain(before).chain([kind]).chain(after).collect();
        format!("{{{}}}", all.join(","))
    })
}

fn events(count: usize) -> Vec<String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let mut all: Vec<String> = (0..count).map(|_| event().new_tree(&mut runner).unwrap().current()).collect();
    all.push(format!(r#"{{"type":"large","data":"{}🙂"}}"#, "x\\n".repeat(100 << 10)));
    all.push(format!(r#"{{"type":"deep","data":{}{}}}"#, "[".repeat(5000), "]".repeat(5000)));
    all
}

/// What a reader gets for a logged event.
fn with_id(id: &str, event: &str) -> String {
    format!(r#"{{"id":"{id}",{}"#, &event[1..])
}

/// Reads one text per event, checks that each is its event with an id, and returns the texts.
async fn read_logged(socket: &mut Socket, events: &[String]) -> Vec<String> {
    let mut texts = Vec::new();
    for event in events {
        let text = socket.text().await;
        let id = EventId::of_message(text.as_bytes()).unwrap_or_else(|| panic!("not a logged event: {text}"));
        assert_eq!(text, with_id(&id.to_string(), event));
        texts.push(text);
    }
    texts
}

async fn history(gateway: &Gateway, channel: &str, token: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Page {
        events: Vec<Box<RawValue>>,
        more: bool,
    }
    let url = gateway.url(&format!("/api/v1/channels/{channel}/events?limit=1000"));
    let mut all: Vec<String> = Vec::new();
    loop {
        let after = all.last().map_or("0".to_owned(), |last| EventId::of_message(last.as_bytes()).unwrap().to_string());
        let answer = gateway::client().get(format!("{url}&after={after}")).bearer_auth(token).send().await.unwrap();
        let text = answer.text().await.unwrap();
        let page: Page = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        all.extend(page.events.iter().map(|event| event.get().to_owned()));
        if !page.more {
            return all;
        }
    }
}

#[tokio::test]
async fn a_live_event_arrives_as_it_was_published() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let token = token(json!({ "crews": ["abc"] }));
    let mut socket = connect(&gateway.ws("/ws/graph/abc"), Some(&token)).await;
    until_heard(&redis, "graph:abc", &mut socket).await;
    let mut live = events(300);
    live.extend([
        "\r\n\t {\"type\":\"padded\"} \n".to_owned(),
        r#"{"id":"mine","type":"x"}"#.to_owned(),
        r#"{"id":7,"type":"x"}"#.to_owned(),
        r#"{"type":"x","id":null}"#.to_owned(),
        r#"{ "id":"9-abcdefabcdef","type":"x"}"#.to_owned(),
    ]);
    let mut publisher = redis.connection();
    for event in &live {
        let heard: i64 = redis::cmd("PUBLISH").arg("graph:abc").arg(event).query(&mut publisher).unwrap();
        assert_eq!(heard, 1);
        assert_eq!(socket.text().await, *event);
    }
    assert_eq!(gateway.metric("crewcast_events_rejected_total", "").await, 0.0);
}

#[tokio::test]
async fn a_logged_event_differs_by_its_id_alone() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let token = token(json!({ "crews": ["abc"] }));
    let path = "/ws/graph/abc";
    let mut live = connect(&gateway.ws(path), Some(&token)).await;
    until_heard(&redis, "graph:abc", &mut live).await;

    let events = events(150);
    for event in &events {
        assert!(Body::parse(event.clone()).is_ok(), "the generator made an invalid event: {event}");
    }
    let (by_http, by_crate) = events.split_at(events.len() / 3);
    for event in by_http {
        let id = logged(&gateway, "graph:abc", event).await;
        assert_eq!(live.text().await, with_id(&id, event));
    }
    let publisher = Publisher::connect(&redis.url()).await.unwrap();
    for event in by_crate {
        publisher.publish_raw("graph:abc", format!(" {event}\n")).unwrap();
    }
    read_logged(&mut live, by_crate).await;
    publisher.close(crate::support::PATIENCE).await;

    let mut replay = connect(&gateway.ws(&format!("{path}?since=0")), Some(&token)).await;
    let replayed = read_logged(&mut replay, &events).await;
    assert_eq!(history(&gateway, "graph:abc", &token).await, replayed);
    let kept: Vec<String> = redis.run(&[b"LRANGE", b"crewcast:{graph:abc}:log", b"0", b"-1"]);
    assert_eq!(kept, replayed);
    for (n, text) in replayed.iter().enumerate() {
        assert_eq!(EventId::of_message(text.as_bytes()).unwrap().offset(), n as u64 + 1);
    }
}
