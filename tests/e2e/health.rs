//! The endpoints for orchestrators: `/livez`, `/readyz`, `/health`.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::support::{
    eventually,
    gateway::{self, Gateway},
    redis::RedisServer,
};

/// Status and text of an endpoint on the admin listener.
async fn admin(gateway: &Gateway, path: &str) -> (u16, String) {
    let answer = gateway::client().get(format!("http://{}{path}", gateway.admin)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The number of probes that have come back so far.
async fn probes(gateway: &Gateway) -> f64 {
    gateway.metric("crewcast_broker_roundtrip_seconds_count", "").await
}

async fn probe_age(gateway: &Gateway) -> f64 {
    gateway.metric("crewcast_broker_probe_age_seconds", "").await
}

#[tokio::test]
async fn ready_only_after_two_probes() {
    let redis = RedisServer::start();
    // One probe per second leaves time to look between the first and the second.
    let settings = [("CREWCAST_BROKER__URL", &*redis.url()), ("CREWCAST_READY__WINDOW", "5s")];
    let gateway = Gateway::spawn(&settings);
    assert_eq!(admin(&gateway, "/livez").await.0, 200, "the gateway must be live before it is ready");
    let seen_after_one = AtomicBool::new(false);
    eventually("the gateway is ready", || async {
        let before = probes(&gateway).await;
        let (status, text) = admin(&gateway, "/readyz").await;
        let after = probes(&gateway).await;
        if before == 1.0 && after == 1.0 {
            assert_eq!(status, 503, "one probe is not enough");
            assert!(text.contains("starting"), "{text}");
            seen_after_one.store(true, Ordering::Relaxed);
        }
        assert!(status != 200 || after >= 2.0, "ready after {after} probes");
        status == 200
    })
    .await;
    assert!(seen_after_one.into_inner(), "the test never looked between the first and the second probe");
    assert!(probe_age(&gateway).await < 5.0);
    let health = gateway::client().get(gateway.url("/health")).send().await.unwrap();
    assert_eq!(health.status(), 200);
}

#[tokio::test]
async fn the_gateway_waits_for_a_broker_that_is_not_up_yet() {
    let mut redis = RedisServer::start();
    redis.kill();
    let gateway = Gateway::spawn(&[("CREWCAST_BROKER__URL", &*redis.url())]);
    let (status, text) = admin(&gateway, "/readyz").await;
    assert_eq!(status, 503, "{text}");
    assert_eq!(admin(&gateway, "/livez").await.0, 200);
    assert_eq!(gateway.metric("crewcast_broker_up", "").await, 0.0);
    eventually("the window is over", || async { admin(&gateway, "/readyz").await.1.contains("not delivering") }).await;
    redis.restart();
    eventually("the gateway is ready", || async { gateway.is_ready().await }).await;
    assert_eq!(gateway.metric("crewcast_broker_up", "").await, 1.0);
}

#[tokio::test]
async fn a_frozen_redis_ends_readiness_after_the_window_and_two_probes_restore_it() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[("CREWCAST_READY__WINDOW", "2s")]).await;
    assert!(probe_age(&gateway).await < 2.0);

    redis.signal("STOP");
    let frozen = Instant::now();
    eventually("the gateway is not ready", || async { !gateway.is_ready().await }).await;
    let took = frozen.elapsed();
    // The last probe may have come back up to a fifth of the window earlier.
    assert!(took > Duration::from_millis(1000), "a short outage must not end readiness: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let (_, text) = admin(&gateway, "/readyz").await;
    assert!(text.contains("not delivering"), "{text}");
    assert!(probe_age(&gateway).await > 2.0);
    assert_eq!(admin(&gateway, "/livez").await.0, 200, "a restart of the gateway would not repair Redis");
    eventually("the link is found dead", || async { gateway.metric("crewcast_broker_up", "").await == 0.0 }).await;

    let before = probes(&gateway).await;
    redis.signal("CONT");
    eventually("the gateway is ready again", || async {
        let is_ready = gateway.is_ready().await;
        let since = probes(&gateway).await - before;
        assert!(!is_ready || since >= 2.0, "ready after {since} probes");
        is_ready
    })
    .await;
    assert!(probe_age(&gateway).await < 2.0);
    assert_eq!(gateway.metric("crewcast_broker_up", "").await, 1.0);
}
