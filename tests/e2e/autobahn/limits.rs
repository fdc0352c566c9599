//! Categories 9 and 10: large messages, many fragments, many messages in a row.
//!
//! The gateway's limit is `limits.message`, 1 MiB by default; here it is 17 MiB. Messages over it: 9.1.6 at the
//! default.

use super::{
    Case,
    Ending::{Clean, Closed},
    See, Seen, Send, case, chopped, run, testee,
    wire::{BINARY, FIN, TEXT, fragments, frame, padded},
};
use crate::support::gateway;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The numbers of the same cases in text frames and in binary frames.
const SIZES: [(u8, u8); 2] = [(1, TEXT), (2, BINARY)];
const FRAGMENTS: [(u8, u8); 2] = [(3, TEXT), (4, BINARY)];
const CHOPS: [(u8, u8); 2] = [(5, TEXT), (6, BINARY)];
const ROUND_TRIPS: [(u8, u8); 2] = [(7, TEXT), (8, BINARY)];

/// Makes what the gateway answers.
type Answer = fn() -> Seen;

fn echo() -> Seen {
    Seen::Echo("*".to_owned())
}

fn growing() -> Vec<Case> {
    let cases = SIZES.into_iter().flat_map(|(group, opcode)| {
        let sizes = [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB];
        (1..).zip(sizes).map(move |(n, size)| {
            case(format!("9.{group}.{n}"), frame(FIN | opcode, &padded("*", size)), [echo()], Clean)
        })
    });
    cases.collect()
}

fn fragmented() -> Vec<Case> {
    let payload = padded("*", 4 * MIB);
    let cases = FRAGMENTS.into_iter().flat_map(|(group, opcode)| {
        let sizes = [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB];
        let payload = &payload;
        (1..).zip(sizes).map(move |(n, size)| {
            case(format!("9.{group}.{n}"), fragments(opcode, payload.chunks(size)), [echo()], Clean)
        })
    });
    cases.collect()
}

fn in_chops() -> Vec<Case> {
    let payload = padded("*", MIB);
    let cases = CHOPS.into_iter().flat_map(|(group, opcode)| {
        let sizes = [64, 128, 256, 512, KIB, 2 * KIB];
        let whole = frame(FIN | opcode, &payload);
        (1..).zip(sizes).map(move |(n, size)| chopped(format!("9.{group}.{n}"), whole.clone(), size, [echo()], Clean))
    });
    cases.collect()
}

/// 9.7 and 9.8: a thousand round trips. An empty message and one of 16 bytes have no room for a `ref`.
fn round_trips() -> Vec<Case> {
    let cases = ROUND_TRIPS.into_iter().flat_map(|(group, opcode)| {
        let payloads: [(Vec<u8>, Answer); 6] = [
            (Vec::new(), || Seen::Answer("bad_json".to_owned())),
            (br#"{"type":"ping"} "#.to_vec(), || Seen::Answer("pong".to_owned())),
            (padded("*", 64), echo),
            (padded("*", 256), echo),
            (padded("*", KIB), echo),
            (padded("*", 4 * KIB), echo),
        ];
        (1..).zip(payloads).map(move |(n, (payload, answer))| {
            let message = frame(FIN | opcode, &payload);
            let steps = (0..1000).flat_map(|_| [Send(message.clone(), 0), See(answer())]).collect();
            Case { number: format!("9.{group}.{n}"), steps, ending: Clean }
        })
    });
    cases.collect()
}

#[tokio::test]
async fn cases_9_1_1_to_9_6_6_large_messages() {
    let gateway = testee().await;
    let cases: Vec<Case> = [growing(), fragmented(), in_chops()].into_iter().flatten().collect();
    assert_eq!(cases.len(), 12 + 18 + 12);
    run(&gateway, cases).await;
}

#[tokio::test]
async fn cases_9_7_1_to_10_1_1_round_trips_and_fragments_of_1300_bytes() {
    let gateway = testee().await;
    let mut cases = round_trips();
    cases.push(case("10.1.1", fragments(TEXT, padded("*", 64 * KIB).chunks(1300)), [echo()], Clean));
    assert_eq!(cases.len(), 13);
    run(&gateway, cases).await;
}

#[tokio::test]
async fn at_the_default_limit_the_large_cases_close_with_1009() {
    let gateway = gateway::memory(&[]).await;
    let cases = [(3, MIB, Clean), (4, 4 * MIB, Closed(1009)), (5, 8 * MIB, Closed(1009)), (6, 16 * MIB, Closed(1009))];
    let cases = cases.map(|(n, size, ending)| {
        let seen = matches!(ending, Clean).then(echo);
        case(format!("9.1.{n}"), frame(FIN | TEXT, &padded("*", size)), seen, ending)
    });
    run(&gateway, cases.into()).await;
}
