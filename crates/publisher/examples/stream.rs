//! One execution of a stream, with a pause for a person's decision:
//! `cargo run -p crewcast-publisher --example stream [redis://…]`.

use std::time::{Duration, Instant};

use crewcast_publisher::Publisher;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    produce(&url).await
}

/// Emits the example's events to the Redis at `url`.
pub(crate) async fn produce(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    // With an org, the stream is registered for it, and its readers need no list of streams in their tokens.
    let publisher = Publisher::builder().org("acme").connect(url).await?;
    let execution = publisher.stream("support").execution("e1");

    execution.started(&json!({"ticket": 7, "text": "I want my money back."}));
    let began = Instant::now();
    tokio::time::sleep(Duration::from_millis(100)).await;
    execution.node_executed("classify", began.elapsed(), &"billing");
    execution.state_changed("queue", &(), &"billing");
    execution.goal_progress(0.5, &json!({"answered": false, "polite": true}));

    execution.paused("refund", "a refund needs a person's approval");
    execution.resumed("refund", &json!({"approved": true, "by": "u1"}));
    execution.constraint_violation("max_refund", "the refund is above 100");

    execution.goal_achieved(&json!({"answered": true, "polite": true}));
    execution.completed(&json!({"answer": "It is on its way."}));
    publisher.stream("support").execution("e2").failed("the ticket is empty");

    let unsent = publisher.close(Duration::from_secs(5)).await;
    println!("{:?}, {} unsent", publisher.stats(), unsent.events);
    Ok(())
}
