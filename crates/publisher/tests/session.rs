//! The session emitter: state, logs, the list of active sessions.

use std::{collections::HashMap, time::Duration};

use crewcast_events::{
    Keys,
    catalog::session::{SessionChanged, SessionEvent, SessionKind},
};
use crewcast_publisher::{ActiveAgent, LogLevel, Publisher};
use serde_json::{Value, json};

use crate::support::{RedisServer, channel, eyes, log, until};

async fn hash(server: &RedisServer, key: String) -> HashMap<String, String> {
    redis::cmd("HGETALL").arg(key).query_async(&mut eyes(server).await).await.unwrap()
}

/// A channel's state documents.
async fn documents(server: &RedisServer, name: &str) -> HashMap<String, Value> {
    let all = hash(server, Keys::default().state(&channel(name))).await;
    all.into_iter().map(|(key, text)| (key, serde_json::from_str(&text).unwrap())).collect()
}

async fn held(server: &RedisServer, name: &str) -> Vec<String> {
    hash(server, Keys::default().leases(&channel(name))).await.into_keys().collect()
}

async fn events<T: serde::de::DeserializeOwned>(server: &RedisServer, name: &str) -> Vec<T> {
    log(server, name).await.iter().map(|message| serde_json::from_str(message).unwrap()).collect()
}

async fn publisher(server: &RedisServer) -> Publisher {
    Publisher::builder().org("acme").connect(&server.url()).await.unwrap()
}

async fn sent(publisher: &Publisher) {
    until("everything is sent", async || publisher.queued() == 0).await;
}

#[tokio::test]
async fn a_session_emits_its_lifecycle_and_keeps_its_state() {
    let server = RedisServer::start();
    let publisher = publisher(&server).await;
    let session = publisher.session("s1").open("How high?");
    session.log(LogLevel::Warning, "planner", "careful", Some(json!({"n": 1})));
    session.update(|state| {
        state.session_id = "another".to_owned();
        state.overall_progress = 50.0;
        state.active_agents = vec![ActiveAgent { agent_name: "a".to_owned(), ..ActiveAgent::default() }];
    });
    sent(&publisher).await;
    let document = documents(&server, "session:s1").await.remove("state").unwrap();
    assert_eq!(document, serde_json::to_value(session.state()).unwrap());
    assert_eq!(
        document,
        json!({"session_id": "s1", "query": "How high?", "current_phase": "", "overall_progress": 50.0, "crew_output": [],
            "active_agents": [{"agent_name": "a", "status": "", "progress": 0.0, "current_task": "", "details": {}}]})
    );
    assert_eq!(held(&server, "session:s1").await, ["session:s1"]);
    session.end("completed");
    sent(&publisher).await;
    let events: Vec<SessionEvent> = events(&server, "session:s1").await;
    assert!(events.iter().all(|event| event.session_id == "s1"));
    let [started, logged, state, ended] = &events[..] else { panic!("{events:?}") };
    assert_eq!(started.kind, SessionKind::SessionStarted { query: "How high?".to_owned() });
    assert!(
        matches!(&logged.kind, SessionKind::SessionLog { level: LogLevel::Warning, agent, .. } if agent == "planner")
    );
    let SessionKind::SessionState { state } = &state.kind else { panic!("{state:?}") };
    assert_eq!(serde_json::to_value(state).unwrap(), document, "event and document are one");
    assert_eq!(ended.kind, SessionKind::SessionEnded { status: "completed".to_owned() });
    assert_eq!(documents(&server, "session:s1").await["state"], document, "it can be asked for behind the end");
    assert!(held(&server, "session:s1").await.is_empty());
}

#[tokio::test]
async fn the_list_of_an_org_holds_the_sessions_that_go_on() {
    let server = RedisServer::start();
    let publisher = publisher(&server).await;
    let one = publisher.session("s1").open("one");
    let two = publisher.session("s2").open("two");
    one.update(|state| state.active_agents = vec![ActiveAgent::default(); 2]);
    one.update(|state| state.overall_progress = 1.0);
    one.status("thinking");
    sent(&publisher).await;
    let listed = |query: &str, id: &str, status: &str, agents: usize| json!({"session_id": id, "query": query, "status": status, "agents_active": agents});
    let both = documents(&server, "tracking:acme").await;
    assert_eq!(both["s1"], listed("one", "s1", "thinking", 2));
    assert_eq!(both["s2"], listed("two", "s2", "running", 0));
    let mut names = held(&server, "tracking:acme").await;
    names.sort();
    assert_eq!(names, ["s1", "s2"], "each document has a lease");

    one.end("completed");
    let thread = std::thread::spawn(move || {
        let _session = two;
        panic!("on purpose");
    });
    assert!(thread.join().is_err());
    sent(&publisher).await;
    assert!(documents(&server, "tracking:acme").await.is_empty());
    assert!(held(&server, "tracking:acme").await.is_empty());
    let changes: Vec<SessionChanged> = events(&server, "tracking:acme").await;
    let told: Vec<_> = changes
        .iter()
        .map(|change| (change.session.session_id.as_str(), change.session.status.as_str(), change.active))
        .collect();
    let expected = [
        ("s1", "running", true),
        ("s2", "running", true),
        ("s1", "running", true),
        ("s1", "thinking", true),
        ("s1", "completed", false),
        ("s2", "error", false),
    ];
    assert_eq!(told, expected, "a change of progress alone changes no list");
}

#[tokio::test]
async fn a_dropped_session_ends_and_one_without_an_org_is_in_no_list() {
    let server = RedisServer::start();
    let publisher = Publisher::connect(&server.url()).await.unwrap();
    drop(publisher.session("s1").open("one"));
    assert_eq!(publisher.close(Duration::from_secs(10)).await.events, 0);
    let events: Vec<SessionEvent> = events(&server, "session:s1").await;
    assert_eq!(events[1].kind, SessionKind::SessionEnded { status: "completed".to_owned() });
    let keys: Vec<String> = redis::cmd("KEYS").arg("*tracking*").query_async(&mut eyes(&server).await).await.unwrap();
    assert!(keys.is_empty(), "{keys:?}");
}
