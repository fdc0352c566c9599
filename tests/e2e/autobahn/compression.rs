//! Categories 12 and 13: permessage-deflate with different payloads and parameters.
//!
//! A case publishes its payload compressed, and receives it as an event. The suite sends a thousand messages per case;
//! here it is [`MESSAGES`], since each of the 216 cases runs in the sizes and fragments of the suite.

use fastrand::Rng;
use serde_json::json;

use super::testee;
use crate::support::{
    deflating::{DEFLATED_TEXT, Deflating, TEXT, deflated},
    gateway::Gateway,
    token::token,
};

const MESSAGES: usize = 2;

/// Bytes of the payload, and of its fragments; 0: in one frame.
const SIZES: [(usize, usize); 18] = [
    (16, 0),
    (64, 0),
    (256, 0),
    (1024, 0),
    (4096, 0),
    (8192, 0),
    (16_384, 0),
    (32_768, 0),
    (65_536, 0),
    (131_072, 0),
    (8192, 256),
    (16_384, 256),
    (32_768, 256),
    (65_536, 256),
    (131_072, 256),
    (131_072, 1024),
    (131_072, 4096),
    (131_072, 32_768),
];

const DEFAULT: &str = "permessage-deflate; client_no_context_takeover; client_max_window_bits";

async fn socket(gateway: &Gateway, number: &str, offer: &str, agreed: &str) -> Deflating {
    let token = token(json!({ "streams": ["w"], "publish": ["stream:w"] }));
    let mut socket = Deflating::connect(gateway, "/ws/stream", &token, offer).await;
    assert_eq!(socket.agreed.as_deref(), Some(agreed), "case {number}");
    socket.send(TEXT, br#"{"action":"subscribe","stream_id":"w"}"#).await;
    let answer = socket.frame().await.text();
    assert!(answer.starts_with(r#"{"type":"subscribed""#), "case {number}: {answer}");
    socket
}

async fn send_compressed(socket: &mut Deflating, message: &str, fragment: usize) {
    let compressed = deflated(message.as_bytes());
    let size = if fragment == 0 { compressed.len() } else { fragment };
    let last = compressed.len().div_ceil(size) - 1;
    for (n, part) in compressed.chunks(size).enumerate() {
        let start = if n == 0 { DEFLATED_TEXT & 0x7F } else { 0 };
        let fin = if n == last { 0x80 } else { 0 };
        socket.send(fin | start, part).await;
    }
}

/// The next event, and how many bytes it had if it was compressed.
async fn event(socket: &mut Deflating) -> (String, Option<usize>) {
    loop {
        let frame = socket.frame().await;
        let text = frame.text();
        if text.starts_with(r#"{"type":"event""#) {
            let compressed = (frame.first == DEFLATED_TEXT).then_some(text.len());
            return (text, compressed);
        }
        assert!(text.starts_with(r#"{"type":"published""#), "{text}");
    }
}

/// Runs the 18 cases of a group. `window`: the largest compressed message that the client can take.
async fn run_group(gateway: &Gateway, group: &str, offer: &str, agreed: &str, data: &str, window: usize) {
    for (n, (length, fragment)) in (1..).zip(SIZES) {
        let number = format!("{group}.{n}");
        let mut socket = socket(gateway, &number, offer, agreed).await;
        for message in 0..MESSAGES {
            let start = message * 1000 % (data.len() - length);
            let published = json!({ "type": "x", "data": &data[start..start + length] }).to_string();
            let message = format!(r#"{{"action":"publish","channel":"stream:w","event":{published}}}"#);
            send_compressed(&mut socket, &message, fragment).await;
            let (received, compressed) = event(&mut socket).await;
            assert!(received.contains(&published), "case {number}: {} bytes", received.len());
            assert!(compressed.is_none_or(|bytes| bytes <= window), "case {number}: {compressed:?} exceed the window");
            let must_compress = length >= 1024 && length + 1000 < window && group != "12.2" && group != "12.5";
            assert!(compressed.is_some() || !must_compress, "case {number}: sent as it is");
        }
        socket.send(0x88, &1000u16.to_be_bytes()).await;
        assert_eq!(socket.closed().await, 1000, "case {number}");
    }
}

fn repeated(text: &str) -> String {
    text.repeat((200 << 10) / text.len())
}

fn random() -> String {
    let mut random = Rng::with_seed(7);
    (0..200 << 10).map(|_| random.alphanumeric()).collect()
}

fn json_data() -> String {
    let mut random = Rng::with_seed(1);
    let mut text = String::new();
    while text.len() < 200 << 10 {
        let (id, name) = (random.u32(..), random.alphabetic());
        text += &json!({ "id": id, "name": format!("item {name}"), "tags": ["a", "b"], "active": random.bool() })
            .to_string();
    }
    text
}

/// The picture, the book and the PDF of the suite are binary messages, which the gateway does not have. In their place
/// stand texts that compress as they do.
#[tokio::test]
async fn cases_12_1_1_to_12_5_18_different_payloads() {
    let gateway = testee().await;
    let agreed = "permessage-deflate; client_no_context_takeover";
    let html = repeated("<tr><td class=\"name\">Ada</td><td class=\"value\">1.50</td></tr>\n");
    let prose = repeated("Habe nun, ach! Philosophie, Juristerei und Medizin durchaus studiert, mit heissem Bemuehn. ");
    let data = [json_data(), random(), prose, html, random()];
    for (n, data) in (1..).zip(data) {
        run_group(&gateway, &format!("12.{n}"), DEFAULT, agreed, &data, usize::MAX).await;
    }
}

#[tokio::test]
async fn cases_13_1_1_to_13_7_18_different_parameters() {
    let gateway = testee().await;
    let (name, client, data) = ("permessage-deflate", "client_no_context_takeover", json_data());
    let server = "server_no_context_takeover";
    let parameters = [
        (String::new(), format!("{name}; {client}"), usize::MAX),
        (format!("; {server}"), format!("{name}; {server}; {client}"), usize::MAX),
        ("; server_max_window_bits=9".to_owned(), format!("{name}; {client}; server_max_window_bits=9"), 512),
        ("; server_max_window_bits=15".to_owned(), format!("{name}; {client}; server_max_window_bits=15"), usize::MAX),
        (
            format!("; {server}; server_max_window_bits=9"),
            format!("{name}; {server}; {client}; server_max_window_bits=9"),
            512,
        ),
        (
            format!("; {server}; server_max_window_bits=15"),
            format!("{name}; {server}; {client}; server_max_window_bits=15"),
            usize::MAX,
        ),
        (
            format!("; {server}; server_max_window_bits=9, {DEFAULT}; {server}, {DEFAULT}"),
            format!("{name}; {server}; {client}; server_max_window_bits=9"),
            512,
        ),
    ];
    for (n, (asked, agreed, window)) in (1..).zip(parameters) {
        run_group(&gateway, &format!("13.{n}"), &format!("{DEFAULT}{asked}"), &agreed, &data, window).await;
    }
}
