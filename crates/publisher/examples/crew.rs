//! A run of one agent with one tool: `cargo run -p crewcast-publisher --example crew [redis://…]`.

use std::time::{Duration, Instant};

use crewcast_publisher::{Outcome, Publisher, RunOutcome};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    produce(&url).await
}

/// Emits the example's events to the Redis at `url`.
pub(crate) async fn produce(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let publisher = Publisher::connect(url).await?;
    let began = Instant::now();

    publisher.mission("abc").busy();
    let run = publisher.run("r1").with_crew("abc");
    run.boot(&json!({"topic": "tides"}));
    run.agent_start("a1", "researcher");
    {
        let call = publisher.tools("abc", "r1", "a1").start("web_search", &json!({"q": "tides"}));
        for page in 1..=3 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            call.progress(format!("page {page} of 3"), Some(f64::from(page) / 3.0));
        }
        // Dropped here: `tool_end` with its duration.
    }
    run.agent_end("a1", "researcher", Outcome::Success, began.elapsed(), None);
    run.done(RunOutcome::Success, began.elapsed(), Some(json!("The moon does it.")));
    publisher.mission("abc").available();

    let unsent = publisher.close(Duration::from_secs(5)).await;
    println!("{:?}, {} unsent", publisher.stats(), unsent.events);
    Ok(())
}
