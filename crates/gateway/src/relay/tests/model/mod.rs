//! The sequencer against a model: whatever a server, a network and a clock do to one channel, in any order, its readers
//! see the promise kept.
//!
//! - `server.rs`: the log as Redis holds it, with trims, expiry, lost histories and promoted replicas
//! - `world.rs`: the sequencer between that server and a reader, one step at a time, and all at rest
//! - `witness.rs`: the reader, which checks what it sees against the promise
//!
//! The promise: every logged event comes once and in order. Where the chain breaks, and only there, a reset stands
//! between. Each live message comes once, and where some may be missing, a gap says so. At rest the reader stands at
//! the head.

pub(super) mod server;
mod witness;
mod world;

use proptest::prelude::*;

use world::World;

/// What happens next. A step that makes no sense at its moment does nothing.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// An event is logged and published.
    Append,
    /// A live message is published.
    Live,
    /// A live message that looks logged is published, this far ahead of the head.
    Forge(i64),
    /// The next message arrives, is lost, is overtaken by the one behind it, or comes once more.
    Hear,
    Lose,
    Overtake,
    Repeat(usize),
    /// The subscription's connection goes down or comes up.
    Down,
    Up,
    /// The log loses its oldest entries, expires, is deleted with its head, or loses its last writes.
    Trim(usize),
    Expire,
    Flush,
    Promote(usize),
    /// The sequencer's pending read is answered; the answer arrives, or is lost.
    Read,
    Take,
    Fail,
    /// The head is read; the position is compared with it.
    Heads,
    Compare,
    /// The ring is trimmed in favour of busier ones.
    TrimRing,
    /// The channel is opened in three steps: confirmed, head read, open.
    Join,
    /// The channel is given up and wanted again; then the page that was read for the old sequencer arrives.
    Rejoin,
    TakeStale,
}

fn usual() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Append),
        3 => Just(Step::Live),
        8 => Just(Step::Hear),
        3 => Just(Step::Lose),
        2 => Just(Step::Overtake),
        2 => (0usize..6).prop_map(Step::Repeat),
        2 => (-4i64..4).prop_map(Step::Forge),
        5 => Just(Step::Read),
        5 => Just(Step::Take),
        1 => Just(Step::Fail),
        2 => Just(Step::Heads),
        2 => Just(Step::Compare),
        1 => Just(Step::Down),
        2 => Just(Step::Up),
        1 => Just(Step::TrimRing),
        3 => Just(Step::Join),
    ]
}

fn disaster() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1usize..4).prop_map(Step::Trim),
        1 => Just(Step::Expire),
        1 => Just(Step::Flush),
        2 => (1usize..5).prop_map(Step::Promote),
        2 => Just(Step::Rejoin),
        3 => Just(Step::TakeStale),
    ]
}

fn run(steps: Vec<Step>, joined_first: bool) {
    let mut world = World::new();
    if joined_first {
        (0..3).for_each(|_| world.step(Step::Join));
    }
    steps.into_iter().for_each(|step| world.step(step));
    world.come_to_rest();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn the_promise_holds_in_any_order_of_steps(
        steps in proptest::collection::vec(prop_oneof![6 => usual(), 1 => disaster()], 1..80),
        joined_first in any::<bool>(),
    ) {
        run(steps, joined_first);
    }

    /// Holes, repeats and cut links alone never end in a reset: the log held everything all along.
    #[test]
    fn nothing_is_reset_while_the_log_holds_everything(steps in proptest::collection::vec(usual(), 1..80)) {
        run(steps, true);
    }
}
