//! Faults that can be started and repaired, alone or several at once.

use std::time::Duration;

use crewcast_test_servers::{Proxy, RedisServer};

use crate::stage::{Setup, Stage};

/// A fault. The variants are in the order of repair, so that a replica comes back to a Redis that runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    RedisKilled,
    RedisFrozen,
    SubscribersKilled,
    ConnectionsKilled,
    Burst,
    NetworkCut,
    NetworkCutInside,
    NetworkSlow,
    NetworkSilent,
    ReplicaKilled,
    ReplicaRolled,
    ReaderAway,
    ProducerCut,
    ProducerSilent,
}

/// One list for each thing that breaks. At most one fault of each list is active at a time.
pub(crate) const KINDS: [&[Fault]; 5] = [
    &[Fault::RedisKilled, Fault::RedisFrozen, Fault::SubscribersKilled, Fault::ConnectionsKilled, Fault::Burst],
    &[Fault::NetworkCut, Fault::NetworkCutInside, Fault::NetworkSlow, Fault::NetworkSilent],
    &[Fault::ReplicaKilled, Fault::ReplicaRolled],
    &[Fault::ReaderAway],
    &[Fault::ProducerCut, Fault::ProducerSilent],
];

impl Fault {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Fault::RedisKilled => "Redis killed, appendfsync always",
            Fault::RedisFrozen => "Redis frozen",
            Fault::SubscribersKilled => "CLIENT KILL TYPE pubsub",
            Fault::ConnectionsKilled => "every connection to Redis killed",
            Fault::Burst => "output buffer limit hit",
            Fault::NetworkCut => "network to one replica cut",
            Fault::NetworkCutInside => "network to one replica cut inside a message",
            Fault::NetworkSlow => "network to one replica slow by up to 400 ms",
            Fault::NetworkSilent => "network to one replica a black hole",
            Fault::ReplicaKilled => "kill -9 of a replica",
            Fault::ReplicaRolled => "SIGTERM of a replica",
            Fault::ReaderAway => "a reader away",
            Fault::ProducerCut => "the producer's answer cut",
            Fault::ProducerSilent => "network to the producer a black hole",
        }
    }

    /// How long the fault lasts at most.
    pub(crate) fn longest(self) -> Duration {
        match self {
            Fault::RedisKilled | Fault::RedisFrozen | Fault::ReaderAway => Duration::from_secs(3),
            Fault::NetworkCut | Fault::ReplicaKilled => Duration::from_secs(2),
            Fault::NetworkSlow => Duration::from_secs(5),
            // Often longer than the heartbeat.
            Fault::NetworkSilent | Fault::ProducerSilent => Duration::from_secs(12),
            // These faults are over as soon as they have started.
            Fault::SubscribersKilled
            | Fault::ConnectionsKilled
            | Fault::Burst
            | Fault::NetworkCutInside
            | Fault::ProducerCut
            | Fault::ReplicaRolled => Duration::ZERO,
        }
    }
}

/// The victims of a fault. The replica whose network fails is not the one that fails itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Victims {
    pub replica: usize,
    pub link: usize,
    pub reader: usize,
}

/// A stage on which every fault can be started, with its Redis.
pub(crate) struct Chaos {
    pub redis: RedisServer,
    pub stage: Stage,
}

impl Chaos {
    pub(crate) async fn start() -> Self {
        let persistent = ["--appendonly", "yes", "--appendfsync", "always"];
        let bounded = ["--client-output-buffer-limit", "pubsub", "64kb", "64kb", "0"];
        let redis = RedisServer::start_with(&[&persistent[..], &bounded[..]].concat());
        let settings = vec![
            ("CREWCAST_DRAIN__SPREAD", "2s".to_owned()),
            ("CREWCAST_DRAIN__GRACE", "8s".to_owned()),
            // A small ring, so that readers that were away for a second catch up from the log.
            ("CREWCAST_LIMITS__RING_EVENTS", "64".to_owned()),
        ];
        let stage = Stage::start(&redis, Setup { proxied: true, settings, ..Setup::default() }).await;
        Self { redis, stage }
    }

    fn link(&self, victims: Victims) -> &Proxy {
        self.stage.replicas[victims.link].proxy.as_ref().expect("each replica has a proxy")
    }

    fn producer_link(&self) -> &Proxy {
        self.stage.producer_link.as_ref().expect("the producer has a proxy")
    }

    pub(crate) async fn begin(&mut self, fault: Fault, victims: Victims, random: &mut fastrand::Rng) {
        match fault {
            Fault::RedisKilled => self.redis.kill(),
            Fault::RedisFrozen => self.redis.pause(),
            Fault::SubscribersKilled => self.kill_clients(&["pubsub"]).await,
            Fault::ConnectionsKilled => self.kill_clients(&["normal", "pubsub"]).await,
            Fault::Burst => self.stage.producer.burst(3, 100 << 10),
            Fault::NetworkCut => self.link(victims).refuse(),
            Fault::NetworkCutInside => self.link(victims).cut_inside(random.usize(40..180)),
            Fault::NetworkSlow => self.link(victims).delay(Duration::from_millis(random.u64(..400))),
            Fault::NetworkSilent => self.link(victims).black_hole(),
            Fault::ReplicaKilled => self.stage.replicas[victims.replica].gateway.kill(),
            Fault::ReplicaRolled => {
                self.stage.pass_over(victims.replica);
                self.stage.replicas[victims.replica].gateway.terminate();
            }
            Fault::ReaderAway => self.stage.readers[victims.reader].sleep().await,
            Fault::ProducerCut => self.producer_link().cut_inside(1),
            Fault::ProducerSilent => self.producer_link().black_hole(),
        }
    }

    pub(crate) async fn mend(&mut self, fault: Fault, victims: Victims) {
        match fault {
            Fault::RedisKilled => self.redis.restart(),
            Fault::RedisFrozen => self.redis.resume(),
            Fault::SubscribersKilled | Fault::ConnectionsKilled | Fault::Burst => {}
            Fault::NetworkCut | Fault::NetworkCutInside | Fault::NetworkSlow | Fault::NetworkSilent => {
                self.link(victims).forward();
            }
            Fault::ReplicaKilled => self.stage.replicas[victims.replica].succeed().await,
            Fault::ReplicaRolled => {
                let left = self.stage.replicas[victims.replica].gateway.exit().await;
                assert!(left.success(), "the replica drains and exits with success");
                self.stage.replicas[victims.replica].succeed().await;
                self.stage.pass_to_all();
            }
            Fault::ReaderAway => self.stage.readers[victims.reader].wake(),
            Fault::ProducerCut | Fault::ProducerSilent => self.producer_link().forward(),
        }
    }

    async fn kill_clients(&self, kinds: &[&str]) {
        for kind in kinds {
            let _: u64 = self.redis.command(&["CLIENT", "KILL", "TYPE", kind]).await;
        }
    }
}
