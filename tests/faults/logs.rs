//! Logs are lost, trimmed and expired: what is missing is told, and what is not missing is not.

use std::time::Duration;

use crewcast_events::Keys;
use crewcast_test_servers::RedisServer;

use crate::{
    reader::Kind,
    stage::{CHANNELS, Setup, Stage},
    verdict::Faults,
};

/// How many of the readers sleep.
const SLEEPERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_flushed() {
    let redis = RedisServer::start();
    let stage = Stage::start(&redis, Setup::default()).await;
    let _: String = redis.command(&["FLUSHALL"]).await;
    let all_told = || stage.readers.iter().all(|reader| !reader.seen().resets.is_empty());
    stage.until("every reader is told", all_told).await;
    stage.flow(50).await;
    let verdict = stage.finish(&redis, "FLUSHALL").await;
    for (about, faults) in &verdict.readers {
        // An event that was logged and not yet delivered is lost with its log; that is what the reset says.
        assert_eq!(*faults, Faults { resets: 1, told: faults.told, ..Faults::default() }, "{about}");
        assert!(faults.told < 100, "{about}: {faults:?}");
    }
    for reader in &stage.readers {
        assert_eq!(reader.seen().resets[0], "unknown_id");
        assert!(reader.sockets() == 1 && reader.seen().last_id.unwrap().offset() < stage.producer.last());
    }
}

/// Kills Redis and starts it again with what it has saved; everybody is told once.
async fn restarted(mut redis: RedisServer, saves: bool, fault: &str) {
    let stage = Stage::start(&redis, Setup { log_survives: false, ..Setup::default() }).await;
    if saves {
        let _: String = redis.command(&["SAVE"]).await;
    }
    stage.flow(50).await;
    redis.kill();
    redis.restart();
    let all_told = || stage.readers.iter().all(|reader| !reader.seen().resets.is_empty());
    stage.until("every reader is told", all_told).await;
    stage.flow(50).await;
    let verdict = stage.finish(&redis, fault).await;
    for (reader, (about, faults)) in stage.readers.iter().zip(&verdict.readers) {
        // What the log still holds comes again; the client crate knows it by its ids. What Redis had published and not
        // confirmed when it died is logged once more, with other ids.
        let knows_all = reader.kind == Kind::Client || !saves;
        assert!(if knows_all { faults.again < 20 } else { faults.again >= 20 }, "{about}: {faults:?}");
        let Faults { told, again, .. } = *faults;
        assert_eq!(*faults, Faults { resets: 1, told, again, ..Faults::default() }, "{about}");
        assert!(faults.told < 100, "{about}: {faults:?}");
        assert_eq!(reader.seen().resets[0], "unknown_id", "{about}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_restarted_empty() {
    restarted(RedisServer::start(), false, "Redis restarted without what it held").await;
}

/// As behind a failover to a replica that lagged, or a restart with `appendfsync everysec`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_restarted_with_an_older_state() {
    restarted(RedisServer::start(), true, "Redis restarted with an older state").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_trimmed_below_sleeping_readers() {
    const LOG: u32 = 300;
    let redis = RedisServer::start();
    // What a ring still holds is given to those who come back, whatever has become of the log.
    let settings = vec![("CREWCAST_LIMITS__RING_EVENTS", "200".to_owned())];
    let setup = Setup { log_length: LOG, pace: Duration::from_millis(10), settings, ..Setup::default() };
    let mut stage = Stage::start(&redis, setup).await;
    for reader in &mut stage.readers[..SLEEPERS] {
        reader.sleep().await;
    }
    let trimmed = stage.producer.last() + u64::from(LOG) + 100;
    let all_had = || stage.readers[SLEEPERS..].iter().all(|reader| reader.last() > trimmed);
    stage.until("those who are awake read on", all_had).await;
    for reader in &mut stage.readers[..SLEEPERS] {
        reader.wake();
    }
    stage.flow(50).await;
    let verdict = stage.finish(&redis, "log trimmed below sleeping readers").await;
    for (about, faults) in &verdict.readers[..SLEEPERS] {
        assert!(faults.told >= 100, "{about}: {faults:?}");
        assert_eq!(*faults, Faults { resets: 1, told: faults.told, ..Faults::default() }, "{about}");
    }
    assert!(stage.readers[..SLEEPERS].iter().all(|reader| reader.seen().resets[0] == "trimmed"));
    for (about, faults) in &verdict.readers[SLEEPERS..] {
        assert_eq!(*faults, Faults::default(), "{about}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_expired_over_a_quiet_night() {
    let redis = RedisServer::start();
    let setup = Setup { log_age: Duration::from_secs(2), ..Setup::default() };
    let mut stage = Stage::start(&redis, setup).await;
    stage.producer.pause();
    let head = async |channel: &str| -> Option<String> {
        redis.command(&["GET", &Keys::default().head(&channel.parse().unwrap())]).await
    };
    stage
        .until_async("every reader is at the head", async || {
            for reader in &stage.readers {
                let last = reader.seen().last_id.map(|id| id.to_string());
                if last != head(reader.channel).await {
                    return false;
                }
            }
            true
        })
        .await;
    for reader in &mut stage.readers[..SLEEPERS] {
        reader.sleep().await;
    }
    let expired = async || {
        let logs = CHANNELS.map(|channel| Keys::default().log(&channel.parse().unwrap()));
        redis.command::<u64>(&["EXISTS", &logs[0], &logs[1], &logs[2], &logs[3]]).await == 0
    };
    stage.until_async("the logs are gone", expired).await;
    for reader in &mut stage.readers[..SLEEPERS] {
        reader.wake();
    }
    let all_back = || stage.readers[..SLEEPERS].iter().all(|reader| reader.sockets() == 2);
    stage.until("the sleepers are back", all_back).await;
    stage.producer.resume();
    stage.flow(50).await;
    stage.finish(&redis, "logs expired while readers slept").await.assert_whole();
}
