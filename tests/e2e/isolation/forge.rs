//! Isolation on the dialect `forge`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ORGS, World, greedy, refused};
use crate::support::{PATIENCE, gateway, http::post, redis::RedisServer, socket::Socket, token::token};

const FOLLOWED: [&str; 3] = ["agents", "tasks", "knowledge"];

/// Publishes an event of this org on each of its channels, with a state document.
async fn speak(world: &World, org: &str) {
    let producer = token(json!({ "org": org, "publish": ["agents:*", "tasks:*", "knowledge:*", "metrics:*"] }));
    for namespace in ["agents", "tasks", "knowledge", "metrics"] {
        let key = if namespace == "metrics" { "system" } else { "k" };
        let said = json!({ "status": format!("of {org}") });
        let body = json!({ "channel": format!("{namespace}:{org}"), "event": { "type": "x", "data": said },
                           "state": { "key": key, "value": said } });
        assert_eq!(post(&world.gateway, "/api/v1/publish", &producer, body).await.status(), 200);
    }
}

#[tokio::test]
async fn forge_sockets_carry_only_their_own_org_whatever_they_ask_for() {
    let redis = RedisServer::start();
    let often = [("CREWCAST_FORGE__METRICS_EVERY", "100ms"), ("CREWCAST_FORGE__DASHBOARD_EVERY", "100ms")];
    let gateway = gateway::on(&redis, &often).await;
    let world = World { redis, gateway };
    for org in ORGS {
        speak(&world, org).await;
    }
    for (reader, foreign) in [("acme", "zeta"), ("zeta", "acme")] {
        let foreign_head: String = world.redis.run(&[b"GET", format!("crewcast:{{agents:{foreign}}}:head").as_bytes()]);
        let mut tokens = greedy(reader);
        let channels: Vec<String> = FOLLOWED.iter().map(|namespace| format!("{namespace}:{foreign}")).collect();
        tokens.push(("channels", token(json!({ "org": reader, "channels": channels, "admin": true }))));
        for (how, token) in tokens {
            for path in ["/ws/agents", "/ws/tasks", "/ws/knowledge", "/ws/metrics", "/ws/dashboard"] {
                for query in [
                    String::new(),
                    "?since=0".to_owned(),
                    format!("?org={foreign}&channel=agents:{foreign}&since={foreign_head}"),
                ] {
                    let what = format!("{reader}, {how}: {path}{query}");
                    let mut socket = world.socket(&format!("{path}{query}"), &token).await;
                    if how.ends_with("without an org") {
                        refused(&mut socket, &what).await;
                        continue;
                    }
                    // Twice, so that an event comes and not only a snapshot.
                    for _ in 0..2 {
                        let own = hears_own(&world, &mut socket, reader, foreign, &what).await;
                        assert_ne!(own["source"], "gateway", "{what}: {own}");
                    }
                }
            }
        }
    }
}

/// Both orgs publish until the socket receives an event of its own org. Nothing of the other org may come.
async fn hears_own(world: &World, socket: &mut Socket, reader: &str, foreign: &str, what: &str) -> Value {
    let began = Instant::now();
    loop {
        for org in [foreign, reader] {
            speak(world, org).await;
        }
        // A socket that starts live may not be subscribed yet.
        while let Ok(text) = tokio::time::timeout(Duration::from_millis(200), socket.text()).await {
            assert!(!text.contains(&format!("of {foreign}")), "{what}: {text}");
            if text.contains(&format!("of {reader}")) {
                return serde_json::from_str(&text).unwrap();
            }
        }
        assert!(began.elapsed() < PATIENCE, "{what}: the socket receives nothing of its own org");
    }
}
