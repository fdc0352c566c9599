//! Category 6: UTF-8. Valid sequences are repeated in the answer, all others close the socket with 1007.

use super::{
    Case,
    Ending::{Clean, Closed},
    See, Seen, Send, case, run, testee,
    wire::{FIN, TEXT, fragments, frame, message, ping, text},
};

/// `κόσμε`.
const KOSME: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";

const HELLO: &str = "Hello-µ@ßöäüàá-UTF-8!!";

fn echo(payload: &str) -> Seen {
    Seen::Echo(payload.to_owned())
}

fn bad_json() -> Seen {
    Seen::Answer("bad_json".to_owned())
}

/// One sequence per case. An invalid one is the whole message, as in the suite.
fn sequences<'a>(group: u8, sequences: impl IntoIterator<Item = &'a [u8]>) -> Vec<Case> {
    let numbered = (1..).zip(sequences).map(|(n, bytes)| {
        let number = format!("6.{group}.{n}");
        match std::str::from_utf8(bytes) {
            // JSON allows every character in a string but the control characters: valid text, answered as no JSON.
            Ok("\0") => case(number, text(b"\0"), [bad_json()], Clean),
            Ok(valid) => case(number, text(&message(valid)), [echo(valid)], Clean),
            Err(_) => case(number, text(bytes), [], Closed(1007)),
        }
    });
    numbered.collect()
}

/// How many of a group's sequences are valid: counted here, so that the table does not depend on Rust's own decoder.
fn group(number: u8, valid: usize, bytes: &[&[u8]]) -> Vec<Case> {
    let cases = sequences(number, bytes.iter().copied());
    assert_eq!(cases.iter().filter(|case| matches!(case.ending, Clean)).count(), valid, "group 6.{number}");
    cases
}

fn one_message() -> Vec<Case> {
    let hello = message(HELLO);
    let two = hello.iter().position(|byte| *byte == 0xBC).unwrap() - 1;
    let (first, second) = hello.split_at(two);
    let kosme = std::str::from_utf8(KOSME).unwrap();
    let broken = [KOSME, b"\xed\xa0\x80edited"].concat();
    vec![
        case("6.1.1", text(b""), [bad_json()], Clean),
        case("6.1.2", fragments(TEXT, [&b""[..]; 3]), [bad_json()], Clean),
        case(
            "6.1.3",
            fragments(TEXT, [&b""[..], &message("middle frame payload")[..], &b""[..]]),
            [echo("middle frame payload")],
            Clean,
        ),
        case("6.2.1", text(&hello), [echo(HELLO)], Clean),
        case("6.2.2", fragments(TEXT, [first, second]), [echo(HELLO)], Clean),
        case("6.2.3", fragments(TEXT, hello.chunks(1)), [echo(HELLO)], Clean),
        case("6.2.4", fragments(TEXT, message(kosme).chunks(1)), [echo(kosme)], Clean),
        case("6.3.1", text(&broken), [], Closed(1007)),
        case("6.3.2", fragments(TEXT, broken.chunks(1)), [], Closed(1007)),
    ]
}

/// 6.4: the offence closes the socket before the message has ended, strictly.
fn fail_fast() -> Vec<Case> {
    let broken = [KOSME, b"\xf4\x90\x80\x80edited"].concat();
    let in_frames = |number: &str, start: &[u8], offence: &[u8]| {
        // The ping shows that the first part is accepted.
        let steps = vec![
            Send([frame(TEXT, start), ping(b"A")].concat(), 0),
            See(Seen::Pong(b"A".to_vec())),
            Send(frame(0, offence), 0),
        ];
        Case { number: number.to_owned(), steps, ending: Closed(1007) }
    };
    let in_one_frame = |number: &str, length: usize| {
        let whole = frame(FIN | TEXT, &broken);
        let header = whole.len() - broken.len();
        case(number, &whole[..header + length], [], Closed(1007))
    };
    vec![
        in_frames("6.4.1", KOSME, b"\xf4\x90\x80\x80"),
        in_frames("6.4.2", &broken[..12], &broken[12..13]),
        in_one_frame("6.4.3", 15),
        in_one_frame("6.4.4", 13),
    ]
}

/// Each of the range with a space behind it.
fn lonely(starts: std::ops::Range<u8>) -> Vec<u8> {
    starts.flat_map(|start| [start, b' ']).collect()
}

fn non_characters() -> Vec<Vec<u8>> {
    let mut all = vec![b"\xef\xbf\xbe".to_vec(), b"\xef\xbf\xbf".to_vec()];
    let planes: [(u8, &[u8]); 5] = [
        (0xF0, &[0x9F, 0xAF, 0xBF]),
        (0xF1, &[0x8F, 0x9F, 0xAF, 0xBF]),
        (0xF2, &[0x8F, 0x9F, 0xAF, 0xBF]),
        (0xF3, &[0x8F, 0x9F, 0xAF, 0xBF]),
        (0xF4, &[0x8F]),
    ];
    for (first, seconds) in planes {
        for second in seconds {
            all.extend([0xBE, 0xBF].map(|last| vec![first, *second, 0xBF, last]));
        }
    }
    all
}

#[rustfmt::skip]
fn well_formed_or_not() -> Vec<Vec<Case>> {
    let missing_last: [&[u8]; 10] = [
        b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80",
        b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf",
    ];
    let continuations: Vec<u8> = (0x80..0xBF).collect();
    let starts = [lonely(0xC0..0xDF), lonely(0xE0..0xEF), lonely(0xF0..0xF7), lonely(0xF8..0xFB), vec![0xFC, b' ']];
    let prefixes: Vec<&[u8]> = (1..=KOSME.len()).map(|length| &KOSME[..length]).collect();
    let non_characters = non_characters();
    vec![
        group(5, 5, &[b"hello$world", b"hello\xC2\xA2world", b"hello\xE2\x82\xACworld", b"hello\xF0\xA4\xAD\xA2world", KOSME]),
        group(6, 5, &prefixes),
        group(7, 4, &[b"\0", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
        group(8, 0, &[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
        group(9, 4, &[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
        group(10, 0, &[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
        group(11, 4, &[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80"]),
        group(12, 0, &[
            b"\x80", b"\xbf", b"\x80\xbf", b"\x80\xbf\x80", b"\x80\xbf\x80\xbf", b"\x80\xbf\x80\xbf\x80",
            b"\x80\xbf\x80\xbf\x80\xbf", &continuations,
        ]),
        group(13, 0, &starts.each_ref().map(Vec::as_slice)),
        group(14, 0, &missing_last),
        group(15, 0, &[&missing_last.concat()]),
        group(16, 0, &[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
        group(17, 0, &[b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"]),
        group(18, 0, &[b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"]),
        group(19, 0, &[b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"]),
        group(20, 0, &[
            b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80", b"\xed\xbe\x80", b"\xed\xbf\xbf",
        ]),
        group(21, 0, &[
            b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xa0\x80\xed\xbf\xbf", b"\xed\xad\xbf\xed\xb0\x80", b"\xed\xad\xbf\xed\xbf\xbf",
            b"\xed\xae\x80\xed\xb0\x80", b"\xed\xae\x80\xed\xbf\xbf", b"\xed\xaf\xbf\xed\xb0\x80", b"\xed\xaf\xbf\xed\xbf\xbf",
        ]),
        group(22, 34, &non_characters.iter().map(Vec::as_slice).collect::<Vec<_>>()),
        group(23, 7, &[
            b"\xef\xbf\xb9", b"\xef\xbf\xba", b"\xef\xbf\xbb", b"\xef\xbf\xbc", b"\xef\xbf\xbd", b"\xef\xbf\xbe", b"\xef\xbf\xbf",
        ]),
    ]
}

#[tokio::test]
async fn cases_6_1_1_to_6_23_7_utf8() {
    let gateway = testee().await;
    let groups = well_formed_or_not();
    let cases: Vec<Case> = [one_message(), fail_fast()].into_iter().chain(groups).flatten().collect();
    assert_eq!(cases.len(), 145, "as many as the suite has in category 6");
    run(&gateway, cases).await;
}
