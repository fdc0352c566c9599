//! The command line with a Sentinel group and a Cluster: `crewcast check` says what is wrong and how to fix it.

use crewcast_test_servers::{Cluster, SentinelGroup};

use crate::support::{
    command::{crewcast, run},
    token::SECRET,
};

/// Whether the check succeeds, and its output.
async fn check(url: &str) -> (bool, String) {
    let mut command = crewcast(&["check"]);
    let said = run(command.env("CREWCAST_REDIS_URL", url).env("CREWCAST_AUTH__HS256_SECRET", SECRET)).await;
    (said.code == Some(0), said.out)
}

#[tokio::test]
async fn a_sentinel_group_is_checked_and_published_to() {
    let group = SentinelGroup::start();
    let (is_well, said) = check(&group.url()).await;
    assert!(is_well && said.contains("came back"), "{said}");
    let (is_well, said) = check(&group.url().replace("/main", "/other")).await;
    assert!(!is_well && said.contains("no master of this name"), "{said}");
    let (is_well, said) = check(&group.servers[1].url()).await;
    assert!(!is_well && said.contains("read-only replica"), "{said}");
}

#[tokio::test]
async fn every_server_of_a_cluster_is_checked() {
    let cluster = Cluster::start();
    let (is_well, said) = check(&cluster.url()).await;
    assert!(is_well && said.contains("came back"), "{said}");
    for server in &cluster.servers[..3] {
        assert!(said.contains(&format!("{}: maxmemory-policy is noeviction", server.address())), "{said}");
    }
    let _: String = cluster.servers[1].run(&[b"CONFIG", b"SET", b"maxmemory-policy", b"allkeys-lru"]);
    let (is_well, said) = check(&cluster.url()).await;
    assert!(!is_well && said.contains(&format!("{}: maxmemory-policy is allkeys-lru", cluster.servers[1].address())));
    let (is_well, said) = check(&cluster.servers[0].url()).await;
    assert!(!is_well && said.contains("redis+cluster://"), "{said}");
}
