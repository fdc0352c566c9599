//! The load generator puts a load on a real gateway, live and logged, and finds every event once and in order.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crewcast_bench::{
    load::{self, Load, Outcome, Pace, Target, Watched},
    servers::{CrewcastServer, Redis, Running, Server, Setup},
};

/// `crewcast` of the build that this test belongs to, built first where it is missing: this crate does not depend on
/// it.
fn gateway_binary() -> PathBuf {
    // <target>/<profile>/deps/<this test>
    let this = env::current_exe().unwrap();
    let profile = this.ancestors().nth(2).expect("a test stands in <target>/<profile>/deps");
    let binary = profile.join("crewcast");
    if !binary.exists() {
        build(profile);
    }
    assert!(binary.exists(), "{} is missing: run `cargo build -p crewcast` first", binary.display());
    binary
}

fn build(profile: &Path) {
    let name = profile.file_name().and_then(|name| name.to_str()).unwrap();
    let name = if name == "debug" { "dev" } else { name };
    let built = Command::new(env!("CARGO"))
        .args(["build", "-p", "crewcast", "--profile", name, "--target-dir"])
        .arg(profile.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    let is_built = built.is_ok_and(|status| status.success());
    assert!(is_built, "the gateway cannot be built: run `cargo build -p crewcast` first, and see why it fails");
}

fn start(redis: &Redis, load: &Load) -> Running {
    let setup = Setup {
        redis: redis.address(),
        core: None,
        replicas: 1,
        channels: load.channels,
        sockets: load.sockets(),
        deflate: false,
        peers: "none".into(),
    };
    CrewcastServer { program: gateway_binary(), cluster: Vec::new() }.start(&setup).unwrap()
}

fn measured(gateway: &Running, redis: &Redis, load: &Load) -> Outcome {
    let target = Target { sockets: gateway.endpoints.sockets.clone(), publish: Some(redis.address()) };
    load::run(load, target, gateway.protocol.clone(), &Watched::default()).unwrap()
}

#[test]
fn live_and_logged_events_arrive_once_and_in_order() {
    let load = Load {
        channels: 5,
        sockets_per_channel: 20,
        warm_up: Duration::from_millis(100),
        window: Duration::from_millis(500),
        ..Load::default()
    };
    let redis = Redis::start(None).unwrap();
    let gateway = start(&redis, &load);
    for (pace, logged) in [(Pace::PerChannel(8), false), (Pace::Total(8), false), (Pace::Open(300.0), true)] {
        let outcome = measured(&gateway, &redis, &Load { pace, logged, ..load.clone() });
        assert!(outcome.is_clean() && outcome.closed == 0 && outcome.deliveries > 200, "{pace:?}: {outcome:?}");
    }
}
