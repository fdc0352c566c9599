//! The cases of the Autobahn test suite, under their numbers, against a running gateway.
//!
//! Autobahn expects a server that returns each message. The gateway answers `{"action":"ping","ref":…}` with a `pong`
//! that repeats the `ref`, and sends a published event back byte for byte: a case's payload is put there. What the
//! suite leaves out itself (7.2, 7.4, 7.6, 7.8, 7.10, 7.11, 8, 9.9, 9.10, 11) is not here either.
//!
//! The suite itself runs against the sockets' code without a gateway: see `tests/autobahn.sh`.

mod closing;
mod compression;
mod framing;
mod limits;
mod utf8;
mod wire;

use crate::support::gateway::{self, Gateway};
use wire::{Seen, Wire};

/// How a case ends.
#[derive(Clone, Copy)]
enum Ending {
    /// The client closes with 1000, and the gateway answers with 1000.
    Clean,
    /// The gateway closes with this code, whatever else the client would send.
    Closed(u16),
}

/// One case of the suite.
struct Case {
    /// Its number in the suite.
    number: String,
    steps: Vec<Step>,
    ending: Ending,
}

enum Step {
    /// Bytes, written in pieces of this many; 0: in one write.
    Send(Vec<u8>, usize),
    /// What comes next from the gateway.
    See(Seen),
}

use Step::{See, Send};

/// A case that sends everything in one write and then sees this.
fn case(
    number: impl Into<String>,
    sent: impl Into<Vec<u8>>,
    seen: impl IntoIterator<Item = Seen>,
    ending: Ending,
) -> Case {
    chopped(number, sent, 0, seen, ending)
}

/// The same, written in pieces.
fn chopped(
    number: impl Into<String>,
    sent: impl Into<Vec<u8>>,
    pieces: usize,
    seen: impl IntoIterator<Item = Seen>,
    ending: Ending,
) -> Case {
    let steps = std::iter::once(Send(sent.into(), pieces)).chain(seen.into_iter().map(See)).collect();
    Case { number: number.into(), steps, ending }
}

/// A gateway whose limits leave room for Autobahn's largest messages, and for a thousand in a row.
async fn testee() -> Gateway {
    gateway::memory(&[
        ("CREWCAST_LIMITS__MESSAGE", "17MiB"),
        ("CREWCAST_LIMITS__RING_BYTES", "32MiB"),
        ("CREWCAST_LIMITS__MESSAGES_PER_MINUTE", "1000000"),
    ])
    .await
}

async fn run(gateway: &Gateway, cases: Vec<Case>) {
    for Case { number, steps, ending } in cases {
        let mut wire = Wire::connect(gateway).await;
        for step in steps {
            match step {
                Send(bytes, pieces) => wire.send(&bytes, pieces).await,
                See(expected) => assert_eq!(wire.seen().await, expected, "case {number}"),
            }
        }
        let code = match ending {
            Ending::Clean => {
                wire.send(&wire::close(1000), 0).await;
                1000
            }
            Ending::Closed(code) => code,
        };
        assert_eq!(wire.seen().await, Seen::Close(code), "case {number}: the close frame");
        assert_eq!(wire.seen().await, Seen::End, "case {number}: the gateway ends the connection");
    }
}
