//! Categories 1 to 5: framing, pings, reserved bits, opcodes, fragments.

use super::{
    Case,
    Ending::{Clean, Closed},
    See, Seen, Send, case, chopped, run, testee,
    wire::{BINARY, CLOSE, FIN, PING, PONG, TEXT, frame, message, padded, ping, text},
};

fn pong(payload: &[u8]) -> Seen {
    Seen::Pong(payload.to_vec())
}

fn echo(payload: &str) -> Seen {
    Seen::Echo(payload.to_owned())
}

const HELLO: &str = "Hello, world!";

/// The text message that precedes the offence in many cases.
fn hello() -> Vec<u8> {
    text(&message(HELLO))
}

/// 1.1: sizes at which the header changes. The empty message of 1.1.1 is no JSON, and is answered with that.
fn texts() -> Vec<Case> {
    let sizes = [(2, 125), (3, 126), (4, 127), (5, 128), (6, 65_535), (7, 65_536)];
    let sized = sizes.map(|(n, length)| case(format!("1.1.{n}"), text(&padded("*", length)), [echo("*")], Clean));
    let chopped = chopped("1.1.8", text(&padded("*", 65_536)), 997, [echo("*")], Clean);
    let empty = case("1.1.1", text(b""), [Seen::Answer("bad_json".to_owned())], Clean);
    std::iter::once(empty).chain(sized).chain([chopped]).collect()
}

/// 1.2: the gateway takes text in binary frames, answers in text frames, and closes with 1003 on what is no text.
fn binaries() -> Vec<Case> {
    let sizes = [(2, 125), (3, 126), (4, 127), (5, 128), (6, 65_535), (7, 65_536)];
    let sized = sizes.into_iter().flat_map(|(n, length)| {
        let (text, junk) = (frame(FIN | BINARY, &padded("*", length)), frame(FIN | BINARY, &vec![0xFE; length]));
        [case(format!("1.2.{n}"), text, [echo("*")], Clean), case(format!("1.2.{n}"), junk, [], Closed(1003))]
    });
    let chopped = chopped("1.2.8", frame(FIN | BINARY, &padded("*", 65_536)), 997, [echo("*")], Clean);
    let empty = case("1.2.1", frame(FIN | BINARY, b""), [Seen::Answer("bad_json".to_owned())], Clean);
    std::iter::once(empty).chain(sized).chain([chopped]).collect()
}

fn pings() -> Vec<Case> {
    let (bytes, most) = (b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", [0xFE_u8; 125]);
    let unsolicited = frame(FIN | PONG, b"unsolicited pong payload");
    let ten: Vec<String> = (0..10).map(|n| format!("payload-{n}")).collect();
    let pings = ten.iter().flat_map(|payload| ping(payload.as_bytes())).collect::<Vec<u8>>();
    let pongs = || ten.iter().map(|payload| pong(payload.as_bytes()));
    vec![
        case("2.1", ping(b""), [pong(b"")], Clean),
        case("2.2", ping(HELLO.as_bytes()), [pong(HELLO.as_bytes())], Clean),
        case("2.3", ping(bytes), [pong(bytes)], Clean),
        case("2.4", ping(&most), [pong(&most)], Clean),
        case("2.5", ping(&[0xFE; 126]), [], Closed(1002)),
        chopped("2.6", ping(&most), 1, [pong(&most)], Clean),
        case("2.7", frame(FIN | PONG, b""), [], Clean),
        case("2.8", unsolicited.clone(), [], Clean),
        case("2.9", [unsolicited, ping(b"ping payload")].concat(), [pong(b"ping payload")], Clean),
        case("2.10", pings.clone(), pongs(), Clean),
        chopped("2.11", pings, 1, pongs(), Clean),
    ]
}

/// A valid text, a frame that breaks a rule, and a ping that is not answered any more.
fn offence(number: &str, first: u8, payload: &[u8], pieces: usize) -> Case {
    let sent = [hello(), frame(first, payload), ping(b"")].concat();
    chopped(number, sent, pieces, [echo(HELLO)], Closed(1002))
}

fn reserved_bits() -> Vec<Case> {
    let payload = message(HELLO);
    vec![
        case("3.1", frame(FIN | 0x10 | TEXT, &payload), [], Closed(1002)),
        offence("3.2", FIN | 0x20 | TEXT, &payload, 0),
        offence("3.3", FIN | 0x30 | TEXT, &payload, 0),
        offence("3.4", FIN | 0x40 | TEXT, &payload, 1),
        case("3.5", frame(FIN | 0x50 | BINARY, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), [], Closed(1002)),
        case("3.6", frame(FIN | 0x60 | BINARY, &payload), [], Closed(1002)),
        case("3.7", frame(FIN | 0x70 | CLOSE, b""), [], Closed(1002)),
    ]
}

fn opcodes() -> Vec<Case> {
    let (reserved, payload) = (b"reserved opcode payload", message(HELLO));
    vec![
        case("4.1.1", frame(FIN | 3, b""), [], Closed(1002)),
        case("4.1.2", frame(FIN | 4, reserved), [], Closed(1002)),
        offence("4.1.3", FIN | 5, b"", 0),
        offence("4.1.4", FIN | 6, &payload, 0),
        offence("4.1.5", FIN | 7, &payload, 1),
        case("4.2.1", frame(FIN | 11, b""), [], Closed(1002)),
        case("4.2.2", frame(FIN | 12, reserved), [], Closed(1002)),
        offence("4.2.3", FIN | 13, b"", 0),
        offence("4.2.4", FIN | 14, &payload, 0),
        offence("4.2.5", FIN | 15, &payload, 1),
    ]
}

/// The suite sends some cases twice or three times: in one write, frame by frame, octet by octet.
fn in_pieces(numbers: &[&str], frames: &[Vec<u8>], seen: fn() -> Vec<Seen>, ending: super::Ending) -> Vec<Case> {
    let ways = [
        vec![Send(frames.concat(), 0)],
        frames.iter().map(|frame| Send(frame.clone(), 0)).collect(),
        vec![Send(frames.concat(), 1)],
    ];
    let cases = numbers.iter().zip(ways).map(|(number, mut steps)| {
        steps.extend(seen().into_iter().map(See));
        Case { number: (*number).to_owned(), steps, ending }
    });
    cases.collect()
}

fn fragmentation() -> Vec<Case> {
    let payload = message("fragment1fragment2");
    let (one, two) = payload.split_at(20);
    let (start, end) = (frame(TEXT, one), frame(FIN, two));
    let stray = |fin| frame(fin, b"non-continuation payload");
    let split = |opcode| [frame(opcode, b"fragment1"), frame(FIN, b"fragment2")].concat();
    let ping_inside = [start.clone(), ping(b"ping payload"), end.clone()];
    let in_between = [frame(TEXT, b"fragment2"), frame(FIN, b"fragment3")].concat();
    let mut cases = vec![case("5.1", split(PING), [], Closed(1002)), case("5.2", split(PONG), [], Closed(1002))];
    let echoed = || vec![echo("fragment1fragment2")];
    cases.extend(in_pieces(&["5.3", "5.4", "5.5"], &[start.clone(), end.clone()], echoed, Clean));
    let both = || vec![pong(b"ping payload"), echo("fragment1fragment2")];
    cases.extend(in_pieces(&["5.6", "5.7", "5.8"], &ping_inside, both, Clean));
    cases.extend(in_pieces(&["5.9", "5.10", "5.11"], &[stray(FIN), hello()], Vec::new, Closed(1002)));
    cases.extend(in_pieces(&["5.12", "5.13", "5.14"], &[stray(0), hello()], Vec::new, Closed(1002)));
    let after = [start, end, frame(0, b"fragment3"), text(b"fragment4")].concat();
    cases.push(case("5.15", after, echoed(), Closed(1002)));
    let open = [frame(0, b"fragment1"), in_between.clone()].concat().repeat(2);
    cases.push(case("5.16", open, [], Closed(1002)));
    let closed = [frame(FIN, b"fragment1"), in_between].concat().repeat(2);
    cases.push(case("5.17", closed, [], Closed(1002)));
    let nested = [frame(TEXT, b"fragment1"), text(b"fragment2")].concat();
    cases.push(case("5.18", nested, [], Closed(1002)));
    cases.extend([pings_between_five("5.19", 0), pings_between_five("5.20", 1)]);
    cases
}

/// Two pings inside a message of five fragments. The first is answered before the rest is sent.
fn pings_between_five(number: &str, pieces: usize) -> Case {
    let payload = message("fragment1fragment2fragment3");
    let parts: Vec<&[u8]> = payload.chunks(payload.len().div_ceil(5)).collect();
    let [a, b, c, d, e] = parts[..] else { panic!("five fragments") };
    let first = [frame(TEXT, a), frame(0, b), ping(b"pongme 1!")].concat();
    let second = [frame(0, c), frame(0, d), ping(b"pongme 2!"), frame(FIN, e)].concat();
    let steps = vec![
        Send(first, pieces),
        See(pong(b"pongme 1!")),
        Send(second, pieces),
        See(pong(b"pongme 2!")),
        See(echo("fragment1fragment2fragment3")),
    ];
    Case { number: number.to_owned(), steps, ending: Clean }
}

#[tokio::test]
async fn cases_1_1_to_5_20_framing_pings_reserved_bits_opcodes_fragments() {
    let gateway = testee().await;
    let cases: Vec<Case> =
        [texts(), binaries(), pings(), reserved_bits(), opcodes(), fragmentation()].into_iter().flatten().collect();
    assert_eq!(cases.len(), 8 + 14 + 11 + 7 + 10 + 20);
    run(&gateway, cases).await;
}
