//! Explores the join of replay and live: every order in which a publisher, the relay and one reader can take their
//! steps, over the real sequencer, channel state and reader.
//!
//! Each actor runs under its own lock or in its own task. An order can therefore change only what another actor does
//! between two steps. A step is what happens under one lock: a message received, a page read at the server, a page
//! taken, one read of the ring. Orders that lead to the same state are followed once from there, but each is counted.

mod world;

use std::collections::HashMap;

use crewcast_events::{EventId, Since};

use crate::replay::Start;
use world::World;

/// One step of one actor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The next publication reaches the server, which publishes it to its subscribers.
    Publish,
    /// The sequencer receives the next message.
    Hear,
    /// The subscription is confirmed, then the head is read, then the channel opens.
    Open,
    /// The sequencer's pending page is read at the server.
    Repair,
    /// That page arrives.
    TakeRepair,
    /// The sequencer's position is compared with the head, when nothing else can happen.
    Compare,
    /// The reader subscribes.
    Join,
    /// The reader reads once, because it was notified or has not caught up.
    Read,
    /// The reader's pending page is read at the server.
    Page,
    /// That page arrives.
    TakePage,
}

impl Step {
    const ALL: [Step; 10] = [
        Step::Publish,
        Step::Hear,
        Step::Open,
        Step::Repair,
        Step::TakeRepair,
        Step::Compare,
        Step::Join,
        Step::Read,
        Step::Page,
        Step::TakePage,
    ];
}

/// What the publisher does, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Publication {
    Logged,
    Live,
    /// The log loses its oldest entry.
    Trim,
    /// The log and its head are lost.
    Flush,
    /// A replica that did not know the last event is promoted.
    Promote,
}

use Publication::{Flush, Live, Logged, Promote, Trim};

/// What is explored.
#[derive(Clone, Debug)]
struct Plan {
    /// Events that the log holds at the start.
    logged_before: usize,
    publications: Vec<Publication>,
    /// The publication whose message is lost on the way.
    lost: Option<usize>,
    start: Start,
    /// For a reader that resumes: the event after which it resumes.
    since: usize,
}

impl Plan {
    fn start_of(&self, ever: &[EventId]) -> Start {
        match (self.start, self.since.checked_sub(1)) {
            (Start::Since(_), Some(last)) => Start::Since(Since::After(ever[last])),
            (start, _) => start,
        }
    }

    fn may_reset(&self) -> bool {
        self.publications.iter().any(|publication| matches!(publication, Trim | Flush | Promote))
    }
}

/// Follows every order from where `path` leads, and returns their number.
fn explore(plan: &Plan, path: &mut Vec<Step>, known: &mut HashMap<String, u64>) -> u64 {
    let mut world = World::new(plan);
    path.iter().for_each(|&step| world.step(step));
    let key = world.key();
    if let Some(&orders) = known.get(&key) {
        return orders;
    }
    assert!(path.len() < 80, "the world does not come to rest: {path:?}");
    let enabled = world.enabled();
    if enabled.is_empty() {
        world.check();
    }
    let mut orders = u64::from(enabled.is_empty());
    for step in enabled {
        path.push(step);
        orders += explore(plan, path, known);
        path.pop();
    }
    known.insert(key, orders);
    orders
}

/// Explores each plan, reports the path that broke the promise, and prints the number of orders and states.
fn explore_all(plans: &[Plan]) {
    for plan in plans {
        let (mut path, mut known) = (Vec::new(), HashMap::new());
        let explored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| explore(plan, &mut path, &mut known)));
        match explored {
            Ok(orders) => println!("{orders} orders, {} states: {plan:?}", known.len()),
            Err(panic) => {
                println!("broken: {plan:?} by {path:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

fn plan(start: Start, since: usize, logged_before: usize, publications: &[Publication]) -> Plan {
    Plan { logged_before, publications: publications.to_vec(), lost: None, start, since }
}

const RESUMING: Start = Start::Since(Since::Beginning);

#[test]
fn a_resuming_reader_joins_without_holes_or_repeats() {
    explore_all(&[
        plan(RESUMING, 0, 0, &[Logged, Logged, Logged, Logged]),
        plan(RESUMING, 0, 2, &[Logged, Logged, Logged]),
        plan(RESUMING, 1, 2, &[Logged, Logged, Logged]),
        plan(RESUMING, 2, 2, &[Logged, Live, Logged]),
    ]);
}

#[test]
fn a_reader_that_starts_live_or_at_the_retained_event_misses_nothing() {
    explore_all(&[
        plan(Start::Live, 0, 1, &[Logged, Logged, Logged, Logged]),
        plan(Start::Live, 0, 1, &[Logged, Live, Logged]),
        plan(Start::Retained, 0, 1, &[Logged, Logged, Logged]),
        plan(Start::Retained, 0, 0, &[Logged, Live, Logged]),
    ]);
}

#[test]
fn a_lost_message_leaves_no_hole_for_a_joining_reader() {
    for lost in 0..3 {
        let lose = |plan: Plan| Plan { lost: Some(lost), ..plan };
        explore_all(&[
            lose(plan(RESUMING, 1, 1, &[Logged, Logged, Logged])),
            lose(plan(Start::Live, 0, 1, &[Logged, Logged, Logged])),
        ]);
    }
}

#[test]
fn a_joining_reader_is_told_of_a_trimmed_log() {
    let lose_first = |plan: Plan| Plan { lost: Some(0), ..plan };
    explore_all(&[
        lose_first(plan(Start::Live, 0, 0, &[Logged, Logged, Trim, Logged])),
        lose_first(plan(RESUMING, 0, 0, &[Logged, Logged, Trim, Logged])),
        plan(RESUMING, 0, 2, &[Logged, Trim, Logged]),
        plan(RESUMING, 1, 2, &[Trim, Trim, Logged]),
        plan(Start::Live, 0, 1, &[Logged, Trim, Trim, Logged]),
    ]);
}

#[test]
fn a_joining_reader_is_told_of_a_lost_history() {
    explore_all(&[
        plan(RESUMING, 1, 2, &[Flush, Logged, Logged]),
        plan(RESUMING, 0, 3, &[Flush, Logged]),
        plan(RESUMING, 1, 1, &[Logged, Flush, Logged]),
        plan(RESUMING, 1, 1, &[Logged, Logged, Flush, Logged]),
        plan(RESUMING, 0, 0, &[Logged, Flush, Logged]),
        plan(Start::Live, 0, 1, &[Logged, Flush, Logged, Logged]),
        plan(Start::Live, 0, 0, &[Logged, Logged, Flush, Logged]),
        plan(Start::Retained, 0, 1, &[Logged, Flush, Logged]),
    ]);
}

#[test]
fn a_joining_reader_is_told_of_a_promoted_replica() {
    explore_all(&[
        plan(RESUMING, 1, 1, &[Logged, Promote, Logged]),
        plan(RESUMING, 2, 2, &[Promote, Logged, Logged]),
        plan(RESUMING, 0, 1, &[Logged, Logged, Promote]),
        plan(Start::Live, 0, 1, &[Logged, Promote, Logged, Logged]),
        plan(Start::Retained, 0, 1, &[Logged, Promote, Logged]),
    ]);
}
