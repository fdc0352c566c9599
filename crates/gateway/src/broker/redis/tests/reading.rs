//! Logs and directories that other programs have touched, or that are large.

use crewcast_events::{EventId, Keys, Kind};

use crewcast_test_servers::RedisServer;

use super::{config, started};
use crate::{
    broker::{
        LogStore,
        conformance::{append, channel},
    },
    registry::{Directory, RedisRegistry},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_another_program_wrote_into_is_read_as_far_as_it_is_a_log() {
    let server = RedisServer::start();
    let (broker, _) = started(&config(&server), "r").await;
    let run = channel("run:r1");
    let log = Keys::default().log(&run);
    let ids = append(&*broker, &run, &[1, 2, 3, 4, 5]).await;
    let held = |entries: &[bytes::Bytes]| entries.iter().filter_map(|e| EventId::of_message(e)).collect::<Vec<_>>();

    let _: String = server.command(&["LSET", &log, "1", "junk"]).await;
    let page = broker.history(&run, 3, 10).await.unwrap();
    assert_eq!((page.at, held(&page.entries)), (Some(ids[2]), ids[3..].to_vec()));
    for offset in [0, 1] {
        let page = broker.history(&run, offset, 10).await.unwrap();
        assert_eq!((page.first, page.at, held(&page.entries)), (Some(ids[2]), None, ids[2..].to_vec()), "{offset}");
    }

    let _: u32 = server.command(&["LREM", &log, "0", "junk"]).await;
    let page = broker.history(&run, 0, 10).await.unwrap();
    assert_eq!((page.first, held(&page.entries)), (Some(ids[2]), ids[2..].to_vec()), "behind the hole");
    let page = broker.history(&run, 1, 10).await.unwrap();
    assert_eq!((page.at, page.first), (None, Some(ids[2])));

    let _: u32 = server.command(&["RPUSH", &log, "junk"]).await;
    let page = broker.history(&run, 0, 10).await.unwrap();
    assert_eq!((page.head, page.first, page.entries.len()), (Some(ids[4]), None, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_entry_replaces_a_lost_head() {
    let server = RedisServer::start();
    let (broker, _) = started(&config(&server), "r").await;
    let run = channel("run:r1");
    let ids = append(&*broker, &run, &[1, 2, 3]).await;
    let _: u32 = server.command(&["DEL", &Keys::default().head(&run)]).await;
    let page = broker.history(&run, 2, 10).await.unwrap();
    assert_eq!((page.head, page.at, page.entries.len()), (Some(ids[2]), Some(ids[1]), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_type_is_only_an_error() {
    let server = RedisServer::start();
    let (broker, _) = started(&config(&server), "r").await;
    let run = channel("run:r1");
    let _: String = server.command(&["SET", &Keys::default().log(&run), "text"]).await;
    assert!(broker.history(&run, 0, 10).await.is_err());
    append(&*broker, &channel("run:r2"), &[1]).await;
    assert_eq!(broker.history(&channel("run:r2"), 0, 10).await.unwrap().entries.len(), 1);
}

/// Servers forget scripts after a restart or on command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_script_is_loaded_again() {
    let server = RedisServer::start();
    let (broker, _) = started(&config(&server), "r").await;
    let run = channel("run:r1");
    append(&*broker, &run, &[1]).await;
    broker.history(&run, 0, 10).await.unwrap();
    let _: String = server.command(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(broker.history(&run, 0, 10).await.unwrap().entries.len(), 1);
}

/// The list of an org's ids follows the entries and may be behind them: another org's id is not in the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_entry_decides_who_owns_an_id() {
    let server = RedisServer::start();
    let (broker, _) = started(&config(&server), "r").await;
    let registry = RedisRegistry::beside(&broker);
    let keys = Keys::default();
    let fill = "
        for i = 1, 2500 do
          redis.call('HSET', string.gsub(ARGV[1], 'ID', i), 'org', i % 100 == 0 and 'other' or 'acme')
          redis.call('ZADD', ARGV[2], i, i)
        end
        redis.call('ZADD', ARGV[2], 1, 'gone')";
    let (entry, list) = (keys.directory_entry(Kind::Crew, "ID"), keys.directory_of_org("acme", Kind::Crew));
    let _: () = server.command(&["EVAL", fill, "0", &entry, &list]).await;
    let owned = registry.ids_of_org("acme", Kind::Crew).await.unwrap();
    assert_eq!(owned.len(), 2475);
    assert!(!owned.contains(&"100".to_owned()) && !owned.contains(&"gone".to_owned()));
    let ids: Vec<String> = (1..=3000).map(|id| id.to_string()).collect();
    let owners = registry.owners(Kind::Crew, &ids).await.unwrap();
    assert_eq!(owners.len(), 2500);
    assert_eq!((owners["2400"].org.as_str(), owners["2401"].org.as_str()), ("other", "acme"));
}
