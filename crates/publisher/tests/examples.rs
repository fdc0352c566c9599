//! Runs the examples unchanged, and checks what is in Redis afterwards.

use std::collections::BTreeMap;

use crewcast_events::{
    Keys, Kind,
    catalog::{
        Frame,
        forge::{agents::AgentState, knowledge::CountsState, tasks::TaskState},
        hub::HubEvent,
        stream::StreamEvent,
        tracking::TrackingEvent,
    },
    timestamp,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{RedisServer, events, eyes, state};

#[path = "../examples/crew.rs"]
#[allow(dead_code)]
mod crew;
#[path = "../examples/forge.rs"]
#[allow(dead_code)]
mod forge;
#[path = "../examples/hub.rs"]
#[allow(dead_code)]
mod hub;
#[path = "../examples/session.rs"]
#[allow(dead_code)]
mod session;
#[path = "../examples/stream.rs"]
#[allow(dead_code)]
mod stream;
#[path = "../examples/tracking.rs"]
#[allow(dead_code)]
mod tracking;

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// The events, parsed with the catalog.
fn typed<T: DeserializeOwned>(events: &[Value]) -> Vec<T> {
    events.iter().map(|event| serde_json::from_value(event.clone()).unwrap()).collect()
}

/// A document without its timestamp, which must be valid.
fn timeless(document: &Value) -> Value {
    let mut document = document.clone();
    let at = document.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(timestamp::parse(at.as_str().unwrap()).is_some(), "{at}");
    document
}

#[tokio::test]
async fn a_crew_emits_its_run_its_tool_and_its_mission() {
    let server = RedisServer::start();
    crew::produce(&server.url()).await.unwrap();
    let events = async |name: &str| events(&server, name).await;
    assert_eq!(types(&events("run:r1").await), ["boot", "agent_start", "agent_end", "done"]);
    let tool = ["tool_start", "tool_progress", "tool_progress", "tool_progress", "tool_end"];
    assert_eq!(types(&events("graph:abc").await), tool);
    let mission = events("mission:abc").await;
    let statuses: Vec<&Value> = mission.iter().map(|event| &event["payload"]["status"]).collect();
    assert_eq!(statuses, ["busy", "available"]);
}

#[tokio::test]
async fn a_stream_emits_its_executions_and_is_registered() {
    let server = RedisServer::start();
    stream::produce(&server.url()).await.unwrap();
    let events = events(&server, "stream:support").await;
    assert_eq!(
        types(&events),
        [
            "execution_started",
            "node_executed",
            "state_changed",
            "goal_progress",
            "execution_paused",
            "execution_resumed",
            "constraint_violation",
            "goal_achieved",
            "execution_completed",
            "execution_failed",
        ]
    );
    assert!(events[1]["data"]["duration_ms"].as_u64().unwrap() >= 100);
    assert_eq!(
        events[2]["data"],
        json!({"execution_id": "e1", "key": "queue", "old_value": null, "new_value": "billing"})
    );
    assert!(events.iter().all(|event| event["data"]["execution_id"] == event["execution_id"]), "{events:?}");
    let executions: Vec<String> =
        typed::<StreamEvent>(&events).into_iter().map(|event| event.stream_id + "/" + &event.execution_id).collect();
    assert_eq!(executions.iter().filter(|&execution| execution == "support/e1").count(), 9);
    assert_eq!(executions[9], "support/e2");
    let owner = Keys::default().directory_entry(Kind::Stream, "support");
    let owner: Option<String> =
        redis::cmd("HGET").arg(owner).arg("org").query_async(&mut eyes(&server).await).await.unwrap();
    assert_eq!(owner.as_deref(), Some("acme"));
}

#[tokio::test]
async fn a_hub_emits_every_type_with_its_timestamp() {
    let server = RedisServer::start();
    hub::produce(&server.url()).await.unwrap();
    let events = events(&server, "hub:acme").await;
    let of_catalog = include_str!("../../../tests/golden/catalog/hub.jsonl");
    for golden in of_catalog.lines() {
        let golden: Value = serde_json::from_str(golden).unwrap();
        let kind = &golden["event"]["type"];
        assert!(events.iter().any(|event| event["type"] == *kind), "{kind} is not emitted");
    }
    assert_eq!(typed::<HubEvent>(&events).len(), 22);
    let data = |kind: &str| &events.iter().find(|event| event["type"] == kind).unwrap()["data"];
    assert_eq!(data("agent_status_changed")["reason"], "");
    assert_eq!(data("task_cancelled")["reason"], "");
    assert_eq!(data("task_failed")["error"]["details"], json!({}));
    assert_eq!(data("coordination_event")["details"], json!({}));
    assert_eq!(data("system_alert")["details"], json!({}));
    for event in &events {
        assert_eq!(event["timestamp"], event["data"]["timestamp"], "{event}");
        assert!(timestamp::parse(event["timestamp"].as_str().unwrap()).is_some(), "{event}");
        let keys: Vec<&String> = event.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["data", "id", "timestamp", "type"]);
        assert!(!event.to_string().contains("null"), "what is not set stays out: {event}");
    }
}

#[tokio::test]
async fn tracking_emits_the_status_and_collaboration_of_agents() {
    let server = RedisServer::start();
    tracking::produce(&server.url()).await.unwrap();
    let events = events(&server, "tracking:acme").await;
    assert_eq!(types(&events), ["agent_status", "agent_status", "agent_collaboration", "agent_status"]);
    assert_eq!(typed::<TrackingEvent>(&events).len(), 4);
    assert_eq!((&events[1]["status"], &events[1]["progress"]), (&json!("PROCESSING"), &json!(50.0)));
    assert_eq!(events[1]["metadata"], json!({"task_id": "t1"}));
    assert_eq!((&events[2]["primary_agent"], &events[2]["secondary_agent"]), (&json!("Researcher"), &json!("Writer")));
}

#[tokio::test]
async fn a_session_emits_its_log_and_its_state_and_leaves_the_list_when_it_ends() {
    let server = RedisServer::start();
    session::produce(&server.url()).await.unwrap();
    let told = events(&server, "session:s1").await;
    let logs: Vec<&Value> = told.iter().filter(|event| event["type"] == "session_log").collect();
    assert_eq!(logs.len(), 2);
    assert_eq!((&logs[1]["agent"], &logs[1]["details"]), (&json!("researcher"), &json!({"pages": 3})));
    assert_eq!(told.last().unwrap()["type"], "session_ended");
    let now = &state(&server, "session:s1").await["state"];
    assert_eq!((&now["query"], &now["overall_progress"]), (&json!("How high is the tide?"), &json!(100.0)));
    assert_eq!(now["crew_output"], json!(["4.2 m at noon"]));
    assert!(state(&server, "tracking:acme").await.is_empty(), "nobody is at work any more");
}

#[tokio::test]
async fn a_forge_emits_its_events_and_keeps_the_current_state() {
    let server = RedisServer::start();
    forge::produce(&server.url()).await.unwrap();
    agents_are_kept_until_they_are_deleted(&server).await;
    tasks_are_kept_until_they_end(&server).await;

    let events_of = async |name: &str| events(&server, name).await;
    let knowledge = events_of("knowledge:acme").await;
    assert_eq!(types(&knowledge), ["node_added", "node_added", "edge_added", "knowledge_updated"]);
    assert_eq!(knowledge[1]["data"], json!({"node_id": "tides", "label": "Tides", "counts": {"nodes": 2, "edges": 0}}));
    assert_eq!(knowledge[2]["data"], json!({"source": "moon", "target": "tides", "relation": "causes"}));
    let documents = state(&server, "knowledge:acme").await;
    assert_eq!(documents.keys().collect::<Vec<_>>(), ["counts"]);
    assert_eq!(timeless(&documents["counts"]), json!({"nodes": 120, "edges": 300}));
    assert!(serde_json::from_value::<CountsState>(documents["counts"].clone()).is_ok());

    let metrics = events_of("metrics:acme").await;
    let sets = ["system_metrics", "system_metrics", "task_metrics", "agent_metrics", "custom_metrics"];
    assert_eq!(types(&metrics), sets);
    let documents = state(&server, "metrics:acme").await;
    let newest: BTreeMap<&str, Value> = documents.iter().map(|(set, figures)| (&**set, timeless(figures))).collect();
    let expected = [
        ("system", json!({"cpu_percent": 13.0})),
        ("tasks", json!({"completed": 1, "failed": 1})),
        ("agents", json!({"busy": 1})),
        ("custom", json!({"tides_seen": 2})),
    ];
    assert_eq!(newest, BTreeMap::from(expected));
}

async fn agents_are_kept_until_they_are_deleted(server: &RedisServer) {
    let events = events(server, "agents:acme").await;
    assert_eq!(types(&events), ["agent_created", "agent_created", "status_changed", "agent_deleted"]);
    assert_eq!(events[2]["data"], json!({"agent_id": "a1", "old_status": "idle", "new_status": "busy"}));
    let documents = state(server, "agents:acme").await;
    assert_eq!(documents.keys().collect::<Vec<_>>(), ["a1"]);
    let agent: AgentState = serde_json::from_value(documents["a1"].clone()).unwrap();
    assert_eq!((agent.data.name.as_str(), agent.data.status.as_str()), ("Researcher", "busy"));
    let changed: Frame<Value> = serde_json::from_value(events[2].clone()).unwrap();
    assert_eq!(agent.timestamp, changed.timestamp, "as old as its event");
}

async fn tasks_are_kept_until_they_end(server: &RedisServer) {
    let events = events(server, "tasks:acme").await;
    let mut expected = vec!["task_started"];
    expected.extend(["task_progress"; 8]);
    expected.extend(["task_completed", "task_started"]);
    expected.extend(["task_progress"; 8]);
    expected.extend(["task_failed", "task_started", "task_progress"]);
    assert_eq!(types(&events), expected);
    let of_task = |at: usize| events[at]["data"].clone();
    let first = json!({"task_id": "t1", "name": "Read the tide tables", "agent_id": "a1"});
    assert_eq!(of_task(0), first);
    assert_eq!((&of_task(3)["percentage"], &of_task(3)["message"]), (&json!(37.5), &json!("page 3 of 8")));
    assert_eq!((&of_task(9)["result"], &of_task(9)["name"]), (&json!({"pages": 8}), &first["name"]));
    assert!(of_task(9)["duration_ms"].as_u64().unwrap() >= 80);
    assert_eq!(of_task(19)["error"], "page 9 is missing");
    let documents = state(server, "tasks:acme").await;
    assert_eq!(documents.keys().collect::<Vec<_>>(), ["t3"], "what has ended takes no room");
    let expected = json!({"task_id": "t3", "name": "Watch the sea", "status": "running", "percentage": 10.0, "message": "high water"});
    assert_eq!(timeless(&documents["t3"]), expected);
    assert!(serde_json::from_value::<TaskState>(documents["t3"].clone()).is_ok());
}
