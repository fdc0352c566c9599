//! Agents that work on sessions: anonymous sockets that choose their own client id.

use crate::{
    stage::{Program, Stage},
    support::eventually,
};

const IDLE: [&str; 4] = ["agent Clerk IDLE 0", "sessions 1 s1", "state s1 idle 0", "log s1 INFO idle"];
const STORY: [&str; 10] = [
    "agent Writer ANALYZING 10",
    "state s1 analysis 10",
    "log s1 INFO reads the query",
    "collaboration Writer Editor",
    "agent Writer PROCESSING 60",
    "log s1 INFO writes a draft",
    "state s1 writing 60",
    "log s1 INFO is done",
    "state s1 done 100",
    "agent Writer COMPLETED 100",
];

async fn follows(client: &mut Program, stage: &Stage) {
    client.follows(stage, &IDLE, &STORY).await;
}

#[tokio::test]
async fn the_manager_in_node_follows_agents_and_a_session() {
    let stage = Stage::of("agentcraft").await;
    follows(&mut stage.node("page.mjs", &["client_1_a"]), &stage).await;
}

#[tokio::test]
async fn a_monitor_in_python_follows_agents_and_a_session() {
    let stage = Stage::of("agentcraft").await;
    follows(&mut stage.python("monitor.py", &["monitor-7"]), &stage).await;
}

#[tokio::test]
async fn the_hook_in_chromium_follows_agents_and_a_session() {
    let stage = Stage::of("agentcraft").await;
    let mut page = stage.page(&["client=Page-7.b"]).await;
    follows(&mut page, &stage).await;
}

#[tokio::test]
async fn the_hook_in_strict_mode_stays_connected() {
    let stage = Stage::of("agentcraft").await;
    let mut page = stage.page(&["client=client_1_a", "strict=1"]).await;
    follows(&mut page, &stage).await;
}

#[tokio::test]
async fn two_browsers_with_one_client_id_both_stay_connected() {
    let stage = Stage::of("agentcraft").await;
    let mut first = stage.page(&["client=client_1_a"]).await;
    let mut second = stage.page_beside(&first, &["client=client_1_a"]);
    let mut backend = stage.backend();
    first.is_idle(&IDLE).await;
    second.is_idle(&IDLE).await;
    backend.play().await;
    first.shows(&STORY).await;
    second.shows(&STORY).await;
    eventually("both sockets are open", || async {
        stage.gateway.metric("crewcast_connections", r#"dialect="tracking""#).await as u64 == 2
    })
    .await;
    assert!(stage.gateway.metric("crewcast_connections_closed_total", r#"code="4409""#).await < 1.0);
}
