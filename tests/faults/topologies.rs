//! Faults of a Sentinel group and a Cluster: failovers under writes, killed masters, moved slots.

use crewcast_events::Keys;
use crewcast_publisher::slot_of;
use crewcast_test_servers::{Cluster, SentinelGroup};

use crate::{
    stage::{Broker, CHANNELS, Setup, Stage},
    verdict::Faults,
};

impl Broker for SentinelGroup {
    fn url(&self) -> String {
        SentinelGroup::url(self)
    }

    fn log(&self, channel: &str) -> Vec<String> {
        self.servers[self.master()].log(channel)
    }
}

impl Broker for Cluster {
    fn url(&self) -> String {
        Cluster::url(self)
    }

    fn log(&self, channel: &str) -> Vec<String> {
        let key = Keys::default().log(&channel.parse().unwrap());
        let holder = self.holder(slot_of(channel.as_bytes())).expect("a holder");
        self.servers[holder].run(&[b"LRANGE", key.as_bytes(), b"0", b"-1"])
    }
}

/// The index in [`Cluster::servers`] of the master of each channel.
fn holders(cluster: &Cluster) -> [usize; CHANNELS.len()] {
    CHANNELS.map(|channel| cluster.holder(slot_of(channel.as_bytes())).expect("a holder"))
}

/// Kills the master between two events, when its replicas have everything that it has confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinels_master_killed_under_writes() {
    let mut group = SentinelGroup::start();
    let stage = Stage::start(&group, Setup::default()).await;
    for _ in 0..2 {
        let old = group.master();
        let last = stage.producer.pause();
        let all_had = || stage.readers.iter().all(|reader| reader.last() >= last);
        stage.until("every reader has the last event", all_had).await;
        let replicas: i64 = group.servers[old].command(&["WAIT", "2", "5000"]).await;
        assert_eq!(replicas, 2);
        group.servers[old].kill();
        stage.producer.resume();
        group.failed_over(old);
        stage.flow(20).await;
        let master = group.servers[group.master()].port.to_string();
        group.servers[old].restart_with(&["--replicaof", "127.0.0.1", &master]);
        stage
            .until_async("the old master replicates", async || {
                group.servers[old]
                    .try_run::<String>(&[b"INFO", b"replication"])
                    .is_ok_and(|text| text.contains("link_status:up"))
            })
            .await;
    }
    let verdict = stage.finish(&group, "Sentinel failover under writes, twice").await;
    assert!(stage.readers.iter().all(|reader| reader.sockets() == 1), "the fault closed a socket");
    verdict.assert_whole();
}

/// The master hangs until the Sentinels have failed over, and wakes up as if it were still the master.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinels_master_that_hangs_and_wakes_up() {
    let group = SentinelGroup::start();
    let stage = Stage::start(&group, Setup::default()).await;
    let old = group.master();
    group.servers[old].pause();
    group.failed_over(old);
    group.servers[old].resume();
    stage.flow(50).await;
    // The publisher has resent what the master had confirmed but not replicated, so history is complete. Readers that
    // saw those events on the old master are told.
    let verdict = stage.finish(&group, "Sentinel master hung, another took over, the old one woke up").await;
    for (about, faults) in &verdict.readers {
        assert_eq!((faults.lost, faults.disordered, faults.gaps), (0, 0, 0), "{about}: {faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clusters_master_killed_under_writes() {
    let mut cluster = Cluster::start();
    let stage = Stage::start(&cluster, Setup::default()).await;
    let victim = holders(&cluster)[0];
    let last = stage.producer.pause();
    stage.until("every reader has the last event", || stage.readers.iter().all(|reader| reader.last() >= last)).await;
    let replicas: i64 = cluster.servers[victim].run(&[b"WAIT", b"1", b"5000"]);
    assert_eq!(replicas, 1);
    cluster.servers[victim].kill();
    stage.producer.resume();
    cluster.failed_over(slot_of(CHANNELS[0].as_bytes()), victim);
    stage.flow(50).await;
    let verdict = stage.finish(&cluster, "Cluster master killed under writes").await;
    assert!(stage.readers.iter().all(|reader| reader.sockets() == 1), "the fault closed a socket");
    verdict.assert_whole();
}

/// Moves the slots that are in use to other masters and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_moved_under_writes() {
    let cluster = Cluster::start();
    let stage = Stage::start(&cluster, Setup::default()).await;
    let home = holders(&cluster);
    for round in 0..3 {
        for (channel, home) in CHANNELS.iter().zip(home) {
            cluster.move_slot(slot_of(channel.as_bytes()), (home + round + 1) % 3);
        }
        stage.flow(20).await;
    }
    assert_eq!(holders(&cluster), home, "the slots are back");
    let verdict = stage.finish(&cluster, "Cluster slots moved under writes, three times").await;
    // A replica reconnects only if a slot is given up at the very moment of a request to that server.
    let moves = 3 * CHANNELS.len();
    for replica in &stage.replicas {
        assert!(replica.reconnects().await <= moves as f64 / 4.0, "too many reconnects");
    }
    assert!(stage.readers.iter().all(|reader| reader.sockets() == 1), "the fault closed a socket");
    verdict.assert_whole();
}

/// The master confirms events that no replica gets, and dies. Connected readers have seen them and are told that the
/// log does not hold them. The publisher resends them, so that history is complete for all readers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failover_loses_is_told() {
    const SLEEPERS: usize = 4;
    let mut group = SentinelGroup::start();
    let mut stage = Stage::start(&group, Setup::default()).await;
    let old = group.master();
    for reader in &mut stage.readers[..SLEEPERS] {
        reader.sleep().await;
    }
    let _: i64 = group.servers[old].command(&["WAIT", "2", "5000"]).await;
    // From here on, nothing reaches a replica, not even the buffers of a connection, but everything is confirmed.
    let replicas: Vec<usize> = (0..group.servers.len()).filter(|index| *index != old).collect();
    replicas.iter().for_each(|index| group.servers[*index].pause());
    assert_eq!(group.servers[old].command::<u64>(&["CLIENT", "KILL", "TYPE", "replica"]).await, 2);
    let confirmed = stage.producer.last() + 30;
    let all_had = || stage.readers[SLEEPERS..].iter().all(|reader| reader.last() >= confirmed);
    stage.until("connected readers have what no replica has", all_had).await;
    group.servers[old].kill();
    for index in replicas {
        group.servers[index].resume();
        let held = Broker::log(&group.servers[index], CHANNELS[0]).len() as u64;
        assert!(held < confirmed, "the new master has all confirmed events: {held} of {confirmed}");
    }
    group.failed_over(old);
    for reader in &mut stage.readers[..SLEEPERS] {
        reader.wake();
    }
    stage.flow(50).await;
    let verdict = stage.finish(&group, "Sentinel failover that loses confirmed events").await;
    for (about, faults) in &verdict.readers {
        // The client drops repeated events. Readers that resume by hand get them again, and are told so.
        let told = Faults { resets: faults.resets, again: faults.again, told: faults.told, ..Faults::default() };
        assert_eq!(*faults, told, "{about}");
    }
    // No reset if the events were back in the log before the gateway looked.
    assert!(verdict.readers.iter().all(|(_, faults)| faults.resets <= 1), "{:#?}", verdict.readers);
}
