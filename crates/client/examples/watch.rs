//! Follows one run until it ends and prints its events, one per line.
//!
//! `CREWCAST_TOKEN=… cargo run -p crewcast-client --example watch http://127.0.0.1:8000 r1`

use crewcast_client::{Client, ClientError, Delivery};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (gateway, run) = arguments.next().zip(arguments.next()).ok_or("usage: watch <gateway> <run>")?;
    let client = Client::builder(gateway).token(std::env::var("CREWCAST_TOKEN")?).build()?;
    Ok(watch(&client, &run, |event| println!("{event}")).await?)
}

/// Calls `print` for each event of the run. Remarks go to standard error.
pub(crate) async fn watch(client: &Client, run: &str, mut print: impl FnMut(&str)) -> Result<(), ClientError> {
    let mut deliveries = client.run(run).connect();
    while let Some(delivery) = deliveries.next().await {
        match delivery? {
            Delivery::Event { event, .. } => print(event.text()),
            // The client reconnects by itself and goes on after the last event.
            Delivery::Disconnected { cut, retry_in } => eprintln!("{cut}; next attempt in {retry_in:?}"),
            Delivery::Reset { reason, .. } => eprintln!("some events were missed: {reason}"),
            Delivery::End { reason } => eprintln!("{reason}"),
            _ => {}
        }
    }
    Ok(())
}
