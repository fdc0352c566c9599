//! Compression on sockets: permessage-deflate, RFC 7692.

use serde_json::json;

use crate::support::{
    deflating::{DEFLATED_TEXT, Deflating, TEXT, deflated},
    eventually,
    gateway::{self, Gateway},
    publish::logged,
    socket::connect,
    token::token,
};

const OFFER: &str = "permessage-deflate; client_max_window_bits";
const AGREED: &str = "permessage-deflate; client_no_context_takeover";
const GRAPH: &str = "/ws/graph/abc?since=0";

/// The first byte and the payload of each frame.
type Frames<'a> = &'a [(u8, &'a [u8])];

fn reader() -> String {
    token(json!({ "crews": ["abc"] }))
}

async fn deflating(gateway: &Gateway) -> Deflating {
    let socket = Deflating::connect(gateway, GRAPH, &reader(), OFFER).await;
    assert_eq!(socket.agreed.as_deref(), Some(AGREED));
    socket
}

/// Events below the threshold, typical ones, and one so large that a separate thread compresses it.
fn events() -> Vec<String> {
    let call = |n: usize, output: &str| {
        format!(
            concat!(
                r#"{{"type":"tool_end","crew_id":"abc","run_id":"r1","agent_id":"coder","#,
                r#""call_id":"c{n}","tool":"run_tests","output":"{output}"}}"#
            ),
            n = n,
            output = output
        )
    };
    let line = |n: usize| format!("test tests::case_{n} ... ok in {} ms, ", n * 7919 % 1000);
    let lines = |from: usize, count: usize| (from..from + count).map(line).collect::<String>();
    let mut events = vec![r#"{"type":"beat"}"#.to_owned(), call(0, &lines(0, 8000))];
    events.extend((1..30).map(|n| call(n, &lines(n, n % 20))));
    events.push(r#"{"type":"done"}"#.to_owned());
    events
}

#[tokio::test]
async fn an_event_is_compressed_once_and_reaches_every_reader_byte_for_byte() {
    let gateway = gateway::memory(&[]).await;
    let token = reader();
    logged(&gateway, "graph:abc", r#"{"type":"first"}"#).await;
    let (mut plain, mut compressed) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        plain.push(connect(&gateway.ws(GRAPH), Some(&token)).await);
        compressed.push(deflating(&gateway).await);
    }
    // A reader that has the first event reads the next ones from the ring.
    for (plain, compressed) in plain.iter_mut().zip(&mut compressed) {
        assert!(plain.response.headers().get("sec-websocket-extensions").is_none(), "compression was not offered");
        assert_eq!(plain.event().await["type"], "first");
        assert!(compressed.event().await.contains("first"));
    }
    assert_eq!(gateway.metric("crewcast_compressions_total", "").await, 0.0, "the event is too small");

    let events = events();
    let mut expected = Vec::new();
    for event in &events {
        let id = logged(&gateway, "graph:abc", event).await;
        expected.push(event.replacen('{', &format!(r#"{{"id":"{id}","#), 1));
    }
    for socket in &mut plain {
        for expected in &expected {
            let mut text = socket.text().await;
            while text.contains(r#""source":"gateway""#) {
                text = socket.text().await;
            }
            assert_eq!(&text, expected);
        }
    }
    let (mut of_one, mut frames) = (Vec::new(), Vec::new());
    for socket in &mut compressed {
        for expected in &expected {
            let mut frame = socket.frame().await;
            while frame.text().contains(r#""source":"gateway""#) {
                frame = socket.frame().await;
            }
            assert_eq!(&frame.text(), expected);
            assert_eq!(frame.first, if expected.len() < 128 { TEXT } else { DEFLATED_TEXT }, "{expected:.40}");
            frames.push(frame.payload);
        }
        let of_this = std::mem::take(&mut frames);
        if of_one.is_empty() {
            of_one = of_this;
        } else {
            assert!(of_one == of_this, "all get the same bytes");
        }
    }
    let large = expected.iter().filter(|event| event.len() >= 128).count();
    assert_eq!(gateway.metric("crewcast_compressions_total", "").await, large as f64);
    let bytes = |encoding: &'static str| gateway.metric("crewcast_delivery_bytes_total", encoding);
    let (plain, deflated) = (bytes(r#"encoding="plain""#).await, bytes(r#"encoding="deflate""#).await);
    assert!(deflated > 0.0 && deflated < plain / 3.0, "{deflated} of {plain}");
}

/// Typical tool events of a crew.
fn typical(n: usize) -> String {
    let (call, tool) = (format!("c{:04x}", n * 40_503 % 65_536), ["search", "bash", "edit"][n % 3]);
    let head = format!(r#""crew_id":"abc","run_id":"r1","agent_id":"coder","tool":"{tool}","call_id":"{call}""#);
    let time = format!("2026-01-02T03:{:02}:{:02}.{:03}Z", n % 60, n * 7 % 60, n * 389 % 1000);
    match n % 2 {
        0 => format!(r#"{{"type":"tool_start","params":{{"q":"case {n}"}},"timestamp":"{time}",{head}}}"#),
        _ => format!(
            r#"{{"type":"tool_end","duration_s":1.{n},"exit_code":0,"status":"completed","timestamp":"{time}",{head}}}"#
        ),
    }
}

#[tokio::test]
async fn typical_events_shrink_on_the_wire_even_for_clients_without_a_window() {
    let gateway = gateway::memory(&[]).await;
    let forgets = "permessage-deflate; server_no_context_takeover";
    let mut forgetful = Deflating::connect(&gateway, GRAPH, &reader(), forgets).await;
    let forgets = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(forgetful.agreed.as_deref(), Some(forgets));
    let mut sockets = [deflating(&gateway).await, deflating(&gateway).await];
    // A reader that has the first event reads the next ones from the ring.
    let first = logged(&gateway, "graph:abc", r#"{"type":"first"}"#).await;
    for socket in sockets.iter_mut().chain([&mut forgetful]) {
        assert!(socket.event().await.contains(&first.to_string()));
    }
    let (mut bytes, mut plain_bytes, mut bytes_alone) = (0, 0, 0);
    for n in 0..20 {
        let event = typical(n);
        let id = logged(&gateway, "graph:abc", &event).await;
        let expected = event.replacen('{', &format!(r#"{{"id":"{id}","#), 1);
        for socket in &mut sockets {
            let frame = socket.frame().await;
            assert_eq!(frame.text(), expected);
            bytes += frame.length();
            plain_bytes += frame.plain_length();
        }
        let frame = forgetful.frame().await;
        assert_eq!(frame.text(), expected);
        bytes_alone += frame.length();
    }
    assert!(bytes * 5 <= plain_bytes * 2, "{bytes} of {plain_bytes}");
    assert!(bytes_alone * 2 > bytes && bytes_alone < plain_bytes / 2, "{bytes_alone} of {}", plain_bytes / 2);
    let compressions = gateway.metric("crewcast_compressions_total", "").await;
    assert!(compressions <= 40.0, "{compressions}");
}

#[tokio::test]
async fn compressed_client_messages_are_understood() {
    let gateway = gateway::memory(&[]).await;
    let mut socket = deflating(&gateway).await;
    let message = deflated(format!(r#"{{"nothing":"{}"}}"#, "that anybody knows ".repeat(100)).as_bytes());
    socket.send(DEFLATED_TEXT, &message).await;
    let mut answer = socket.frame().await.text();
    while !answer.contains("unknown_action") {
        answer = socket.frame().await.text();
    }
    // The same in fragments, the last one empty.
    socket.send(0x41, &message[..10]).await;
    socket.send(0x00, &message[10..]).await;
    socket.send(0x80, b"").await;
    let answer = socket.frame().await.text();
    assert!(answer.contains("unknown_action"), "{answer}");
}

#[tokio::test]
async fn invalid_compressed_messages_close_with_their_own_codes() {
    let gateway = gateway::memory(&[("CREWCAST_LIMITS__MESSAGE", "64KiB")]).await;
    let large = deflated(&vec![b' '; (64 << 10) + 1]);
    let good = deflated(b"{}");
    let cases: [(&str, Frames<'_>, u16); 6] = [
        ("no deflate data", &[(DEFLATED_TEXT, b"plain text")], 1007),
        ("not UTF-8", &[(DEFLATED_TEXT, &deflated(b"\xC3\x28"))], 1007),
        ("larger than a message may be", &[(DEFLATED_TEXT, &large)], 1009),
        ("a compressed ping", &[(0xC9, b"x")], 1002),
        ("the bit on a later fragment", &[(0x41, &good), (0xC0, b"")], 1002),
        ("binary", &[(0xC2, &deflated(b"\xFF"))], 1003),
    ];
    for (name, frames, code) in cases {
        let mut socket = deflating(&gateway).await;
        for (first, payload) in frames {
            socket.send(*first, payload).await;
        }
        assert_eq!(socket.closed().await, code, "{name}");
    }
    let mut plain = Deflating::connect(&gateway, GRAPH, &reader(), "x-other").await;
    assert_eq!(plain.agreed, None);
    plain.send(DEFLATED_TEXT, &good).await;
    assert_eq!(plain.closed().await, 1002, "compression was not agreed");
}

#[tokio::test]
async fn decompression_bombs_cost_no_memory() {
    let gateway = gateway::memory(&[]).await;
    // A gigabyte deflates to a megabyte, which alone is over `limits.message`.
    let bomb = deflated(&vec![b' '; 512 << 20]);
    assert!(bomb.len() < 1 << 20);
    let before = gateway.resident();
    for _ in 0..20 {
        let mut socket = deflating(&gateway).await;
        socket.send(DEFLATED_TEXT, &bomb).await;
        assert_eq!(socket.closed().await, 1009);
    }
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{} KiB more", grown >> 10);
}

#[tokio::test]
async fn compression_is_agreed_only_when_enabled_and_the_socket_is_accepted() {
    let gateway = gateway::memory(&[]).await;
    let mut refused = Deflating::connect(&gateway, GRAPH, "garbage", OFFER).await;
    assert_eq!(refused.agreed, None, "a refused socket only gets a close frame");
    assert_eq!(refused.closed().await, 4401);
    let declined = Deflating::connect(&gateway, GRAPH, &reader(), "permessage-deflate; unknown=1").await;
    assert_eq!(declined.agreed, None);

    let off = gateway::memory(&[("CREWCAST_COMPRESSION__ENABLED", "false")]).await;
    let mut socket = Deflating::connect(&off, GRAPH, &reader(), OFFER).await;
    assert_eq!(socket.agreed, None);
    logged(&off, "graph:abc", &events()[1]).await;
    assert_eq!(socket.frame().await.first, TEXT);
}

#[tokio::test]
async fn a_client_with_a_small_window_gets_what_fits_it_compressed() {
    let gateway = gateway::memory(&[]).await;
    let offer = "permessage-deflate; server_max_window_bits=9";
    let mut socket = Deflating::connect(&gateway, GRAPH, &reader(), offer).await;
    assert_eq!(socket.agreed, Some(format!("{AGREED}; server_max_window_bits=9")));
    for (length, first) in [(300, DEFLATED_TEXT), (600, TEXT)] {
        let event = format!(r#"{{"type":"x","text":"{}"}}"#, "a".repeat(length));
        logged(&gateway, "graph:abc", &event).await;
        let frame = socket.frame().await;
        assert_eq!(frame.first, first);
        assert!(frame.text().ends_with(&event[1..]));
    }
}

#[tokio::test]
async fn every_dialect_compresses_its_own_form() {
    let gateway = gateway::memory(&[]).await;
    let claims = token(json!({ "crews": ["abc"], "org": "acme", "channels": ["hub:acme"], "publish": ["hub:*"] }));
    let mut hub = Deflating::connect(&gateway, "/ws", &claims, OFFER).await;
    // The socket reports the connection before its channel is open.
    let sent = format!(r#"{{"type":"agent_created","data":{{"text":"{}"}}}}"#, "abc ".repeat(100));
    eventually("the hub socket receives events", || async {
        let body = format!(r#"{{"channel":"hub:acme","event":{sent}}}"#);
        let request = gateway::client().post(gateway.url("/api/v1/publish")).bearer_auth(&claims);
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        gateway.metric("crewcast_delivery_bytes_total", r#"dialect="hub",encoding="deflate""#).await > 0.0
    })
    .await;
    let mut frame = hub.frame().await;
    while frame.first != DEFLATED_TEXT {
        frame = hub.frame().await;
    }
    assert!(frame.text().contains("message_id"), "in its envelope");
}
