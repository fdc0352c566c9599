//! The head of a handshake: each line of the input is one header, `extensions` by default.
#![no_main]

use crewcast_websocket::{check, deflate};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use libfuzzer_sys::fuzz_target;

fn headers(input: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(20) {
        let (name, value) = match line.split_first() {
            Some((b'@', value)) => (header::UPGRADE, value),
            Some((b'&', value)) => (header::CONNECTION, value),
            Some((b'#', value)) => (header::SEC_WEBSOCKET_VERSION, value),
            Some((b'$', value)) => (header::SEC_WEBSOCKET_KEY, value),
            _ => (header::SEC_WEBSOCKET_EXTENSIONS, line),
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    headers
}

fn only(headers: &HeaderMap, name: HeaderName) -> &HeaderValue {
    assert_eq!(headers.get_all(&name).iter().count(), 1, "{name}");
    &headers[name]
}

fuzz_target!(|input: &[u8]| {
    let headers = headers(input);
    let answer = deflate::agree(&headers);
    if let Some(answer) = &answer {
        let text = answer.header.to_str().expect("printable");
        let offered = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
        let offered: String = offered.filter_map(|value| value.to_str().ok()).collect();
        // What the client has not offered cannot be agreed on (RFC 7692 section 7.1).
        for parameter in ["permessage-deflate", "server_no_context_takeover", "server_max_window_bits"] {
            assert!(!text.contains(parameter) || offered.contains(parameter), "{text}");
        }
        let again = HeaderMap::from_iter([(header::SEC_WEBSOCKET_EXTENSIONS, answer.header.clone())]);
        assert_eq!(deflate::agree(&again).as_ref(), Some(answer), "the answer means the same to both sides");
        assert!(answer.agreed.takes(256), "the smallest window");
        assert_eq!(answer.agreed.span() == 0, text.contains("server_no_context_takeover"));
    }
    if let Ok(handshake) = check(&headers, &Method::GET) {
        only(&headers, header::SEC_WEBSOCKET_KEY);
        assert_eq!(only(&headers, header::SEC_WEBSOCKET_VERSION).as_bytes().trim_ascii(), b"13");
        let response = handshake.accept(false, answer.map(|answer| answer.header));
        assert_eq!(response.status(), 101);
        assert_eq!(only(response.headers(), header::SEC_WEBSOCKET_ACCEPT).len(), 28, "20 bytes in base64");
        assert!(!response.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL));
    }
    assert!(check(&headers, &Method::POST).is_err());
});
