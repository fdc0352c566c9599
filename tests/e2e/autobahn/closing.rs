//! Category 7: close frames.

use super::{
    Case,
    Ending::{Clean, Closed},
    Seen, case, run, testee,
    wire::{CLOSE, FIN, TEXT, close, frame, message, padded, ping, text},
};

const HELLO: &str = "Hello World!";

fn hello() -> Vec<u8> {
    text(&message(HELLO))
}

fn echo(payload: &str) -> Seen {
    Seen::Echo(payload.to_owned())
}

/// 7.1: nothing behind a close frame is read.
fn behaviour() -> Vec<Case> {
    let payload = message("fragment1fragment2");
    let (one, two) = payload.split_at(20);
    let large = || text(&padded("BAsd7&jh23", 256 << 10));
    let all = [large(), large(), hello(), close(1000), ping(b"")].concat();
    vec![
        case("7.1.1", hello(), [echo(HELLO)], Clean),
        case("7.1.2", [close(1000), frame(FIN | CLOSE, b"")].concat(), [], Closed(1000)),
        case("7.1.3", [close(1000), ping(b"")].concat(), [], Closed(1000)),
        case("7.1.4", [close(1000), hello()].concat(), [], Closed(1000)),
        case("7.1.5", [frame(TEXT, one), close(1000), frame(FIN, two)].concat(), [], Closed(1000)),
        case("7.1.6", all, [echo("BAsd7&jh23"), echo("BAsd7&jh23"), echo(HELLO)], Closed(1000)),
    ]
}

fn with_reason(reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&1000u16.to_be_bytes()[..], reason].concat())
}

/// 7.3 and 7.5: the payload's length, and a reason that is not UTF-8.
fn payloads() -> Vec<Case> {
    let broken = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";
    vec![
        case("7.3.1", frame(FIN | CLOSE, b""), [], Closed(1000)),
        case("7.3.2", frame(FIN | CLOSE, b"a"), [], Closed(1002)),
        case("7.3.3", close(1000), [], Closed(1000)),
        case("7.3.4", with_reason(HELLO.as_bytes()), [], Closed(1000)),
        case("7.3.5", with_reason(&[b'*'; 123]), [], Closed(1000)),
        case("7.3.6", with_reason(&[b'*'; 124]), [], Closed(1002)),
        case("7.5.1", with_reason(broken), [], Closed(1007)),
    ]
}

/// 7.7, 7.9 and 7.13: every valid code is answered with 1000; the others are protocol errors.
fn codes() -> Vec<Case> {
    let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    let invalid = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
    let undefined = [5000, 65_535];
    let numbered = |group: &'static str, codes: Vec<u16>, answer: u16| {
        (1..).zip(codes).map(move |(n, code)| case(format!("{group}.{n}"), close(code), [], Closed(answer)))
    };
    numbered("7.7", valid.to_vec(), 1000)
        .chain(numbered("7.9", invalid.to_vec(), 1002))
        .chain(numbered("7.13", undefined.to_vec(), 1002))
        .collect()
}

#[tokio::test]
async fn cases_7_1_1_to_7_13_2_close_frames() {
    let gateway = testee().await;
    let cases: Vec<Case> = [behaviour(), payloads(), codes()].into_iter().flatten().collect();
    assert_eq!(cases.len(), 6 + 7 + 13 + 9 + 2);
    run(&gateway, cases).await;
}
