//! A session of an org: its state and its log while it works.
//!
//! `cargo run -p crewcast-publisher --example session -- redis://127.0.0.1:6379`

use std::time::Duration;

use crewcast_publisher::{ActiveAgent, LogLevel, Publisher};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    produce(&url).await
}

/// Emits the example's events to the Redis at `url`.
pub(crate) async fn produce(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let publisher = Publisher::builder().org("acme").connect(url).await?;

    let session = publisher.session("s1").open("How high is the tide?");
    session.log(LogLevel::Info, "planner", "two agents will do", None);
    session.update(|state| {
        state.current_phase = "research".to_owned();
        let agent = |name: &str| ActiveAgent { agent_name: name.to_owned(), ..ActiveAgent::default() };
        state.active_agents = vec![agent("researcher"), agent("writer")];
    });
    session.log(LogLevel::Info, "researcher", "read the tables", Some(json!({"pages": 3})));
    session.update(|state| {
        state.overall_progress = 100.0;
        state.active_agents.clear();
        state.crew_output.push(json!("4.2 m at noon"));
    });
    session.end("completed");

    let unsent = publisher.close(Duration::from_secs(5)).await;
    println!("{:?}, not sent: {}", publisher.stats(), unsent.events);
    Ok(())
}
