//! Resend against a model of a log that loses its end at any moment, as in failovers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, EventId};
use crewcast_publisher::{
    Append, AppendError, Entry, Once, Ownership, OwnershipMode, OwnershipOutcome, Publisher, ResendWindow, Transport,
    Unsent,
};
use fastrand::Rng;
use parking_lot::Mutex;
use serde_json::Value;

use crate::support::emit;

/// One event in the log: its producer, its number, and its content.
type Logged = (Arc<str>, u64, u64);

struct Server {
    log: Vec<Logged>,
    random: Rng,
    /// How far back a failover may go: to the beginning, or as long as every producer is still known.
    to_nothing: bool,
    /// Most events that a failover loses.
    depth: usize,
    calm: bool,
    failovers: usize,
}

impl Server {
    fn fail_over(&mut self) {
        self.failovers += 1;
        let most = self.random.usize(..self.depth).min(self.log.len());
        for _ in 0..most {
            if self.log.last().is_some_and(|(_, number, _)| *number == 1 && !self.to_nothing) {
                return;
            }
            self.log.pop();
        }
    }

    fn append(&mut self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        let Once::Sequence { producer, first } = &append.once else { panic!("numbered") };
        let last = self.log.iter().filter(|(of, ..)| of == producer).map(|(_, number, _)| *number).max().unwrap_or(0);
        if *first > last + 1 {
            return Err(AppendError::Gap { expected: last + 1 });
        }
        let numbered = (*first..).zip(&append.entries);
        self.log.extend(numbered.filter(|(n, _)| *n > last).map(|(n, entry)| (producer.clone(), n, said(entry))));
        Ok(vec![None; append.entries.len()])
    }
}

fn said(entry: &Entry) -> u64 {
    serde_json::from_slice::<Value>(entry.body.object()).unwrap()["n"].as_u64().unwrap()
}

struct Model(Mutex<Server>);

#[async_trait::async_trait]
impl Transport for Model {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        tokio::task::yield_now().await;
        let mut server = self.0.lock();
        if !server.calm && server.random.u8(..6) == 0 {
            server.fail_over();
        }
        let lost = !server.calm && server.random.u8(..6) == 0;
        if lost && server.random.bool() {
            return Err(AppendError::Unavailable("lost on its way".to_owned()));
        }
        let answer = server.append(append);
        if lost { Err(AppendError::Unavailable("its answer was lost".to_owned())) } else { answer }
    }

    async fn publish_live(&self, _: &Channel, _: Bytes) -> Result<(), AppendError> {
        Ok(())
    }

    async fn register(&self, _: &Ownership, _: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        Ok(OwnershipOutcome::Done)
    }
}

const EACH: u64 = 1_000_000;
const PUBLISHERS: usize = 3;

struct Outcome {
    /// By publisher: the events in the log, the emitted events, and how many were counted as dropped.
    of: HashMap<u64, (Vec<u64>, u64, u64)>,
    failovers: usize,
    resent: u64,
}

async fn run(seed: u64, window: ResendWindow, to_nothing: bool, depth: usize) -> Outcome {
    let mut random = Rng::with_seed(seed);
    let server = Server { log: Vec::new(), random: random.fork(), to_nothing, depth, calm: false, failovers: 0 };
    let model = Arc::new(Model(Mutex::new(server)));
    let publisher = || Publisher::builder().resend_window(window).with_transport(model.clone());
    let publishers: Vec<Publisher> = std::iter::repeat_with(publisher).take(PUBLISHERS).collect();
    let mut emitted = [0; PUBLISHERS];
    for _ in 0..60 {
        let one = random.usize(..PUBLISHERS);
        let first = one as u64 * EACH + emitted[one];
        let count = random.u64(1..depth as u64);
        emit(&publishers[one], first..first + count);
        emitted[one] += count;
        tokio::time::sleep(Duration::from_millis(random.u64(..300))).await;
    }
    // Only events that are emitted after the last failover reveal it.
    model.0.lock().calm = true;
    for (one, publisher) in publishers.iter().enumerate() {
        while publisher.queued() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        emit(publisher, [one as u64 * EACH + emitted[one]]);
        emitted[one] += 1;
        assert_eq!(publisher.close(Duration::from_secs(60)).await, Unsent::default(), "seed {seed}");
    }
    let server = model.0.lock();
    let of_one = |one: usize| {
        let log: Vec<u64> = server.log.iter().map(|(.., n)| *n).filter(|n| n / EACH == one as u64).collect();
        (one as u64, (log, emitted[one], publishers[one].stats().dropped))
    };
    let resent = publishers.iter().map(|publisher| publisher.stats().resent).sum();
    Outcome { of: (0..PUBLISHERS).map(of_one).collect(), failovers: server.failovers, resent }
}

#[tokio::test(start_paused = true)]
async fn with_enough_room_every_log_is_complete() {
    let (mut failovers, mut resent) = (0, 0);
    for round in 0..200 {
        let seed = fastrand::u64(..);
        println!("round {round}, seed {seed}");
        let outcome = run(seed, ResendWindow::default(), false, 40).await;
        failovers += outcome.failovers;
        resent += outcome.resent;
        for (one, (log, emitted, dropped)) in outcome.of {
            assert_eq!(log, (one * EACH..one * EACH + emitted).collect::<Vec<_>>());
            assert_eq!(dropped, 0);
        }
    }
    assert!(failovers > 1000 && resent > 10_000, "{failovers} failovers, {resent} sent again");
}

/// Whatever is lost, each event in the log is there once and in order, and none of them is counted as lost.
#[tokio::test(start_paused = true)]
async fn with_little_room_nothing_is_duplicated_or_out_of_order() {
    for round in 0..100 {
        let seed = fastrand::u64(..);
        println!("round {round}, seed {seed}");
        let depth = if round % 2 == 0 { 60 } else { 600 };
        let window = ResendWindow { events: depth / 2, ..ResendWindow::default() };
        for (log, emitted, dropped) in run(seed, window, true, depth).await.of.into_values() {
            assert!(log.windows(2).all(|pair| pair[0] < pair[1]), "{log:?}");
            assert!(log.len() as u64 + dropped <= emitted, "{} + {dropped} of {emitted}", log.len());
        }
    }
}
