//! Replicas are killed, and replaced in a rolling restart.

use std::time::{Duration, Instant};

use crewcast_test_servers::RedisServer;

use crate::stage::{Setup, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_killed_one_after_the_other() {
    let redis = RedisServer::start();
    let mut stage = Stage::start(&redis, Setup::default()).await;
    for n in 0..3 {
        let cuts = |stage: &Stage| stage.readers.iter().map(|reader| reader.seen().cuts.len()).sum::<usize>();
        let before = cuts(&stage);
        stage.replicas[n].gateway.kill();
        stage.until("its readers are cut", || cuts(&stage) > before).await;
        stage.flow(20).await;
        stage.replicas[n].succeed().await;
        stage.flow(20).await;
    }
    let verdict = stage.finish(&redis, "kill -9 of each of three replicas").await;
    assert!(stage.readers.iter().all(|reader| reader.sockets() > 1), "a reader was never cut");
    verdict.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_rolled_under_load() {
    const SPREAD: Duration = Duration::from_secs(4);
    let redis = RedisServer::start();
    let settings = vec![("CREWCAST_DRAIN__SPREAD", "4s".to_owned()), ("CREWCAST_DRAIN__GRACE", "15s".to_owned())];
    let setup = Setup { readers: 60, pace: Duration::from_millis(50), settings, ..Setup::default() };
    let mut stage = Stage::start(&redis, setup).await;
    // The moments at which readers came back, as a fraction of the spread.
    let mut moments = Vec::new();
    for n in 0..3 {
        stage.pass_over(n);
        let began = Instant::now();
        stage.replicas[n].gateway.terminate();
        assert!(stage.replicas[n].gateway.exit().await.success(), "the replica drains and exits with success");
        stage.flow(1).await;
        for reader in &stage.readers {
            let back = reader.seen().connected.iter().copied().filter(|at| *at > began).collect::<Vec<_>>();
            moments.extend(back.iter().map(|at| (*at - began).as_secs_f64() / SPREAD.as_secs_f64()));
        }
        stage.replicas[n].succeed().await;
        stage.pass_to_all();
    }
    let verdict = stage.finish(&redis, "rolling SIGTERM over three replicas").await;
    let codes: Vec<_> = stage.readers.iter().flat_map(|reader| reader.seen().cuts.clone()).collect();
    assert!(
        codes.len() >= 60 && codes.iter().all(|code| *code == Some(1012)),
        "not every reader was closed with 1012: {codes:?}"
    );
    assert_eq!(moments.len(), codes.len(), "each reader comes back once for each close");
    // If evenly spread, each tenth holds a tenth. The pauses of up to a second that readers add only widen the spread.
    for tenth in 0..10 {
        let from = f64::from(tenth) / 10.0;
        let burst = moments.iter().filter(|at| (from..from + 0.1).contains(*at)).count();
        assert!(burst <= moments.len() / 3, "a stampede of {burst} of {}: {moments:?}", moments.len());
    }
    verdict.assert_whole();
}
