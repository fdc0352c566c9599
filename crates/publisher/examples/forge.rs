//! Agents, tasks, knowledge and metrics of an org: `cargo run -p crewcast-publisher --example forge [redis://…]`.

use std::time::Duration;

use crewcast_publisher::{
    Publisher, TaskHandle,
    catalog::forge::{
        agents::Agent,
        knowledge::{Counts, Edge, Node},
        tasks::Task,
    },
};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    produce(&url).await
}

/// Emits the example's events to the Redis at `url`.
pub(crate) async fn produce(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let publisher = Publisher::connect(url).await?;

    let agents = publisher.agents("acme");
    let researcher = Agent::new("a1", "Researcher", "idle");
    let writer = Agent::new("a2", "Writer", "idle");
    agents.created(&researcher);
    agents.created(&writer);
    let researcher = Agent { status: "busy".into(), ..researcher };
    agents.status_changed(&researcher, Some("idle"));
    agents.deleted(&writer.agent_id, Some("nothing to write"));

    // The wrapper emits start, end and error; the function keeps its result.
    let tasks = publisher.tasks("acme");
    let read = tasks.run(Task::new("t1", "Read the tide tables").of_agent("a1"), |task| read_pages(task, 8)).await;
    println!("{read:?}");
    let read = tasks.run(Task::new("t2", "Read the almanac").of_agent("a1"), |task| read_pages(task, 9)).await;
    println!("{read:?}");
    // A task that ends in another process stays in the state until then.
    let begun = Task::new("t3", "Watch the sea");
    tasks.started(&begun);
    tasks.progress(&begun, 10.0, "high water");

    let knowledge = publisher.knowledge("acme");
    knowledge.node_added(Node::new("moon", "Moon"), Some(Counts { nodes: 1, edges: 0 }));
    knowledge.node_added(Node::new("tides", "Tides"), Some(Counts { nodes: 2, edges: 0 }));
    knowledge.edge_added(Edge::new("moon", "causes", "tides"), None);
    knowledge.updated(Counts { nodes: 120, edges: 300 }, &json!({"source": "almanac"}));

    let metrics = publisher.metrics("acme");
    metrics.system(&json!({"cpu_percent": 12.5}));
    metrics.system(&json!({"cpu_percent": 13.0}));
    metrics.tasks(&json!({"completed": 1, "failed": 1}));
    metrics.agents(&json!({"busy": 1}));
    metrics.custom(&json!({"tides_seen": 2}));

    let unsent = publisher.close(Duration::from_secs(5)).await;
    println!("{:?}, {} unsent", publisher.stats(), unsent.events);
    Ok(())
}

async fn read_pages(task: TaskHandle, pages: u32) -> Result<u32, String> {
    for page in 1..=pages {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if page == 9 {
            return Err(format!("page {page} is missing"));
        }
        task.progress(f64::from(page) / f64::from(pages) * 100.0, &format!("page {page} of {pages}"));
    }
    task.set_result(&json!({"pages": pages}));
    Ok(pages)
}
