//! The load generator puts a load on the gateway, live and logged, and finds every event once and in order.

use std::{sync::Arc, time::Duration};

use crewcast_bench::{
    load::{self, Load, Outcome, Pace, Target, Watched},
    protocol::Crewcast,
};

use crate::support::{gateway, redis::RedisServer, token::SECRET};

fn measured(gateway: &str, redis: &RedisServer, load: &Load) -> Outcome {
    let target = Target { sockets: vec![gateway.parse().unwrap()], publish: Some(redis.address().parse().unwrap()) };
    let protocol = Arc::new(Crewcast::new(load.channels, SECRET).unwrap());
    load::run(load, target, protocol, &Watched::default()).unwrap()
}

#[tokio::test]
async fn a_load_that_is_live_or_logged_arrives_once_and_in_order() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let public = gateway.public.clone();
    let load = Load {
        channels: 5,
        sockets_per_channel: 20,
        warm_up: Duration::from_millis(100),
        window: Duration::from_millis(500),
        ..Load::default()
    };
    tokio::task::spawn_blocking(move || {
        for (pace, logged) in [(Pace::PerChannel(8), false), (Pace::Total(8), false), (Pace::Open(300.0), true)] {
            let outcome = measured(&public, &redis, &Load { pace, logged, ..load.clone() });
            assert!(outcome.is_clean() && outcome.closed == 0 && outcome.deliveries > 200, "{pace:?}: {outcome:?}");
        }
    })
    .await
    .unwrap();
}
