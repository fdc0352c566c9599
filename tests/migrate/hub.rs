//! A hive's hub: every event of the org in an envelope, and clients that keep the highest sequence.

use serde_json::json;

use crate::{
    stage::{Program, Stage},
    support::token::token,
};

const IDLE: [&str; 2] = ["event hive_status_update", "pong"];
const STORY: [&str; 9] = [
    "event agent_created",
    "event task_created",
    "event task_assigned",
    "event task_started",
    "event task_progress t1 0.25",
    "event task_progress t1 0.75",
    "event task_completed",
    "event system_alert",
    "event error_occurred",
];

async fn follows(client: &mut Program, stage: &Stage) {
    client.follows(stage, &IDLE, &STORY).await;
}

#[tokio::test]
async fn the_pages_client_in_node_handles_every_event_once() {
    let stage = Stage::of("hub").await;
    follows(&mut stage.node("page.mjs", &[]), &stage).await;
}

#[tokio::test]
async fn the_pages_client_in_chromium_handles_every_event_once() {
    let stage = Stage::of("hub").await;
    let mut page = stage.page(&[]).await;
    follows(&mut page, &stage).await;
}

#[tokio::test]
async fn a_manager_in_python_handles_every_event_once() {
    let stage = Stage::of("hub").await;
    follows(&mut stage.python("manager.py", &[]), &stage).await;
}

#[tokio::test]
async fn a_token_of_that_system_reads_the_same() {
    let stage = Stage::of("hub").await;
    let jwt = token(json!({ "org": "default", "role": "viewer" }));
    follows(&mut stage.python("manager.py", &[&jwt]), &stage).await;
}
