//! Invalid input of every kind is counted and harmless, and the next valid message arrives.

use fastrand::Rng;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use futures_util::SinkExt;

use crate::support::{
    PATIENCE, eventually,
    gateway::{self, Gateway},
    publish::{logged, until_heard},
    redis::RedisServer,
    seed,
    socket::{Socket, connect},
    token::{now, token},
};

const GOOD: &str = r#"{"type":"good"}"#;

/// A gateway with small limits, and a socket that receives `graph:abc`.
async fn listening(redis: &RedisServer) -> (Gateway, Socket) {
    let gateway = gateway::on(redis, &[("CREWCAST_LIMITS__MESSAGE", "4096")]).await;
    let socket = listener(&gateway, redis).await;
    (gateway, socket)
}

async fn listener(gateway: &Gateway, redis: &RedisServer) -> Socket {
    let mut socket = connect(&gateway.ws("/ws/graph/abc"), Some(&token(json!({ "crews": ["abc"] })))).await;
    until_heard(redis, "graph:abc", &mut socket).await;
    socket
}

async fn rejected(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("crewcast_events_rejected_total", reason).await
}

#[tokio::test]
async fn junk_in_a_channel_is_counted_by_reason_and_never_forwarded() {
    let redis = RedisServer::start();
    let (gateway, mut socket) = listening(&redis).await;
    let long = |n: usize| format!(r#"{{"type":"{}"}}"#, "x".repeat(n)).into_bytes();
    let junk: [(&str, Vec<Vec<u8>>); 5] = [
        (
            "not_utf8",
            vec![
                b"\xff\xfe\x00".to_vec(),
                b"{\"type\":\"\xc3\x28\"}".to_vec(),
                b"{\"type\":\"\xed\xa0\x80\"}".to_vec(),
            ],
        ),
        (
            "not_an_object",
            [
                "",
                "hello",
                "[]",
                r#"[{"type":"x"}]"#,
                "null",
                "7",
                r#""type""#,
                "{",
                r#"{"type":"x"}}"#,
                r#"{"type":"x",}"#,
                "{'type':'x'}",
            ]
            .map(|text| text.as_bytes().to_vec())
            .to_vec(),
        ),
        (
            "no_type",
            ["{}", r#"{"kind":"x"}"#, r#"{"type":7}"#, r#"{"type":null}"#, r#"{"a":{"type":"x"}}"#]
                .map(|text| text.as_bytes().to_vec())
                .to_vec(),
        ),
        ("bad_type", vec![long(129), br#"{"type":""}"#.to_vec(), br#"{"type":"a\nb"}"#.to_vec()]),
        ("too_large", vec![long(5000), vec![b'x'; 100_000]]),
    ];
    for (reason, messages) in &junk {
        for message in messages {
            redis.publish("graph:abc", message);
        }
        redis.publish("graph:abc", GOOD.as_bytes());
        assert_eq!(socket.text().await, GOOD, "after {reason}");
        assert_eq!(rejected(&gateway, reason).await, messages.len() as f64, "{reason}");
    }
    // Exactly at the limits of size and length.
    let largest = format!(r#"{{"type":"{}","d":"{}"}}"#, "é".repeat(128), "x".repeat(4096 - 18 - 256));
    assert_eq!(largest.len(), 4096);
    redis.publish("graph:abc", largest.as_bytes());
    assert_eq!(socket.text().await, largest);
    logged(&gateway, "graph:abc", &largest).await;
    assert!(socket.text().await.ends_with(&largest[1..]), "an event at the limit is dropped with its id");
    let told = |gateway: &Gateway| gateway.log().iter().filter(|line| line.contains("not_utf8")).count();
    assert_eq!(told(&gateway), 1, "logged more than once a minute");
}

#[tokio::test]
async fn events_that_only_look_logged_are_forwarded_live_and_unchanged() {
    let redis = RedisServer::start();
    let (gateway, mut socket) = listening(&redis).await;
    let mut last = String::new();
    for round in 0..4 {
        let head: u64 = last.split('-').next().unwrap().parse().unwrap_or(0);
        // Ahead, in the past, in place of the head, and right after the head without continuing it.
        for offset in [7, 1, head.max(1), head + 1, u64::MAX] {
            let forged = format!(r#"{{"id":"{offset}-aaaaaaaaaaaa","type":"forged","round":{round}}}"#);
            redis.publish("graph:abc", forged.as_bytes());
            assert_eq!(socket.text().await, forged);
        }
        last = logged(&gateway, "graph:abc", r#"{"type":"true"}"#).await;
        assert_eq!(socket.event().await["id"], last.as_str(), "round {round}");
    }
    assert_eq!(gateway.metric("crewcast_resets_total", "").await, 0.0);
    // A later reader does not see them as history.
    let token = token(json!({ "crews": ["abc"] }));
    let mut replay = connect(&gateway.ws("/ws/graph/abc?since=0"), Some(&token)).await;
    for offset in 1..=4 {
        assert!(replay.text().await.starts_with(&format!(r#"{{"id":"{offset}-"#)));
    }
    assert!(replay.is_quiet().await);
}

#[tokio::test]
async fn a_forged_id_that_fits_the_chain_costs_a_reset_and_no_event() {
    let redis = RedisServer::start();
    let (gateway, mut socket) = listening(&redis).await;
    let first = logged(&gateway, "graph:abc", r#"{"type":"a"}"#).await;
    assert_eq!(socket.event().await["id"], first.as_str());
    let forged = format!(r#"{{"id":"2-{}zzzzzz","type":"forged"}}"#, &first[first.len() - 6..]);
    redis.publish("graph:abc", forged.as_bytes());
    assert_eq!(socket.text().await, forged);
    let second = logged(&gateway, "graph:abc", r#"{"type":"b"}"#).await;
    let third = logged(&gateway, "graph:abc", r#"{"type":"c"}"#).await;
    let reset = socket.json().await;
    assert_eq!((&reset["type"], &reset["reason"]), (&json!("reset"), &json!("unknown_id")));
    let from = reset["from"].as_str().unwrap().to_owned();
    let mut ids = vec![socket.event().await["id"].as_str().unwrap().to_owned()];
    assert_eq!(ids[0], from);
    while *ids.last().unwrap() != third {
        ids.push(socket.event().await["id"].as_str().unwrap().to_owned());
    }
    assert!(ids.ends_with(&[second, third]), "{ids:?}");
}

#[tokio::test]
async fn junk_in_the_control_channel_is_counted_and_the_next_revocation_works() {
    let redis = RedisServer::start();
    let (gateway, mut socket) = listening(&redis).await;
    let junk: [&[u8]; 6] = [b"", b"\xff", b"[]", b"{}", br#"{"kind":"revoked"}"#, br#"{"kind":"nonsense","jti":7}"#];
    for message in junk {
        assert_eq!(redis.publish("crewcast:{control}", message), 1);
    }
    redis.publish("graph:abc", GOOD.as_bytes());
    assert_eq!(socket.text().await, GOOD);
    assert_eq!(rejected(&gateway, "bad_control").await, junk.len() as f64);
    let revocation = json!({ "kind": "revoked", "sub": "u1", "issued_until": now(), "remember_until": now() + 60 });
    redis.publish("crewcast:{control}", revocation.to_string().as_bytes());
    assert_eq!(socket.closed().await.0, 4401);
}

#[tokio::test]
async fn junk_in_the_probe_channel_does_not_change_readiness() {
    let redis = RedisServer::start();
    let (gateway, mut socket) = listening(&redis).await;
    let channels: Vec<String> = redis.run(&[b"PUBSUB", b"CHANNELS", b"crewcast:probe:*"]);
    assert_eq!(channels.len(), 1, "{channels:?}");
    for message in [&b"\xff\xff"[..], b"", b"0123456789abcdef0123456789abcdef", &[b'x'; 100_000]] {
        redis.publish(&channels[0], message);
    }
    redis.publish("graph:abc", GOOD.as_bytes());
    assert_eq!(socket.text().await, GOOD);
    assert!(gateway.is_ready().await);
}

#[tokio::test]
async fn junk_from_a_client_is_answered_with_an_error_code() {
    let redis = RedisServer::start();
    let (gateway, mut other) = listening(&redis).await;
    let token = token(json!({ "crews": ["abc"] }));
    let path = gateway.ws("/ws/graph/abc");

    let mut talker = connect(&path, Some(&token)).await;
    for text in [
        "hello",
        "{}",
        "[]",
        "null",
        r#"{"type":"subscribe"}"#,
        r#"{"action":"auth"}"#,
        r#"{"type":7}"#,
        r#"{"action":"auth","token":7}"#,
        "",
    ] {
        talker.send(text).await;
        let answer = talker.json().await;
        assert_eq!(
            (&answer["type"], &answer["code"], &answer["source"]),
            (&json!("error"), &json!("unknown_action"), &json!("gateway")),
            "{text}"
        );
    }
    talker.send(r#"{"type":"pong"}"#).await;
    talker.send("the tenth").await;
    assert_eq!(talker.closed().await.0, 4400);

    let mut binary = connect(&path, Some(&token)).await;
    binary.inner.send(Message::binary(vec![0xFF, 0xFE])).await.unwrap();
    assert_eq!(binary.closed().await.0, 1003);

    let mut large = connect(&path, Some(&token)).await;
    large.send(&"x".repeat(4097)).await;
    assert_eq!(large.closed().await.0, 1009);

    redis.publish("graph:abc", GOOD.as_bytes());
    assert_eq!(other.text().await, GOOD);
}

/// The head of a valid handshake.
fn handshake(token: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: token, {token}\r\n\r\n"
    )
}

/// A socket without a WebSocket library, so that the test controls every byte.
async fn raw_socket(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(&gateway.public).await.unwrap();
    let head = handshake(&token(json!({ "crews": ["abc"] })), "/ws/graph/abc");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// Writes, then reads until the gateway closes the connection.
async fn answer_to(address: &str, bytes: &[u8], then_end: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The gateway may answer and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    if then_end {
        let _ = stream.shutdown().await;
    }
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
    answer
}

#[tokio::test]
async fn broken_frames_close_the_socket_with_their_own_codes() {
    let redis = RedisServer::start();
    let (gateway, mut other) = listening(&redis).await;
    let mask = [0u8; 4];
    let masked = |start: [u8; 2], payload: &[u8]| [&start[..], &mask, payload].concat();
    let endless = [&[0x81, 0xff][..], &u64::MAX.to_be_bytes(), &mask].concat();
    let cases: [(&str, Vec<u8>, u16); 12] = [
        ("not masked", vec![0x81, 0x02, b'h', b'i'], 1002),
        ("reserved bit", masked([0xc1, 0x82], b"hi"), 1002),
        ("unknown opcode", masked([0x83, 0x80], b""), 1002),
        ("unknown control opcode", masked([0x8b, 0x80], b""), 1002),
        ("continuation of nothing", masked([0x80, 0x82], b"hi"), 1002),
        ("fragmented ping", masked([0x09, 0x80], b""), 1002),
        ("long ping", [&[0x89, 0xfe, 0, 126][..], &mask, &[0; 126]].concat(), 1002),
        ("close of one byte", masked([0x88, 0x81], b"x"), 1002),
        ("close with a reserved code", masked([0x88, 0x82], &1005u16.to_be_bytes()), 1002),
        ("binary", masked([0x82, 0x82], b"\xc3\x28"), 1003),
        ("not UTF-8", masked([0x81, 0x82], b"\xc3\x28"), 1007),
        ("2^64 bytes announced", endless, 1009),
    ];
    for (what, bytes, code) in cases {
        let mut stream = raw_socket(&gateway).await;
        stream.write_all(&bytes).await.unwrap();
        let mut head = [0; 4];
        timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().unwrap();
        assert_eq!(head[0], 0x88, "{what}: a close frame");
        assert_eq!(u16::from_be_bytes([head[2], head[3]]), code, "{what}");
    }
    redis.publish("graph:abc", GOOD.as_bytes());
    assert_eq!(other.text().await, GOOD);
}

#[tokio::test]
async fn junk_handshakes_are_refused_and_counted() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[("CREWCAST_LIMITS__HANDSHAKE", "300ms")]).await;
    let token = token(json!({ "crews": ["abc"] }));
    let good = handshake(&token, "/ws/graph/abc");
    let cases = [
        ("not HTTP", "hello\r\n\r\n".to_owned(), "400", "malformed"),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".to_owned(), "400", "malformed"),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "", "malformed"),
        ("a header without colon", good.replace("Host: x", "Host x"), "400", "malformed"),
        ("a head without end", format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000)), "431", "malformed"),
        ("nothing for too long", String::new(), "", "timeout"),
        ("half a head for too long", good[..60].to_owned(), "", "timeout"),
        ("POST", good.replacen("GET", "POST", 1), "405", ""),
        ("no upgrade", good.replace("Upgrade: websocket\r\n", ""), "426", "not_an_upgrade"),
        ("version 8", good.replace("Version: 13", "Version: 8"), "426", "version"),
        ("no key", good.replace("Sec-WebSocket-Key", "X-Key"), "400", "key"),
        ("a short key", good.replace("AAAAAA==", "=="), "400", "key"),
    ];
    for (what, head, status, reason) in cases {
        let before = gateway.metric("crewcast_handshakes_refused_total", reason).await;
        let answer = answer_to(&gateway.public, head.as_bytes(), false);
        let answer = tokio::select! {
            answer = answer => String::from_utf8_lossy(&answer).into_owned(),
            () = tokio::time::sleep(PATIENCE) => panic!("{what}: no end"),
        };
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer}");
        assert!(status.is_empty() || !answer.is_empty(), "{what}: no answer");
        if !reason.is_empty() {
            let label = format!("reason=\"{reason}\"");
            eventually(&format!("{what} is counted as {reason}"), || async {
                gateway.metric("crewcast_handshakes_refused_total", &label).await > before
            })
            .await;
        }
    }
    listener(&gateway, &redis).await;
}

/// Random bytes, or a valid input with some of its bytes changed, removed or repeated.
fn noise(random: &mut Rng, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    match random.u8(..4) {
        0 => bytes = (0..random.usize(..600)).map(|_| random.u8(..)).collect(),
        1 => bytes.truncate(random.usize(..=good.len())),
        2 => bytes.extend_from_within(random.usize(..good.len())..),
        _ => {}
    }
    for _ in 0..random.usize(1..4) {
        if !bytes.is_empty() {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
    }
    bytes
}

#[tokio::test]
async fn three_hundred_rounds_of_random_bytes() {
    let mut random = Rng::with_seed(seed());
    let redis = RedisServer::start();
    let (mut gateway, mut socket) = listening(&redis).await;
    let mut publisher = redis.connection();
    let claims = token(json!({ "crews": ["abc"] }));
    let good_frame = [&[0x81, 0x8f, 0, 0, 0, 0][..], br#"{"type":"pong"}"#].concat();
    let good_head = handshake(&claims, "/ws/graph/abc?since=0&types=a,b");
    let history = format!(
        "GET /api/v1/channels/graph:abc/events?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {claims}\r\n\r\n"
    );
    let event = br#"{"id":"1-000000aaaaaa","type":"junk","payload":{"a":[1.50,"\u00e9"]}}"#;
    let mut published = 0;
    for round in 0..300 {
        let bytes = noise(&mut random, [good_head.as_bytes(), history.as_bytes()][round % 2]);
        answer_to_junk(&gateway.public, &bytes).await;
        let bytes = noise(&mut random, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        answer_to_junk(&gateway.admin, &bytes).await;
        if round % 4 == 0 {
            let mut open = raw_socket(&gateway).await;
            let _ = open.write_all(&noise(&mut random, &good_frame)).await;
        }
        for channel in ["graph:abc", "crewcast:{control}", "mission:abc"] {
            let message = noise(&mut random, event);
            let () = redis::cmd("PUBLISH").arg(channel).arg(message).query(&mut publisher).unwrap();
            published += 1;
        }
        let good = format!(r#"{{"type":"good","round":{round}}}"#);
        let () = redis::cmd("PUBLISH").arg("graph:abc").arg(&good).query(&mut publisher).unwrap();
        // Random input that is valid by chance is forwarded before it.
        while socket.text().await != good {}
        assert!(gateway.has_exited().is_none());
    }
    let rejected = rejected(&gateway, "").await;
    assert!(rejected > 100.0 && rejected < f64::from(published), "{rejected} of {published}");
    assert!(gateway.metric("crewcast_handshakes_refused_total", "").await > 30.0);
    assert!(!gateway.log().iter().any(|line| line.contains("panicked")), "a task panicked");
    assert!(gateway.is_ready().await);
}

/// Writes junk, sends a close frame, and waits for the answer.
async fn answer_to_junk(address: &str, bytes: &[u8]) {
    answer_to(address, bytes, true).await;
}
