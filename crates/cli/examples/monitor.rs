//! A monitor that prints an alert for each execution that fails or violates a constraint.
//!
//! `CREWCAST_TOKEN=… cargo run -p crewcast --example monitor http://127.0.0.1:8000 stream:support stream:billing`

use crewcast_client::{Client, ClientError, Delivery, Start};
use crewcast_events::{
    Channel,
    catalog::stream::{StreamEvent, StreamKind},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let gateway = arguments.next().ok_or("usage: monitor <gateway> <stream:…>…")?;
    let channels = arguments.map(|name| name.parse()).collect::<Result<Vec<Channel>, _>>()?;
    let client = Client::builder(gateway).token(std::env::var("CREWCAST_TOKEN")?).build()?;
    Ok(watch(&client, channels, |alert| println!("ALERT {alert}")).await?)
}

/// Calls `alert` for each event that needs attention, until the gateway refuses all channels.
pub(crate) async fn watch(
    client: &Client,
    channels: Vec<Channel>,
    mut alert: impl FnMut(String),
) -> Result<(), ClientError> {
    let starts = channels.into_iter().map(|channel| (channel, Start::Default));
    let mut events = client.stream(starts).types(["execution_failed", "constraint_violation"]).connect();
    while let Some(delivery) = events.next().await {
        match delivery? {
            Delivery::Event { channel: Some(channel), event } => {
                // Producers may publish events that are not in the catalog.
                let Ok(event) = serde_json::from_slice::<StreamEvent>(event.raw()) else { continue };
                let execution = format!("{channel} {}", event.execution_id);
                match event.kind {
                    StreamKind::ExecutionFailed { error, .. } => alert(format!("{execution} failed: {error}")),
                    StreamKind::ConstraintViolation { constraint, message, .. } => {
                        alert(format!("{execution} violates {constraint}: {message}"));
                    }
                    _ => {}
                }
            }
            // A monitor must report that it has missed events.
            Delivery::Reset { channel, .. } | Delivery::Gap { channel, .. } => {
                let channel = channel.map_or_else(|| "a channel".to_owned(), |channel| channel.to_string());
                alert(format!("events of {channel} were missed"));
            }
            _ => {}
        }
    }
    Ok(())
}
