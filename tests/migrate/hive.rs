//! A hive of agent streams: the token in the first message, then a subscription.

use serde_json::json;

use crate::{
    stage::{Program, Stage},
    support::{
        eventually,
        token::token,
        webhook::{Answer, Webhook},
    },
};

const IDLE: [&str; 3] = [
    "stream:writer execution_started idle",
    "stream:writer execution_failed idle",
    "stream:reviewer execution_started idle",
];
/// In order within each stream: between two streams no order is promised.
const STORY: [&str; 6] = [
    "stream:writer execution_started e1",
    "stream:writer node_executed e1",
    "stream:writer goal_progress e1",
    "stream:reviewer constraint_violation e1",
    "stream:reviewer execution_failed e1",
    "stream:writer execution_completed e1",
];

/// A token of that system: a user, streams and an expiry.
fn jwt() -> String {
    token(json!({ "org": null, "sub": null, "user_id": "u1", "streams": ["writer", "reviewer"] }))
}

async fn follows(page: &mut Program, stage: &Stage) {
    page.follows(stage, &IDLE, &STORY).await;
}

#[tokio::test]
async fn the_dashboards_hook_in_chromium_shows_each_event_once() {
    let stage = Stage::of("hive").await;
    let mut page = stage.page(&[&format!("token={}", jwt())]).await;
    follows(&mut page, &stage).await;
}

#[tokio::test]
async fn the_dashboards_hook_in_strict_mode_shows_each_event_once() {
    let stage = Stage::of("hive").await;
    let mut page = stage.page(&[&format!("token={}", jwt()), "strict=1"]).await;
    follows(&mut page, &stage).await;
}

#[tokio::test]
async fn a_second_subscription_without_ref_replaces_the_first() {
    let stage = Stage::of("hive").await;
    let mut page = stage.page(&[&format!("token={}", jwt()), "narrow=1"]).await;
    let mut backend = stage.backend();
    page.is_idle(&["stream:writer execution_failed idle", "state subscribed EXECUTION_FAILED"]).await;
    // What came before the second subscription may be shown with its answer.
    page.has_idle(&IDLE);
    backend.play().await;
    page.shows_only("stream:reviewer execution_failed e1").await;
}

#[tokio::test]
async fn the_bridge_posts_each_event_once_and_in_order() {
    let stage = Stage::of("hive").await;
    // The first posts of the story fail.
    let webhook = Webhook::start(|post| if post % 3 == 1 { Answer::Status(503) } else { Answer::Status(204) }).await;
    let mut bridge = stage.node("bridge.mjs", &[&jwt(), &webhook.url]);
    let mut backend = stage.backend();
    let idle = ["posted stream:writer execution_started idle", "posted stream:reviewer execution_started idle"];
    bridge.is_idle(&idle).await;
    backend.play().await;
    let accepted = || webhook.posts().into_iter().filter(|post| post.accepted && post.json()["execution_id"] == "e1");
    eventually("every event is posted", || async { accepted().count() >= 6 }).await;
    let posted = |stream: &str| -> Vec<String> {
        let of_stream = accepted().filter(|post| post.headers["x-stream-id"] == stream);
        of_stream.map(|post| post.json()["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(posted("writer"), ["execution_started", "node_executed", "goal_progress", "execution_completed"]);
    assert_eq!(posted("reviewer"), ["constraint_violation", "execution_failed"]);
}

#[tokio::test]
async fn the_monitor_alerts_on_failures_alone() {
    let stage = Stage::of("hive").await;
    let mut monitor = stage.python("monitor.py", &[&jwt()]);
    let mut backend = stage.backend();
    monitor.is_idle(&["alert stream:writer execution_failed idle"]).await;
    backend.play().await;
    let alerts =
        ["alert stream:reviewer constraint_violation over budget", "alert stream:reviewer execution_failed no disk"];
    monitor.shows(&alerts).await;
}

#[tokio::test]
async fn the_orchestrator_starts_the_next_agent() {
    let stage = Stage::of("hive").await;
    let mut orchestrator = stage.python("orchestrator.py", &[&jwt(), &stage.redis.url()]);
    let mut backend = stage.backend();
    let idle = ["stream:writer execution_started idle", "stream:reviewer execution_started idle"];
    orchestrator.is_idle(&idle).await;
    backend.play().await;
    let shown = [
        "stream:writer execution_started e1",
        "stream:writer execution_completed e1",
        "stream:reviewer execution_started review-of-e1",
    ];
    orchestrator.shows(&shown).await;
}

#[tokio::test]
async fn another_first_message_than_a_token_closes_at_once() {
    let stage = Stage::of("hive").await;
    for first in [r#"{"action":"subscribe"}"#, "hello", r#"{"action":"auth"}"#] {
        stage.node("probe.mjs", &[first]).shows(&["closed 1008 Auth required"]).await;
    }
}
