//! Random faults for `SOAK_MINUTES`: `make soak`.

use std::{
    collections::BTreeMap,
    io::Write,
    time::{Duration, Instant},
};

use crate::{
    chaos::{Chaos, Fault, KINDS, Victims},
    support::seed,
    verdict::{Faults, HEAD, Verdict},
};

/// A fault is over when each reader has received this many further events.
const OVER: usize = 20;

/// The sum of all verdicts on one kind of fault.
#[derive(Default)]
struct Sum {
    times: usize,
    events: u64,
    /// One entry for each reader.
    faults: Vec<Faults>,
    silence: Duration,
}

struct Soak {
    chaos: Chaos,
    random: fastrand::Rng,
    sums: BTreeMap<&'static str, Sum>,
}

impl Soak {
    /// Picks one fault, or several that break different things.
    fn pick(&mut self) -> Vec<Fault> {
        let several = self.random.u8(..3) == 0;
        let mut faults = Vec::new();
        for kind in KINDS {
            if several && self.random.bool() {
                faults.extend(self.random.choice(kind));
            }
        }
        if faults.is_empty() {
            // Every fault is equally likely, whatever the lengths of the lists.
            faults.extend(self.random.choice(KINDS.concat()));
        }
        faults.sort_unstable();
        faults
    }

    fn victims(&mut self) -> Victims {
        let stage = &self.chaos.stage;
        let link = self.random.usize(..stage.replicas.len());
        let replica = (link + 1) % stage.replicas.len();
        Victims { link, replica, reader: self.random.usize(..stage.readers.len()) }
    }

    async fn round(&mut self) {
        let (faults, victims) = (self.pick(), self.victims());
        let label = if let [fault] = faults[..] { fault.label() } else { "several of these at once" };
        let (events, before, _) = (self.chaos.stage.producer.last(), self.faults(), self.take_silence());
        println!("event {events}: {faults:?}, {victims:?}");
        for fault in &faults {
            self.chaos.begin(*fault, victims, &mut self.random).await;
        }
        let longest = faults.iter().map(|fault| fault.longest()).max().unwrap_or_default();
        // Let the faults last.
        tokio::time::sleep(longest.mul_f64(self.random.f64())).await;
        for fault in &faults {
            self.chaos.mend(*fault, victims).await;
        }
        self.chaos.stage.flow(OVER).await;
        let (events, silence) = (self.chaos.stage.producer.last() - events, self.take_silence());
        let met = self.faults().into_iter().zip(before).map(|(now, before)| now.since(before)).collect();
        self.sums.entry(label).or_default().add(events, met, silence);
    }

    /// What went wrong for every reader so far.
    fn faults(&self) -> Vec<Faults> {
        self.chaos.stage.readers.iter().map(|reader| reader.seen().ledger.faults()).collect()
    }

    /// The longest silence of any reader since the last call.
    fn take_silence(&self) -> Duration {
        let silences = self.chaos.stage.readers.iter().map(|reader| std::mem::take(&mut reader.seen().silence));
        silences.max().unwrap_or_default()
    }
}

impl Sum {
    fn add(&mut self, events: u64, met: Vec<Faults>, silence: Duration) {
        self.times += 1;
        self.events += events;
        self.silence = self.silence.max(silence);
        self.faults.resize(met.len(), Faults::default());
        self.faults.iter_mut().zip(met).for_each(|(sum, met)| sum.add(met));
    }

    fn verdict(&self, label: &str, replicas: usize) -> Verdict {
        let readers = self.faults.iter().enumerate().map(|(n, faults)| (format!("reader {n}"), *faults)).collect();
        let fault = format!("{label}, {} ×", self.times);
        Verdict { fault, replicas, events: self.events, readers, silence: self.silence }
    }
}

fn length() -> Duration {
    let minutes = std::env::var("SOAK_MINUTES").ok();
    Duration::from_secs_f64(60.0 * minutes.map_or(10.0, |minutes| minutes.parse().expect("SOAK_MINUTES is a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes, or SOAK_MINUTES: make soak"]
async fn random_faults() {
    let seed = seed();
    let chaos = Chaos::start().await;
    let mut soak = Soak { chaos, random: fastrand::Rng::with_seed(seed), sums: BTreeMap::new() };
    let began = Instant::now();
    while began.elapsed() < length() {
        soak.round().await;
    }
    let _ = writeln!(std::io::stderr(), "\nCREWCAST_TEST_SEED={seed}\n\n{HEAD}");
    let replicas = soak.chaos.stage.replicas.len();
    for (label, sum) in &soak.sums {
        sum.verdict(label, replicas).print();
    }
    let stage = &soak.chaos.stage;
    stage.settle(&soak.chaos.redis).await;
    let mut all = Verdict::of("from beginning to end", replicas, &stage.readers, stage.producer.last());
    all.silence = soak.sums.values().map(|sum| sum.silence).max().unwrap_or_default();
    all.print();
    all.assert_whole();
}
