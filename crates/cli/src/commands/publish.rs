//! `crewcast publish`: events from the command line or from standard input, one JSON object a line.

use std::{process::ExitCode, sync::Arc};

use crewcast_events::Channel;
use crewcast_publisher::{State, Transport};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};

use self::sender::{Once, Sender};
use crate::{
    error::CliError,
    link,
    output::{self, Reader},
    settings::{ConfigArgs, key_value},
};

mod sender;

/// Arguments of `publish`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where to, for example graph:abc
    pub channel: Channel,
    /// The event, a JSON object with a "type"; without it, or with -, one object a line from standard input
    pub event: Option<String>,
    /// A plain PUBLISH: no id, no log; whoever is connected hears it
    #[arg(long, conflicts_with_all = ["key", "state"])]
    pub live: bool,
    /// Publish once however often this is repeated within 24 h. With standard input line n has the key KEY-n
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Set a state document beside the event, in the same step; KEY= removes it
    #[arg(long, value_name = "KEY=JSON", value_parser = key_value)]
    pub state: Option<(String, String)>,
    /// Publish through the gateway at this address instead of through Redis
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
    /// The token for --gateway; its claim "publish" must list the channel
    #[arg(long, value_name = "JWT", env = "CREWCAST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// Publishes and prints the ids, one a line.
///
/// # Errors
/// [`CliError`]; of standard input it names the line, and what stands before it has been published.
pub async fn run(args: Args, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let config = config.load()?.config;
    let transport: Arc<dyn Transport> = match &args.gateway {
        Some(gateway) => Arc::new(link::http(gateway, args.token.as_deref())?),
        None => Arc::new(link::redis(&config)?),
    };
    let once = match (args.live, &args.key) {
        (true, _) => Once::Live,
        (_, Some(key)) => Once::Key(key.clone()),
        _ => Once::Sequence,
    };
    let mut sender = Sender::new(transport, args.channel, once);
    match args.event.as_deref() {
        None | Some("-") => {
            if args.state.is_some() {
                return Err(CliError::Usage("--state goes with one event, not with standard input".to_owned()));
            }
            let input = BufReader::new(tokio::io::stdin());
            from_lines(input, config.limits.message.0, &mut sender, output::line).await?;
        }
        Some(event) => {
            let state = args.state.map(state).transpose()?;
            if let Some(id) = sender.send(event.trim().as_bytes().to_vec(), state, None).await? {
                output::line(&id)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn state((key, json): (String, String)) -> Result<State, CliError> {
    let value = match json.as_str() {
        "" => None,
        json => Some(RawValue::from_string(json.to_owned()).map_err(|error| {
            CliError::Usage(format!(
                "--state {key}: what follows the = is no JSON ({error}); a text needs its own quotes"
            ))
        })?),
    };
    Ok(State { key, value: value.map(Arc::from) })
}

/// Publishes line by line; `limit` bytes at most each. `print` gets the ids.
async fn from_lines<I, P>(mut input: I, limit: usize, sender: &mut Sender, mut print: P) -> Result<(), CliError>
where
    I: AsyncBufRead + Unpin,
    P: FnMut(&str) -> Result<Reader, CliError>,
{
    let mut number = 0;
    loop {
        number += 1;
        let mut line = Vec::new();
        // One byte more than fits, and the line's end.
        let mut bounded = (&mut input).take(limit as u64 + 2);
        let read = bounded.read_until(b'\n', &mut line).await.map_err(CliError::io("standard input"))?;
        if read == 0 {
            return Ok(());
        }
        let event = line.trim_ascii();
        if event.is_empty() && read <= limit {
            continue;
        }
        let at = |error: CliError| match error {
            CliError::Failed(text) => CliError::Failed(format!("line {number}: {text}")),
            CliError::Unreachable(text) => {
                CliError::Unreachable(format!("line {number} and the rest are not published: {text}"))
            }
            other => other,
        };
        if event.len() > limit || (read == limit + 2 && line.last() != Some(&b'\n')) {
            return Err(at(CliError::Failed(format!("longer than limits.message, {limit} bytes"))));
        }
        let id = sender.send(event.to_vec(), None, Some(number)).await.map_err(at)?;
        if let Some(id) = id {
            // Events go on even where nobody reads the ids.
            let _: Reader = print(&id)?;
        }
    }
}

#[cfg(test)]
mod tests;
