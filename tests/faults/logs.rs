//! Logs are lost, trimmed and expired. Readers are told what is missing, and nothing else.

use std::time::Duration;

use crewcast_events::Keys;
use crewcast_test_servers::RedisServer;

use crate::{
    reader::Kind,
    stage::{CHANNELS, Setup, Stage},
    verdict::Faults,
};

/// The number of readers that sleep.
const SLEEPERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_flushed() {
    let redis = RedisServer::start();
    let stage = Stage::start(&redis, Setup { log_survives: false, ..Setup::default() }).await;
    let _: String = redis.command(&["FLUSHALL"]).await;
    let all_told = || stage.readers.iter().all(|reader| !reader.seen().resets.is_empty());
    stage.until("every reader is told", all_told).await;
    stage.flow(50).await;
    let verdict = stage.finish(&redis, "FLUSHALL").await;
    for (about, faults) in &verdict.readers {
        // An event that was logged but not delivered is lost with its log, and the reset reports that.
        assert_eq!(*faults, Faults { resets: 1, told: faults.told, ..Faults::default() }, "{about}");
        assert!(faults.told < 100, "{about}: {faults:?}");
    }
    for reader in &stage.readers {
        assert_eq!(reader.seen().resets[0], "unknown_id");
        assert!(reader.sockets() == 1 && reader.seen().last_id.unwrap().offset() < stage.producer.last());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_restarted_empty() {
    let mut redis = RedisServer::start();
    let stage = Stage::start(&redis, Setup { log_survives: false, ..Setup::default() }).await;
    stage.flow(50).await;
    redis.kill();
    redis.restart();
    let all_told = || stage.readers.iter().all(|reader| !reader.seen().resets.is_empty());
    stage.until("every reader is told", all_told).await;
    stage.flow(50).await;
    let verdict = stage.finish(&redis, "Redis restarted without what it held").await;
    for (reader, (about, faults)) in stage.readers.iter().zip(&verdict.readers) {
        // Events that Redis had published but not confirmed when it died are logged again, with other ids.
        let Faults { told, again, .. } = *faults;
        assert_eq!(*faults, Faults { resets: 1, told, again, ..Faults::default() }, "{about}");
        assert!(told < 100 && again < 20, "{about}: {faults:?}");
        assert_eq!(reader.seen().resets[0], "unknown_id", "{about}");
    }
}

/// As after a restart with `appendfsync everysec`: the producer resends confirmed events that are gone, so that the
/// log is complete. Readers are told, unless the resend finished before the gateway looked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_restarted_with_an_older_state() {
    let mut redis = RedisServer::start();
    let stage = Stage::start(&redis, Setup::default()).await;
    let _: String = redis.command(&["SAVE"]).await;
    stage.flow(50).await;
    redis.kill();
    redis.restart();
    stage.flow(50).await;
    let verdict = stage.finish(&redis, "Redis restarted with an older state").await;
    assert!(stage.producer.resent() >= 100, "events sent again: {}", stage.producer.resent());
    for (reader, (about, faults)) in stage.readers.iter().zip(&verdict.readers) {
        let Faults { again, resets, .. } = *faults;
        assert_eq!(*faults, Faults { resets, again, ..Faults::default() }, "{about}");
        assert!(resets <= 1 && (again == 0 || resets == 1), "{about}: {faults:?}");
        assert!(reader.kind == Kind::Plain || again < 20, "the client drops repeated ids: {about}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_trimmed_below_sleeping_readers() {
    const LOG: u32 = 300;
    let redis = RedisServer::start();
    // Returning readers get what the ring still holds, even if it is gone from the log.
    let settings = vec![("CREWCAST_LIMITS__RING_EVENTS", "200".to_owned())];
    let setup = Setup { log_length: LOG, pace: Duration::from_millis(10), settings, ..Setup::default() };
    let mut stage = Stage::start(&redis, setup).await;
    for reader in &mut stage.readers[..SLEEPERS] {
        reader.sleep().await;
    }
    let trimmed = stage.producer.last() + u64::from(LOG) + 100;
    let all_had = || stage.readers[SLEEPERS..].iter().all(|reader| reader.last() > trimmed);
    stage.until("connected readers read on", all_had).await;
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
