//! A forge: one anonymous socket for each kind of event, and a dashboard.

use crate::stage::{Program, Stage};

/// Intervals that are shorter than the default ones.
const SETTINGS: [(&str, &str); 2] =
    [("CREWCAST_FORGE__METRICS_EVERY", "1s"), ("CREWCAST_FORGE__DASHBOARD_EVERY", "1s")];
const IDLE: [&str; 3] = ["agents status_changed idle", "tasks task_progress idle", "knowledge node_added idle"];
const STORY: [&str; 9] = [
    "agents agent_created a1",
    "agents status_changed a1",
    "tasks task_started t1",
    "tasks task_progress t1",
    "knowledge node_added n1",
    "knowledge edge_added n1",
    "tasks task_failed t2",
    "tasks task_completed t1",
    "agents agent_deleted a2",
];

async fn follows(client: &mut Program, stage: &Stage) {
    let mut backend = stage.backend();
    let pongs = ["agents", "tasks", "knowledge", "metrics", "dashboard"].map(|endpoint| format!("pong {endpoint}"));
    let pongs: Vec<_> = pongs.iter().map(String::as_str).collect();
    client.is_idle(&[&IDLE[..], &pongs, &["agents snapshot", "tasks snapshot"]].concat()).await;
    backend.play().await;
    client.shows(&STORY).await;
    client.reaches("metrics gpu system").await;
    client.reaches(r#"dashboard {"busy":1,"idle":1} events 20"#).await;
}

#[tokio::test]
async fn the_dashboard_in_node_shows_every_endpoint() {
    let stage = Stage::with("forge", &SETTINGS).await;
    follows(&mut stage.node("page.mjs", &[]), &stage).await;
}

#[tokio::test]
async fn the_dashboard_in_chromium_shows_every_endpoint() {
    let stage = Stage::with("forge", &SETTINGS).await;
    let mut page = stage.page(&[]).await;
    follows(&mut page, &stage).await;
}

#[tokio::test]
async fn a_client_in_python_reads_every_endpoint() {
    let stage = Stage::with("forge", &SETTINGS).await;
    follows(&mut stage.python("client.py", &[]), &stage).await;
}

#[tokio::test]
async fn a_panel_with_callbacks_in_python_follows_agents_and_tasks() {
    let stage = Stage::with("forge", &SETTINGS).await;
    let mut panel = stage.python("panel.py", &[]);
    let mut backend = stage.backend();
    panel.is_idle(&["pong agents", "pong tasks", IDLE[0], IDLE[1]]).await;
    backend.play().await;
    panel.shows(&STORY[..4]).await;
}
