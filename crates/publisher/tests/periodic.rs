//! Metrics and the status of a hub that are emitted at a fixed interval.

use std::{sync::Arc, time::Duration};

use crewcast_publisher::{
    Publisher,
    catalog::{
        forge::metrics::MetricSet,
        hub::system::{HiveMetrics, HiveStatus},
    },
};
use serde_json::{Value, json};

use crate::support::{Fake, Meddling};

const PERIOD: Duration = Duration::from_secs(5);

fn recorded() -> (Arc<Meddling>, Publisher) {
    let transport = Arc::new(Meddling::recording(Fake::default()));
    (transport.clone(), Publisher::builder().with_transport(transport))
}

/// The events that were sent.
fn sent(transport: &Meddling) -> Vec<Value> {
    let appends = transport.appends.lock();
    let entries = appends.iter().flat_map(|append| &append.entries);
    entries.map(|entry| serde_json::from_slice(entry.body.object()).unwrap()).collect()
}

/// A function that counts its calls.
fn counting() -> impl FnMut() -> Value + Send + 'static {
    let mut calls = 0;
    move || {
        calls += 1;
        json!({"calls": calls})
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_are_emitted_at_once_and_every_period_until_the_handle_is_dropped() {
    let (transport, publisher) = recorded();
    let handle = publisher.metrics("acme").every(PERIOD, counting());
    tokio::time::sleep(PERIOD * 5 / 2).await;
    let events = sent(&transport);
    let calls: Vec<&Value> = events.iter().map(|event| &event["data"]["calls"]).collect();
    assert_eq!(calls, [1, 2, 3]);
    assert!(events.iter().all(|event| event["type"] == "system_metrics"), "{events:?}");
    drop(handle);
    tokio::time::sleep(PERIOD * 10).await;
    assert_eq!(sent(&transport).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_publisher_ends_what_is_emitted_periodically_when_it_closes() {
    let (transport, publisher) = recorded();
    let _handle = publisher.metrics("acme").set_every(MetricSet::Tasks, PERIOD, counting());
    tokio::time::sleep(PERIOD / 2).await;
    assert_eq!(publisher.close(PERIOD).await.events, 0);
    tokio::time::sleep(PERIOD * 10).await;
    assert_eq!(sent(&transport)[0]["type"], "task_metrics");
    let stats = publisher.stats();
    assert_eq!((stats.published, stats.dropped), (1, 0), "nothing is emitted into a closed publisher");
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_hub_is_emitted_every_period() {
    let (transport, publisher) = recorded();
    let mut pending_tasks = 0;
    let _handle = publisher.hub("acme").status_every(PERIOD, move || {
        pending_tasks += 1;
        let (total_agents, active_agents, completed_tasks_today, system_load) = (5, 3, 142, 0.65);
        let metrics = HiveMetrics { total_agents, active_agents, pending_tasks, completed_tasks_today, system_load };
        HiveStatus { status: "healthy".into(), metrics, alerts: Vec::new() }
    });
    tokio::time::sleep(PERIOD * 3 / 2).await;
    let events = sent(&transport);
    let pending: Vec<&Value> = events.iter().map(|event| &event["data"]["metrics"]["pending_tasks"]).collect();
    assert_eq!(pending, [1, 2]);
    assert!(events.iter().all(|event| event["type"] == "hive_status_update"), "{events:?}");
}

#[tokio::test]
async fn a_thread_outside_of_the_runtime_can_emit_periodically() {
    let (transport, publisher) = recorded();
    let metrics = publisher.metrics("acme");
    let handle = std::thread::spawn(move || metrics.every(PERIOD, counting())).join().unwrap();
    crate::support::until("the first metrics are sent", async || !sent(&transport).is_empty()).await;
    drop(handle);
}
