//! Mission control: missions, tool calls and runs, with a token in the subprotocol.

use serde_json::json;

use crate::{
    stage::{Program, Stage},
    support::{redis::free_port, token::token},
};

const IDLE: [&str; 3] = ["mission abc available", "graph idle search", "run idle"];
const STORY: [&str; 11] = [
    "mission abc busy",
    "run boot",
    "run agent_start",
    "graph tool_start search",
    "graph tool_progress search",
    "graph tool_end search",
    "run agent_end",
    "run error",
    "run done",
    "mission abc offline",
    "state completed",
];

/// A token of that system: a user and an expiry. Nobody has registered a crew or a run.
fn jwt() -> String {
    token(json!({ "org": null }))
}

/// The mission begins with the status that a crew without any has.
async fn follows(client: &mut Program, stage: &Stage) {
    let mut backend = stage.backend();
    client.is_idle(&IDLE).await;
    client.forgets("mission abc offline");
    backend.play().await;
    client.shows(&STORY).await;
}

#[tokio::test]
async fn a_page_in_node_sees_missions_tools_and_a_run_to_its_end() {
    let stage = Stage::of("crew").await;
    follows(&mut stage.node("page.mjs", &[&jwt()]), &stage).await;
}

#[tokio::test]
async fn a_watcher_in_python_sees_the_same() {
    let stage = Stage::of("crew").await;
    follows(&mut stage.python("watch.py", &[&jwt()]), &stage).await;
}

#[tokio::test]
async fn a_panel_with_callbacks_in_python_sees_the_same() {
    let stage = Stage::of("crew").await;
    follows(&mut stage.python("panel.py", &[&jwt()]), &stage).await;
}

#[tokio::test]
async fn the_hooks_in_chromium_show_the_same() {
    let stage = Stage::of("crew").await;
    let mut page = stage.page(&[&format!("token={}", jwt())]).await;
    // The hook shows it once the socket is open, and not again.
    page.is_idle(&["state connected"]).await;
    follows(&mut page, &stage).await;
}

#[tokio::test]
async fn the_hooks_in_strict_mode_show_each_event_once() {
    let stage = Stage::of("crew").await;
    let mut page = stage.page(&[&format!("token={}", jwt()), "strict=1"]).await;
    // The hook shows it once the socket is open, and not again.
    page.is_idle(&["state connected"]).await;
    follows(&mut page, &stage).await;
}

#[tokio::test]
async fn a_run_goes_on_after_a_restart_of_the_gateway() {
    let listen = format!("127.0.0.1:{}", free_port());
    let settings = [("CREWCAST_LISTEN", listen.as_str())];
    let mut stage = Stage::with("crew", &settings).await;
    let mut page = stage.page(&[&format!("token={}", jwt())]).await;
    let mut backend = stage.backend();
    page.is_idle(&["run idle", "state connected"]).await;
    stage.restart(&settings).await;
    page.reaches("state reconnecting").await;
    page.reaches("state connected").await;
    page.reaches("run idle").await;
    backend.play().await;
    page.reaches("state completed").await;
}

#[tokio::test]
async fn a_run_is_lost_after_three_attempts() {
    let mut stage = Stage::of("crew").await;
    let mut page = stage.page(&[&format!("token={}", jwt())]).await;
    let _backend = stage.backend();
    page.is_idle(&["run idle", "state connected"]).await;
    stage.gateway.kill();
    page.reaches("state reconnecting").await;
    page.reaches("state lost").await;
}

#[tokio::test]
async fn a_bad_token_is_refused_with_a_reason_and_not_tried_again() {
    let stage = Stage::of("crew").await;
    let mut page = stage.page(&["token=x.y.z"]).await;
    page.reaches("state refused: 4401 not a JSON Web Token: get a new token").await;
}
