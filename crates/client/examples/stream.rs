//! Follows any number of channels over one socket, and goes on where the last process stopped.
//!
//! `CREWCAST_TOKEN=… cargo run -p crewcast-client --example stream http://127.0.0.1:8000 positions.json graph:abc
//! stream:s1`

use std::{collections::BTreeMap, fs, io, path::Path};

use crewcast_client::{Client, Delivery, Start};
use crewcast_events::{Channel, EventId};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    const USAGE: &str = "usage: stream <gateway> <file> <namespace:id>…";
    let mut arguments = std::env::args().skip(1);
    let (gateway, file) = arguments.next().zip(arguments.next()).ok_or(USAGE)?;
    let channels = arguments.map(|name| name.parse()).collect::<Result<Vec<Channel>, _>>()?;
    let client = Client::builder(gateway).token(std::env::var("CREWCAST_TOKEN")?).build()?;
    follow(&client, channels, Path::new(&file), |channel, event| println!("{channel} {event}")).await
}

/// Calls `print` for each event, then stores the positions in `file`. After a crash between the two steps, `print`
/// sees that event again: at least once, never lost.
pub(crate) async fn follow(
    client: &Client,
    channels: Vec<Channel>,
    file: &Path,
    mut print: impl FnMut(&Channel, &str),
) -> Result<(), Box<dyn std::error::Error>> {
    let stored = load(file)?;
    // A channel without a stored position begins with the first event that its log holds.
    let starts = channels.into_iter().map(|channel| {
        let start = stored.get(&channel).map_or(Start::Beginning, |id| Start::After(*id));
        (channel, start)
    });
    let mut deliveries = client.stream(starts).connect();
    while let Some(delivery) = deliveries.next().await {
        match delivery? {
            Delivery::Event { channel: Some(channel), event } => {
                print(&channel, event.text());
                fs::write(file, serde_json::to_vec(deliveries.positions())?)?;
            }
            Delivery::Reset { channel, reason, .. } => eprintln!("some events of {channel:?} were missed: {reason}"),
            Delivery::Refused { channel, reason, .. } => eprintln!("{channel} is refused: {reason}"),
            _ => {}
        }
    }
    Ok(())
}

fn load(file: &Path) -> Result<BTreeMap<Channel, EventId>, Box<dyn std::error::Error>> {
    match fs::read(file) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}
