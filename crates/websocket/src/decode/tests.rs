use std::io::Cursor;

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::{self, protocol::Role, protocol::WebSocket};

use super::*;

const LIMIT: usize = 1 << 20;
const FIN: u8 = 0x80;

/// A client's masked frame; `first` is the first byte unchanged.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn text(text: &str) -> Message {
    Message::Text(text.to_owned())
}

/// Decodes pieces one after the other and collects the messages until the end or an error.
fn decode_pieces<'a>(
    decoder: &mut Decoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Message>, ProtocolError> {
    let mut messages = Vec::new();
    for piece in pieces {
        let mut input = piece;
        while let Some(message) = decoder.decode(&mut input)? {
            messages.push(message);
        }
        assert!(input.is_empty(), "a waiting decoder has taken all input");
    }
    Ok(messages)
}

fn decode_all(bytes: &[u8]) -> Result<Vec<Message>, ProtocolError> {
    decode_pieces(&mut Decoder::new(LIMIT), [bytes])
}

/// Three messages that use everything that is allowed, and their meaning.
fn conversation() -> (Vec<u8>, Vec<Message>) {
    let bytes = [
        frame(FIN | opcode::TEXT, "grüße".as_bytes()),
        frame(opcode::TEXT, &"é😀".as_bytes()[..3]),
        frame(FIN | opcode::PING, b"still there?"),
        frame(opcode::CONTINUATION, b""),
        frame(FIN | opcode::PONG, b""),
        frame(FIN | opcode::CONTINUATION, &"é😀".as_bytes()[3..]),
        frame(FIN | opcode::TEXT, &[b'x'; 126]),
        frame(FIN | opcode::TEXT, b""),
        frame(FIN | opcode::CLOSE, &[0x03, 0xE8, b'b', b'y', b'e']),
    ]
    .concat();
    let messages = vec![
        text("grüße"),
        Message::Ping(Bytes::from_static(b"still there?")),
        Message::Pong(Bytes::new()),
        text("é😀"),
        text(&"x".repeat(126)),
        text(""),
        Message::Close(Some(1000)),
    ];
    (bytes, messages)
}

#[test]
fn every_split_decodes_the_same() {
    let (bytes, expected) = conversation();
    assert_eq!(decode_all(&bytes), Ok(expected.clone()));
    assert_eq!(decode_pieces(&mut Decoder::new(LIMIT), bytes.chunks(1)), Ok(expected.clone()));
    for split in 0..=bytes.len() {
        let (one, two) = bytes.split_at(split);
        assert_eq!(decode_pieces(&mut Decoder::new(LIMIT), [one, two]), Ok(expected.clone()), "split at {split}");
    }
}

#[test]
fn every_broken_rule_has_its_close_code() {
    let long = [0; 126];
    let cases: Vec<(&str, Vec<u8>, ProtocolError, u16)> = vec![
        ("RSV1", frame(FIN | 0x40 | opcode::TEXT, b"x"), ProtocolError::ReservedBits, 1002),
        ("RSV2", frame(FIN | 0x20 | opcode::TEXT, b"x"), ProtocolError::ReservedBits, 1002),
        ("RSV3 on a ping", frame(FIN | 0x10 | opcode::PING, b"x"), ProtocolError::ReservedBits, 1002),
        ("opcode 3", frame(FIN | 0x3, b""), ProtocolError::Opcode(3), 1002),
        ("opcode 7", frame(FIN | 0x7, b""), ProtocolError::Opcode(7), 1002),
        ("opcode 11", frame(FIN | 0xB, b""), ProtocolError::Opcode(11), 1002),
        ("opcode 15", frame(FIN | 0xF, b""), ProtocolError::Opcode(15), 1002),
        ("unmasked", vec![FIN | opcode::TEXT, 1, b'x'], ProtocolError::Unmasked, 1002),
        ("continuation of nothing", frame(FIN, b"x"), ProtocolError::Fragment, 1002),
        ("text inside a message", frame(opcode::TEXT, b"x").repeat(2), ProtocolError::Fragment, 1002),
        (
            "continuation after the end",
            [frame(FIN | 1, b"x"), frame(FIN, b"x")].concat(),
            ProtocolError::Fragment,
            1002,
        ),
        ("fragmented ping", frame(opcode::PING, b"x"), ProtocolError::Control, 1002),
        ("long ping", frame(FIN | opcode::PING, &long), ProtocolError::Control, 1002),
        ("long close", frame(FIN | opcode::CLOSE, &long), ProtocolError::Control, 1002),
        ("close of one byte", frame(FIN | opcode::CLOSE, &[3]), ProtocolError::Close, 1002),
        ("close with 1005", frame(FIN | opcode::CLOSE, &1005u16.to_be_bytes()), ProtocolError::Close, 1002),
        ("close with 999", frame(FIN | opcode::CLOSE, &999u16.to_be_bytes()), ProtocolError::Close, 1002),
        ("close with 5000", frame(FIN | opcode::CLOSE, &5000u16.to_be_bytes()), ProtocolError::Close, 1002),
        ("close with a bad reason", frame(FIN | opcode::CLOSE, &[3, 0xE8, 0xFF]), ProtocolError::InvalidText, 1007),
        ("binary", frame(FIN | opcode::BINARY, b"\xFF"), ProtocolError::Binary, 1003),
        ("bad UTF-8", frame(FIN | opcode::TEXT, &[b'a', 0xC3, 0x28]), ProtocolError::InvalidText, 1007),
        ("UTF-8 cut off", frame(FIN | opcode::TEXT, &[0xE2, 0x82]), ProtocolError::InvalidText, 1007),
        ("too big", frame(FIN | opcode::TEXT, &vec![b'x'; LIMIT + 1]), ProtocolError::TooBig(LIMIT), 1009),
    ];
    for (name, bytes, error, code) in cases {
        assert_eq!(decode_all(&bytes), Err(error), "{name}");
        assert_eq!(decode_pieces(&mut Decoder::new(LIMIT), bytes.chunks(1)), Err(error), "{name}, byte by byte");
        assert_eq!(error.close_code().number(), code, "{name}");
    }
}

#[test]
fn a_binary_message_that_holds_text_counts_as_text() {
    for bytes in [
        frame(FIN | opcode::BINARY, "{\"é\":1}".as_bytes()),
        [frame(opcode::BINARY, b"{\"\xC3"), frame(FIN, b"\xA9\":1}")].concat(),
    ] {
        assert_eq!(decode_all(&bytes), Ok(vec![Message::Text("{\"é\":1}".to_owned())]));
    }
}

#[test]
fn input_that_can_never_become_valid_is_refused_before_its_end() {
    let mut decoder = Decoder::new(LIMIT);
    let unfinished = frame(FIN | opcode::TEXT, &[0xFF, b'x', b'x', b'x']);
    assert_eq!(decode_pieces(&mut decoder, [&unfinished[..7]]), Err(ProtocolError::InvalidText));
    let fragment = frame(opcode::TEXT, &[0xFF]);
    assert_eq!(decode_all(&fragment), Err(ProtocolError::InvalidText));
    assert_eq!(decode_all(&[FIN | opcode::TEXT, 1]), Err(ProtocolError::Unmasked), "from two bytes of header");
}

#[test]
fn the_limit_applies_to_all_fragments_together() {
    let limit = 10;
    let fragments = [frame(opcode::TEXT, b"12345"), frame(FIN, b"67890")].concat();
    assert_eq!(decode_pieces(&mut Decoder::new(limit), [&fragments[..]]), Ok(vec![text("1234567890")]));
    let fragments = [frame(opcode::TEXT, b"12345"), frame(opcode::CONTINUATION, b"67890"), frame(FIN, b"1")].concat();
    assert_eq!(decode_pieces(&mut Decoder::new(limit), [&fragments[..]]), Err(ProtocolError::TooBig(limit)));
    let again = frame(FIN | opcode::TEXT, b"1234567890").repeat(2);
    let both = decode_pieces(&mut Decoder::new(limit), [&again[..]]).unwrap();
    assert_eq!(both.len(), 2, "the next message starts at zero");
    let ping = [frame(opcode::TEXT, b"1234567890"), frame(FIN | opcode::PING, b"ping"), frame(FIN, b"")].concat();
    assert_eq!(decode_pieces(&mut Decoder::new(limit), [&ping[..]]).unwrap().len(), 2, "a ping does not count");
}

#[test]
fn a_declared_length_allocates_nothing() {
    for length in [u64::MAX, 1 << 63, (LIMIT + 1) as u64] {
        let header = [&[FIN | opcode::TEXT, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
        assert_eq!(decode_all(&header), Err(ProtocolError::TooBig(LIMIT)));
    }
    let mut decoder = Decoder::new(LIMIT);
    let header = [&[FIN | opcode::TEXT, 0x80 | 127][..], &(LIMIT as u64).to_be_bytes(), &[0; 4]].concat();
    assert_eq!(decode_pieces(&mut decoder, [&header[..]]), Ok(vec![]));
    assert_eq!(decoder.message.capacity(), 0);
}

#[test]
fn memory_stays_under_the_limit_and_is_given_back() {
    let limit = 100_000;
    let mut decoder = Decoder::new(limit);
    let bytes = frame(FIN | opcode::TEXT, &vec![b'x'; limit]);
    let mut messages = 0;
    for piece in bytes.chunks(1000) {
        messages += decode_pieces(&mut decoder, [piece]).unwrap().len();
        assert!(decoder.message.capacity() <= limit, "{}", decoder.message.capacity());
    }
    assert_eq!(messages, 1);
    decode_pieces(&mut decoder, [&frame(FIN | opcode::PING, b"x")[..]]).unwrap();
    assert_eq!((decoder.message.capacity(), decoder.control.capacity()), (0, 0));
}

#[test]
fn nothing_is_decoded_after_the_end() {
    for end in [frame(FIN | opcode::CLOSE, b""), frame(FIN | opcode::BINARY, b"\xFF")] {
        let mut decoder = Decoder::new(LIMIT);
        let _ = decode_pieces(&mut decoder, [&end[..]]);
        assert!(decoder.has_ended());
        assert_eq!(decode_pieces(&mut decoder, [&conversation().0[..], &end[..]]), Ok(vec![]));
    }
}

#[test]
fn debug_shows_no_text() {
    let messages = [text("a token"), Message::Ping(Bytes::from_static(b"a token"))];
    assert!(!format!("{messages:?}").contains("token"));
}

#[test]
fn random_bytes_end_in_an_error_or_in_waiting() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut bytes, _) = conversation();
        if seed % 2 == 0 {
            bytes = (0..random.usize(1..2000)).map(|_| random.u8(..)).collect();
        } else {
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
        }
        let whole = decode_all(&bytes);
        let size = random.usize(1..64);
        let pieces = decode_pieces(&mut Decoder::new(LIMIT), bytes.chunks(size));
        assert_eq!(whole, pieces, "seed {seed}: cutting must not matter");
    }
}

/// One action of a client.
#[derive(Clone, Debug)]
enum Step {
    /// A text message, and the size of each fragment in bytes; a ping precedes each fragment but the first.
    Text {
        text: String,
        fragment: usize,
    },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let control = proptest::collection::vec(any::<u8>(), 0..=125);
    prop_oneof![
        3 => ("\\PC{0,300}", 1..400usize).prop_map(|(text, fragment)| Step::Text { text, fragment }),
        1 => control.clone().prop_map(Step::Ping),
        1 => control.prop_map(Step::Pong),
    ]
}

fn encode(step: &Step, bytes: &mut Vec<u8>, expected: &mut Vec<Message>) {
    match step {
        Step::Ping(payload) => {
            bytes.extend(frame(FIN | opcode::PING, payload));
            expected.push(Message::Ping(payload.clone().into()));
        }
        Step::Pong(payload) => {
            bytes.extend(frame(FIN | opcode::PONG, payload));
            expected.push(Message::Pong(payload.clone().into()));
        }
        Step::Text { text, fragment } => {
            let mut fragments: Vec<&[u8]> = text.as_bytes().chunks(*fragment).collect();
            if fragments.is_empty() {
                fragments.push(b"");
            }
            let last = fragments.len() - 1;
            for (index, payload) in fragments.into_iter().enumerate() {
                if index > 0 {
                    encode(&Step::Ping(vec![index as u8]), bytes, expected);
                }
                let first = if index == 0 { opcode::TEXT } else { opcode::CONTINUATION };
                bytes.extend(frame(first | if index == last { FIN } else { 0 }, payload));
            }
            expected.push(Message::Text(text.clone()));
        }
    }
}

/// Reads the same bytes with tungstenite in the role of the server.
fn decode_with_tungstenite(bytes: &[u8]) -> Vec<Message> {
    let mut server = WebSocket::from_raw_socket(Cursor::new(bytes.to_vec()), Role::Server, None);
    let mut messages = Vec::new();
    while let Ok(message) = server.read() {
        messages.push(match message {
            tungstenite::Message::Text(text) => Message::Text(text.to_string()),
            tungstenite::Message::Ping(payload) => Message::Ping(payload),
            tungstenite::Message::Pong(payload) => Message::Pong(payload),
            other => panic!("not sent: {other:?}"),
        });
    }
    messages
}

proptest! {
    #[test]
    fn random_conversations_cut_at_random_decode_as_tungstenite_does(
        steps in proptest::collection::vec(step(), 0..8),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for step in &steps {
            encode(step, &mut bytes, &mut expected);
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        prop_assert_eq!(&decode_pieces(&mut Decoder::new(LIMIT), pieces).unwrap(), &expected);
        prop_assert_eq!(decode_with_tungstenite(&bytes), expected);
    }
}

const RSV1: u8 = 0x40;

fn agreed() -> Option<Agreed> {
    let mut headers = http::HeaderMap::new();
    headers.insert("sec-websocket-extensions", http::HeaderValue::from_static("permessage-deflate"));
    crate::deflate::agree(&headers).map(|answer| answer.agreed)
}

fn inflating(limit: usize) -> Decoder {
    let mut decoder = Decoder::new(limit);
    decoder.agree(agreed());
    decoder
}

/// Compressed by another library (RFC 7692 section 7.2.3.4).
fn deflated(text: &[u8], level: u8) -> Vec<u8> {
    let mut compressed = miniz_oxide::deflate::compress_to_vec(text, level);
    compressed.push(0);
    compressed
}

#[test]
fn compression_costs_a_decoder_no_memory() {
    assert_eq!(size_of::<Decoder>(), 96);
}

#[test]
fn compressed_and_plain_messages_are_read_if_compression_was_agreed() {
    let compressed = deflated("grüße, grüße und grüße".as_bytes(), 6);
    let (one, rest) = compressed.split_at(5);
    let bytes = [
        frame(FIN | RSV1 | opcode::TEXT, &compressed),
        frame(FIN | opcode::TEXT, b"plain"),
        frame(RSV1 | opcode::TEXT, one),
        frame(FIN | opcode::PING, b"still there?"),
        frame(opcode::CONTINUATION, b""),
        frame(FIN | opcode::CONTINUATION, rest),
        frame(FIN | RSV1 | opcode::TEXT, &[0]),
        frame(RSV1 | opcode::TEXT, b""),
        frame(FIN | opcode::CONTINUATION, &compressed),
        frame(opcode::TEXT, b"pla"),
        frame(FIN | opcode::CONTINUATION, b"in"),
    ]
    .concat();
    let greeting = || text("grüße, grüße und grüße");
    let ping = Message::Ping(Bytes::from_static(b"still there?"));
    let expected = vec![greeting(), text("plain"), ping, greeting(), text(""), greeting(), text("plain")];
    for size in 1..=bytes.len() {
        assert_eq!(
            decode_pieces(&mut inflating(LIMIT), bytes.chunks(size)),
            Ok(expected.clone()),
            "in pieces of {size}"
        );
    }
}

#[test]
fn every_broken_rule_of_compression_has_its_close_code() {
    let good = deflated(b"a text, a text, a text", 6);
    let cases: Vec<(&str, Vec<u8>, ProtocolError, u16)> = vec![
        ("RSV1 on a ping", frame(FIN | RSV1 | opcode::PING, b"x"), ProtocolError::ReservedBits, 1002),
        ("RSV1 on a close frame", frame(FIN | RSV1 | opcode::CLOSE, b""), ProtocolError::ReservedBits, 1002),
        ("RSV2", frame(FIN | 0x20 | opcode::TEXT, &good), ProtocolError::ReservedBits, 1002),
        ("RSV1 and RSV3", frame(FIN | 0x50 | opcode::TEXT, &good), ProtocolError::ReservedBits, 1002),
        (
            "RSV1 on a later fragment",
            [frame(RSV1 | opcode::TEXT, &good), frame(FIN | RSV1, b"")].concat(),
            ProtocolError::ReservedBits,
            1002,
        ),
        (
            "RSV1 on a later fragment of a plain message",
            [frame(opcode::TEXT, b"x"), frame(FIN | RSV1, b"")].concat(),
            ProtocolError::ReservedBits,
            1002,
        ),
        ("compressed binary", frame(FIN | RSV1 | opcode::BINARY, &deflated(b"\xFF", 6)), ProtocolError::Binary, 1003),
        ("no deflate data", frame(FIN | RSV1 | opcode::TEXT, b"plain text"), ProtocolError::InvalidDeflate, 1007),
        ("cut off", frame(FIN | RSV1 | opcode::TEXT, &good[..9]), ProtocolError::InvalidDeflate, 1007),
        ("nothing at all", frame(FIN | RSV1 | opcode::TEXT, b""), ProtocolError::InvalidDeflate, 1007),
        ("bad UTF-8", frame(FIN | RSV1 | opcode::TEXT, &deflated(b"a\xC3\x28", 6)), ProtocolError::InvalidText, 1007),
        (
            "a bomb",
            frame(FIN | RSV1 | opcode::TEXT, &deflated(&vec![b'x'; LIMIT + 1], 9)),
            ProtocolError::TooBig(LIMIT),
            1009,
        ),
        (
            "too big as it comes",
            frame(FIN | RSV1 | opcode::TEXT, &vec![0; LIMIT + 1]),
            ProtocolError::TooBig(LIMIT),
            1009,
        ),
    ];
    for (name, bytes, error, code) in cases {
        assert_eq!(decode_pieces(&mut inflating(LIMIT), [&bytes[..]]), Err(error), "{name}");
        assert_eq!(decode_pieces(&mut inflating(LIMIT), bytes.chunks(1)), Err(error), "{name}, byte by byte");
        assert_eq!(error.close_code().number(), code, "{name}");
    }
}

#[test]
fn a_compressed_message_takes_memory_for_what_has_arrived_and_then_for_its_text() {
    let limit = 100_000;
    let mut decoder = inflating(limit);
    let bytes = frame(FIN | RSV1 | opcode::TEXT, &deflated(&vec![b'x'; limit], 9));
    let mut messages = Vec::new();
    for piece in bytes.chunks(7) {
        messages.extend(decode_pieces(&mut decoder, [piece]).unwrap());
        assert!(decoder.message.capacity() < 1000, "{}", decoder.message.capacity());
    }
    let [Message::Text(text)] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((text.len(), text.capacity(), decoder.message.capacity()), (limit, limit, 0));
}

#[test]
fn random_bytes_on_a_compressed_socket_end_in_an_error_or_in_waiting() {
    let good = deflated(r#"{"action":"ping"}"#.repeat(9).as_bytes(), 6);
    for seed in 0..1000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut payload = good.clone();
        for _ in 0..random.usize(..4) {
            let at = random.usize(..payload.len());
            payload[at] = random.u8(..);
        }
        let bytes = [frame(RSV1 | opcode::TEXT, &payload[..20]), frame(FIN, &payload[20..])].concat();
        let whole = decode_pieces(&mut inflating(1000), [&bytes[..]]);
        let pieces = decode_pieces(&mut inflating(1000), bytes.chunks(random.usize(1..64)));
        assert_eq!(whole, pieces, "seed {seed}: cutting must not matter");
        if let Ok([Message::Text(text)]) = whole.as_deref() {
            assert!(text.capacity() <= 1000, "seed {seed}");
        }
    }
}

proptest! {
    #[test]
    fn messages_of_another_compressor_are_read_in_any_fragments(
        words in "\\PC{0,200}",
        times in 0..9usize,
        level in 0..=9u8,
        fragment in 1..300usize,
        size in 1..200usize,
    ) {
        let words = words.repeat(times);
        let compressed = deflated(words.as_bytes(), level);
        let mut fragments = compressed.chunks(fragment).peekable();
        let (mut bytes, mut first) = (Vec::new(), RSV1 | opcode::TEXT);
        while let Some(payload) = fragments.next() {
            bytes.extend(frame(first | if fragments.peek().is_none() { FIN } else { 0 }, payload));
            first = opcode::CONTINUATION;
        }
        prop_assert_eq!(decode_pieces(&mut inflating(LIMIT), bytes.chunks(size)), Ok(vec![text(&words)]));
    }
}
