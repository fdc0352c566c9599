//! What two agents are doing: `cargo run -p crewcast-publisher --example tracking [redis://…]`.

use std::time::Duration;

use crewcast_publisher::{
    Publisher,
    catalog::tracking::{Activity, AgentCollaboration, AgentStatus, StatusMetadata},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    produce(&url).await
}

/// Emits the example's events to the Redis at `url`.
pub(crate) async fn produce(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let publisher = Publisher::connect(url).await?;
    let tracking = publisher.tracking("acme");
    let researcher = |status, progress, message: &str| {
        let metadata = StatusMetadata { task_id: Some("t1".into()), estimated_completion: None };
        let (agent_id, agent_name, message) = ("a1".into(), "Researcher".into(), message.into());
        AgentStatus { agent_id, agent_name, status, progress, message, metadata }
    };

    tracking.agent_status(researcher(Activity::Analyzing, 0.0, "reads the question"));
    tracking.agent_status(researcher(Activity::Processing, 50.0, "reads the tide tables"));
    tracking.agent_collaboration(AgentCollaboration {
        primary_agent: "Researcher".into(),
        secondary_agent: "Writer".into(),
        collaboration_type: "handoff".into(),
        reason: "the tables are read".into(),
    });
    tracking.agent_status(researcher(Activity::Completed, 100.0, "done"));

    let unsent = publisher.close(Duration::from_secs(5)).await;
    println!("{:?}, {} unsent", publisher.stats(), unsent.events);
    Ok(())
}
