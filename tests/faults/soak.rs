//! Random faults, over and over, for as long as it is told: `make soak`.

use std::{
    collections::BTreeMap,
    io::Write,
    time::{Duration, Instant},
};

use crewcast_test_servers::{Proxy, RedisServer};

use crate::{
    stage::{Setup, Stage},
    support::seed,
    verdict::{Faults, HEAD, Verdict},
};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    KillReplica,
    RollReplica,
    RestartRedis,
    FreezeRedis,
    KillSubscribers,
    KillConnections,
    Burst,
    CutNetwork,
    CutInsideMessage,
    SlowNetwork,
    BlackHole,
    SleepingReader,
}

const ALL: [Fault; 12] = [
    Fault::KillReplica,
    Fault::RollReplica,
    Fault::RestartRedis,
    Fault::FreezeRedis,
    Fault::KillSubscribers,
    Fault::KillConnections,
    Fault::Burst,
    Fault::CutNetwork,
    Fault::CutInsideMessage,
    Fault::SlowNetwork,
    Fault::BlackHole,
    Fault::SleepingReader,
];

impl Fault {
    fn label(self) -> &'static str {
        match self {
            Fault::KillReplica => "kill -9 of a replica",
            Fault::RollReplica => "SIGTERM of a replica",
            Fault::RestartRedis => "Redis killed, appendfsync always",
            Fault::FreezeRedis => "Redis frozen for up to 3 s",
            Fault::KillSubscribers => "CLIENT KILL TYPE pubsub",
            Fault::KillConnections => "every connection to Redis killed",
            Fault::Burst => "output buffer limit hit",
            Fault::CutNetwork => "network to one replica cut for up to 2 s",
            Fault::CutInsideMessage => "network to one replica cut inside a message",
            Fault::SlowNetwork => "network to one replica slow by up to 400 ms",
            Fault::BlackHole => "network to one replica a black hole for up to 8 s",
            Fault::SleepingReader => "a reader away for up to 3 s",
        }
    }
}

struct Soak {
    redis: RedisServer,
    stage: Stage,
    random: fastrand::Rng,
}

impl Soak {
    async fn start(seed: u64) -> Self {
        let redis = RedisServer::start_with(&[
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--client-output-buffer-limit",
            "pubsub",
            "64kb",
            "64kb",
            "0",
        ]);
        let settings = vec![("CREWCAST_DRAIN__SPREAD", "2s".to_owned()), ("CREWCAST_DRAIN__GRACE", "8s".to_owned())];
        let stage = Stage::start(&redis, Setup { proxied: true, settings, ..Setup::default() }).await;
        Self { redis, stage, random: fastrand::Rng::with_seed(seed) }
    }

    /// A random time up to `most`: how long a fault lasts.
    async fn lasts(&mut self, most: Duration) {
        tokio::time::sleep(most.mul_f64(self.random.f64())).await;
    }

    fn link(&self, replica: usize) -> &Proxy {
        self.stage.replicas[replica].proxy.as_ref().expect("a proxy stands before each")
    }

    async fn inject(&mut self, fault: Fault) {
        let victim = self.random.usize(..self.stage.replicas.len());
        match fault {
            Fault::KillReplica => {
                self.stage.replicas[victim].gateway.kill();
                self.lasts(Duration::from_secs(1)).await;
                self.stage.replicas[victim].succeed().await;
            }
            Fault::RollReplica => {
                self.stage.pass_over(victim);
                self.stage.replicas[victim].gateway.terminate();
                assert!(self.stage.replicas[victim].gateway.exit().await.success(), "it leaves as it should");
                self.stage.replicas[victim].succeed().await;
                self.stage.pass_to_all();
            }
            Fault::RestartRedis => {
                self.redis.kill();
                self.lasts(Duration::from_secs(3)).await;
                self.redis.restart();
            }
            Fault::FreezeRedis => {
                self.redis.pause();
                self.lasts(Duration::from_secs(3)).await;
                self.redis.resume();
            }
            Fault::KillSubscribers => self.kill_clients(&["pubsub"]).await,
            Fault::KillConnections => self.kill_clients(&["normal", "pubsub"]).await,
            Fault::Burst => self.stage.producer.burst(100, 4 << 10),
            Fault::CutNetwork | Fault::CutInsideMessage | Fault::SlowNetwork | Fault::BlackHole => {
                self.disturb(fault, victim).await;
            }
            Fault::SleepingReader => {
                let reader = self.random.usize(..self.stage.readers.len());
                self.stage.readers[reader].sleep().await;
                self.lasts(Duration::from_secs(3)).await;
                self.stage.readers[reader].wake();
            }
        }
    }

    async fn disturb(&mut self, fault: Fault, replica: usize) {
        match fault {
            Fault::CutNetwork => {
                self.link(replica).refuse();
                self.lasts(Duration::from_secs(2)).await;
            }
            Fault::CutInsideMessage => {
                let within = self.random.usize(40..180);
                self.link(replica).cut_inside(within);
            }
            Fault::SlowNetwork => {
                let late = Duration::from_millis(self.random.u64(..400));
                self.link(replica).delay(late);
                self.lasts(Duration::from_secs(5)).await;
            }
            _ => {
                self.link(replica).black_hole();
                self.lasts(Duration::from_secs(8)).await;
            }
        }
        self.link(replica).forward();
    }

    async fn kill_clients(&self, kinds: &[&str]) {
        for kind in kinds {
            let _: u64 = self.redis.command(&["CLIENT", "KILL", "TYPE", kind]).await;
        }
    }

    /// What every reader has met so far.
    fn faults(&self) -> Vec<Faults> {
        self.stage.readers.iter().map(|reader| reader.seen().ledger.faults()).collect()
    }

    /// The longest silence at any reader since the last call.
    fn take_silence(&self) -> Duration {
        let silences = self.stage.readers.iter().map(|reader| std::mem::take(&mut reader.seen().silence));
        silences.max().unwrap_or_default()
    }
}

/// What came of one kind of fault.
#[derive(Default)]
struct Sum {
    times: usize,
    events: u64,
    faults: BTreeMap<usize, Faults>,
    silence: Duration,
}

impl Sum {
    fn verdict(&self, fault: Fault, soak: &Soak) -> Verdict {
        let readers = 0..soak.stage.readers.len();
        let faults = |reader| self.faults.get(&reader).copied().unwrap_or_default();
        Verdict {
            fault: format!("{}, {} times", fault.label(), self.times),
            replicas: soak.stage.replicas.len(),
            events: self.events,
            readers: readers.map(|reader| (format!("reader {reader}"), faults(reader))).collect(),
            silence: self.silence,
        }
    }
}

fn minutes() -> f64 {
    std::env::var("SOAK_MINUTES").ok().map_or(10.0, |minutes| minutes.parse().expect("SOAK_MINUTES is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes, or SOAK_MINUTES: make soak"]
async fn random_faults() {
    let seed = seed();
    let length = Duration::from_secs_f64(minutes() * 60.0);
    let mut soak = Soak::start(seed).await;
    let began = Instant::now();
    let mut sums: BTreeMap<Fault, Sum> = BTreeMap::new();
    while began.elapsed() < length {
        let fault = ALL[soak.random.usize(..ALL.len())];
        let (events, before, _) = (soak.stage.producer.last(), soak.faults(), soak.take_silence());
        println!("{:>6.1} s  event {events}: {}", began.elapsed().as_secs_f64(), fault.label());
        soak.inject(fault).await;
        soak.stage.flow(20).await;
        let sum = sums.entry(fault).or_default();
        sum.times += 1;
        sum.events += soak.stage.producer.last() - events;
        sum.silence = sum.silence.max(soak.take_silence());
        for (reader, (now, before)) in soak.faults().into_iter().zip(before).enumerate() {
            sum.faults.entry(reader).or_default().add(now.since(before));
        }
    }
    let _ = writeln!(std::io::stderr(), "\nCREWCAST_TEST_SEED={seed}\n\n{HEAD}");
    for (fault, sum) in &sums {
        sum.verdict(*fault, &soak).print();
    }
    soak.stage.finish(&soak.redis, "all together").await.assert_whole();
}
