//! Checks the catalog against `tests/golden/catalog`, which libraries in other languages read, too.
//!
//! Each golden line is a line of `POST /api/v1/publish`: one event of each type, with every field set.

use std::collections::BTreeSet;

use crewcast_events::{
    Body, Channel, Namespaces,
    catalog::{
        forge::{agents::AgentEvent, knowledge::KnowledgeEvent, metrics::MetricsEvent, tasks::TaskEvent},
        hub::HubEvent,
        mission::Signal,
        run::RunEvent,
        stream::StreamEvent,
        tool::ToolEvent,
        tracking::TrackingEvent,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    channel: Channel,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// Deserializes the event as its type and serializes it again.
fn round_trip(namespace: &str, event: &str) -> Value {
    fn through<T: DeserializeOwned + Serialize>(event: &str) -> Value {
        let typed: T = serde_json::from_str(event).unwrap_or_else(|error| panic!("{error}: {event}"));
        serde_json::to_value(typed).unwrap()
    }
    match namespace {
        "graph" => through::<ToolEvent>(event),
        "mission" => through::<Signal>(event),
        "run" => through::<RunEvent>(event),
        "stream" => through::<StreamEvent>(event),
        "hub" => through::<HubEvent>(event),
        "tracking" => through::<TrackingEvent>(event),
        "agents" => through::<AgentEvent>(event),
        "tasks" => through::<TaskEvent>(event),
        "knowledge" => through::<KnowledgeEvent>(event),
        "metrics" => through::<MetricsEvent>(event),
        other => panic!("no catalog for {other}"),
    }
}

/// Checks a golden file against the catalog and against `types`: lines of `<namespace> <type> <type> …`.
fn check(golden: &str, types: &str) {
    let mut seen = BTreeSet::new();
    for line in golden.lines() {
        let Line { channel, event } = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let event = event.get();
        let body = Body::parse(event.as_bytes().to_vec()).unwrap();
        assert!(Namespaces::default().of(&channel).is_some(), "{channel}");
        assert_eq!(round_trip(channel.namespace(), event), serde_json::from_str::<Value>(event).unwrap());
        let kind = format!("{} {}", channel.namespace(), body.kind());
        assert!(seen.insert(kind.clone()), "{kind} appears twice");
    }
    let expected: BTreeSet<String> = types
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .flat_map(|(namespace, types)| types.split(' ').map(move |kind| format!("{namespace} {kind}")))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn crew() {
    check(
        include_str!("../../../tests/golden/catalog/crew.jsonl"),
        "graph tool_start tool_progress tool_end
         mission signal
         run boot agent_start agent_end task_start task_end error done",
    );
}

#[test]
fn stream() {
    check(
        include_str!("../../../tests/golden/catalog/stream.jsonl"),
        "stream execution_started execution_completed execution_failed execution_paused execution_resumed
         stream node_executed goal_progress goal_achieved state_changed constraint_violation",
    );
}

#[test]
fn hub() {
    check(
        include_str!("../../../tests/golden/catalog/hub.jsonl"),
        "hub agent_created agent_status_changed agent_performance_updated agent_removed
         hub task_created task_assigned task_started task_progress task_completed task_failed task_cancelled
         hub hive_status_update system_alert resource_alert
         hub module_status_changed inter_module_message coordination_event
         hub learning_cycle_started learning_cycle_completed error_occurred",
    );
}

#[test]
fn fields_that_clients_always_expect_are_written_without_a_value() {
    let written = |event: Value| round_trip("hub", &event.to_string())["data"].clone();
    let hub = |kind: &str, data: Value| written(json!({"type": kind, "data": data, "timestamp": "now"}));
    let removed = hub("agent_removed", json!({"agent_id": "a1", "cleanup_summary": null, "timestamp": "now"}));
    let nothing = json!({"tasks_reassigned": 0, "data_removed": false});
    assert_eq!((&removed["reason"], &removed["cleanup_summary"]), (&json!(""), &nothing));
    let error = json!({"code": "E", "message": "m", "details": null});
    let occurred = json!({"error_id": "x", "component": "c", "severity": "s", "error": error, "timestamp": "now"});
    assert_eq!(hub("error_occurred", occurred)["error"]["details"], json!({}));
    let changed =
        json!({"module": "m", "old_status": "a", "new_status": "b", "affected_functions": [], "timestamp": "now"});
    assert_eq!(hub("module_status_changed", changed)["reason"], "");
}

#[test]
fn tracking() {
    check(include_str!("../../../tests/golden/catalog/tracking.jsonl"), "tracking agent_status agent_collaboration");
}

#[test]
fn forge() {
    check(
        include_str!("../../../tests/golden/catalog/forge.jsonl"),
        "agents agent_created status_changed agent_deleted
         tasks task_started task_progress task_completed task_failed
         knowledge node_added edge_added knowledge_updated
         metrics system_metrics task_metrics agent_metrics custom_metrics",
    );
}
