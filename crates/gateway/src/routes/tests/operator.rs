use std::time::Duration;

use super::*;
use crate::testing::{FakeProbes, Probe};

async fn get(bench: &Bench, path: &str) -> Answer {
    answer(bench.operator.clone(), request("GET", path, "").body(Body::empty()).unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn readyz_follows_the_probe_and_the_drain() {
    let bench = Bench::new();
    let detail = |answer: Answer| answer.problem(503, "not-ready")["detail"].as_str().unwrap().to_owned();
    let probes = FakeProbes::new(&[Probe::Returns]);
    let prober = tokio::spawn(bench.app.readiness.clone().run(probes.clone()));
    assert!(detail(get(&bench, "/readyz").await).starts_with("starting"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(get(&bench, "/readyz").await.ok(), json!({"status": "ready"}));
    probes.set(Probe::Fails);
    tokio::time::sleep(Duration::from_secs(16)).await;
    assert!(detail(get(&bench, "/readyz").await).starts_with("not delivering"));
    bench.app.drain.begin();
    assert!(detail(get(&bench, "/readyz").await).starts_with("draining"));
    assert_eq!(get(&bench, "/livez").await.ok(), json!({"status": "ok"}));
    prober.abort();
}

#[tokio::test]
async fn the_operators_endpoints_are_not_on_the_public_listener() {
    let bench = Bench::new();
    for path in ["/livez", "/readyz", "/metrics"] {
        bench.get(path, &producer()).await.problem(404, "not-found");
    }
    get(&bench, "/nothing").await.problem(404, "not-found");
    get(&bench, "/metrics").await.problem(404, "not-found");
}

#[tokio::test(start_paused = true)]
async fn metrics_include_the_age_of_the_probe() {
    // The process's only recorder: no other test installs one, but other tests may write the same gauge meanwhile.
    let bench = Bench::build(|_| (), Some(crate::telemetry::install().unwrap()));
    let router = bench.operator.clone();
    tokio::time::advance(Duration::from_secs(1234)).await;
    for _ in 0..100 {
        let answer = answer(router.clone(), request("GET", "/metrics", "").body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        if answer.text.contains("\ncrewcast_broker_probe_age_seconds 1234") {
            return;
        }
    }
    panic!("the age is not exported");
}
