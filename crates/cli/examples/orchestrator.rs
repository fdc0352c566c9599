//! An orchestrator: when one agent completes an execution, the next agent starts with its output.
//!
//! `CREWCAST_TOKEN=… cargo run -p crewcast --example orchestrator http://127.0.0.1:8000 research writing review`
//!
//! The token must grant reading the streams (`streams`) and publishing to all but the first (`publish`). Each agent
//! waits for `execution_started` on its own stream. All executions of a chain have the same id, so that an agent
//! recognises one that is started again after a crash of the orchestrator.

use std::{collections::HashMap, time::Duration};

use crewcast_client::{Client, Delivery, Start};
use crewcast_events::{
    Channel,
    catalog::stream::{StreamEvent, StreamKind},
};
use crewcast_publisher::Publisher;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let gateway = arguments.next().ok_or("usage: orchestrator <gateway> <stream>…")?;
    let token = std::env::var("CREWCAST_TOKEN")?;
    let client = Client::builder(&gateway).token(&token).build()?;
    let publisher = Publisher::builder().connect_http(&gateway, &token)?;
    let stages: Vec<String> = arguments.collect();
    let ended = orchestrate(&client, &publisher, &stages, Start::Default).await;
    publisher.close(Duration::from_secs(5)).await;
    ended
}

/// Starts stage after stage, until the gateway refuses all streams. Reading starts at `start` in each stream.
pub(crate) async fn orchestrate(
    client: &Client,
    publisher: &Publisher,
    stages: &[String],
    start: Start,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut next_of = HashMap::new();
    for pair in stages.windows(2) {
        next_of.insert(Channel::new("stream", &pair[0])?, publisher.stream(&pair[1]));
    }
    let starts: Vec<_> = next_of.keys().map(|channel| (channel.clone(), start)).collect();
    let mut events = client.stream(starts).types(["execution_completed"]).connect();
    while let Some(delivery) = events.next().await {
        let Delivery::Event { channel: Some(channel), event } = delivery? else { continue };
        let Ok(event) = serde_json::from_slice::<StreamEvent>(event.raw()) else { continue };
        if let (StreamKind::ExecutionCompleted { output, .. }, Some(next)) = (event.kind, next_of.get(&channel)) {
            next.execution(&event.execution_id).started(&output);
        }
    }
    Ok(())
}
