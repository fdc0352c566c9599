//! `crewcast publish`: publishes events from the command line or from standard input, one JSON object per line.

use std::{process::ExitCode, sync::Arc};

use crewcast_events::Channel;
use crewcast_gateway::{Directory, config::Config};
use crewcast_publisher::{DEFAULT_LEASE, LeaseStep, State, Transport};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpStream,
    time::{Duration, timeout},
};

use self::sender::{Dedup, Sender};
use crate::{
    backend, duration,
    error::CliError,
    hints,
    output::{self, Pipe},
    settings::{ConfigArgs, key_value},
};

mod sender;

/// How long a hint may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Arguments of `publish`.
#[derive(clap::Args, Debug)]
pub(crate) struct PublishArgs {
    /// The channel to publish to, for example graph:abc
    pub channel: Channel,
    /// The event, a JSON object with a "type". Without it, or with -, reads one object per line from standard input
    pub event: Option<String>,
    /// Publish a live event: no id, no log, only for current subscribers
    #[arg(long, conflicts_with_all = ["key", "state", "lease"])]
    pub live: bool,
    /// Idempotency key: repeating the command within 24 h does not publish again. Line n of standard input has the key
    /// KEY-n
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Set a state document in the same atomic step as the event. KEY= removes the document
    #[arg(long, value_name = "KEY=JSON", value_parser = key_value)]
    pub state: Option<(String, String)>,
    /// Make or renew a lease in the same atomic step: NAME for 30 s, or NAME:TTL, for example s1:2m. NAME:end ends it.
    /// Every line of standard input renews it
    #[arg(long, value_name = "NAME[:TTL]", value_parser = lease)]
    pub lease: Option<LeaseStep>,
    /// Publish through the gateway at this address instead of Redis
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
    /// The token for --gateway. Its claim "publish" must list the channel
    #[arg(long, value_name = "JWT", env = "CREWCAST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// Publishes the events and prints their ids, one per line.
///
/// # Errors
/// [`CliError`]. With standard input it names the line; the lines before it have been published.
pub(crate) async fn run(args: PublishArgs, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let config = config.load()?.config;
    let (channel, gateway) = (args.channel.clone(), args.gateway.clone());
    let unknown = hints::unknown_namespace(&channel, &config.namespaces);
    match (publish(args, &config).await, &gateway) {
        (Ok(()), None) => warn_of_no_owner(&channel, &config).await,
        (Ok(()), Some(_)) => {}
        // The gateway's configuration may have other namespaces: only its refusal counts.
        (Err(CliError::Failed(text)), _) if unknown.is_some() => {
            return Err(CliError::Failed(format!("{text}\n{}", unknown.unwrap_or_default())));
        }
        (Err(CliError::Failed(text)), Some(_)) if text.contains("bad signature") => {
            return Err(CliError::Failed(format!("{text}: {}", hints::OTHER_KEY)));
        }
        (Err(CliError::Unreachable(text)), gateway) => {
            let target = match gateway {
                Some(url) => format!("{url}{}", cause(url).await),
                None => {
                    backend::host_and_port(&config).map_or_else(String::new, |(host, port)| format!("{host}:{port}"))
                }
            };
            return Err(CliError::Unreachable(format!("{target}: {text}")));
        }
        (Err(error), _) => return Err(error),
    }
    Ok(ExitCode::SUCCESS)
}

/// Why no connection to the gateway can be opened, in parentheses.
async fn cause(url: &str) -> String {
    let Ok(url) = reqwest::Url::parse(url) else { return String::new() };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return String::new() };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => String::new(),
        Ok(Err(error)) => format!(" ({error})"),
        Err(_) => format!(" (no connection within {} s)", CONNECT_TIMEOUT.as_secs()),
    }
}

/// An id that no org owns has no subscribers: says so on standard error.
async fn warn_of_no_owner(channel: &Channel, config: &Config) {
    let kind = config.namespaces.of(channel).and_then(|rules| rules.owner?.kind());
    let Some(kind) = kind.filter(|_| config.auth.default_org.is_none()) else { return };
    let Ok(registry) = backend::registry(config) else { return };
    let id = channel.id().to_owned();
    let owners = timeout(CONNECT_TIMEOUT, registry.owners(kind, std::slice::from_ref(&id))).await;
    if let Ok(Ok(owners)) = owners
        && !owners.contains_key(&id)
    {
        let kind = kind.as_str();
        eprintln!(
            "no org owns {kind} {id}, so only tokens that list it by name can read it: `crewcast register {kind} {id} \
             --org ORG` makes it the org's"
        );
    }
}

async fn publish(args: PublishArgs, config: &Config) -> Result<(), CliError> {
    let transport: Arc<dyn Transport> = match &args.gateway {
        Some(gateway) => Arc::new(backend::http(gateway, args.token.as_deref())?.with_leases()),
        None => Arc::new(backend::redis(config)?),
    };
    let dedup = match (args.live, &args.key) {
        (true, _) => Dedup::Live,
        (_, Some(key)) => Dedup::Key(key.clone()),
        _ => Dedup::Sequence,
    };
    let mut sender = Sender::new(transport, args.channel, dedup).with_lease(args.lease);
    match args.event.as_deref() {
        None | Some("-") => {
            if args.state.is_some() {
                return Err(CliError::Usage(
                    "--state cannot be used with standard input: pass the event as an argument".to_owned(),
                ));
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
    Ok(())
}

fn state((key, json): (String, String)) -> Result<State, CliError> {
    let value = match json.as_str() {
        "" => None,
        json => Some(RawValue::from_string(json.to_owned()).map_err(|error| {
            CliError::Usage(format!(
                "--state {key}: the value is not JSON ({error}): put a text in double quotes, as in {key}='\"text\"'"
            ))
        })?),
    };
    Ok(State { key, value: value.map(Arc::from) })
}

/// Parses `NAME`, `NAME:TTL` or `NAME:end`. A name may hold colons, so a TTL has a unit.
fn lease(text: &str) -> Result<LeaseStep, String> {
    let ttl_of = |end: &str| end.ends_with(char::is_alphabetic).then(|| duration::parse(end).ok()).flatten();
    let step = match text.rsplit_once(':') {
        Some((name, "end")) => LeaseStep::Release { name: name.into() },
        Some((name, end)) if ttl_of(end).is_some() => hold(name, ttl_of(end).unwrap_or(DEFAULT_LEASE)),
        _ => hold(text, DEFAULT_LEASE),
    };
    step.check()?;
    Ok(step)
}

fn hold(name: &str, ttl: Duration) -> LeaseStep {
    LeaseStep::Hold { name: name.into(), ttl, about: None }
}

/// Publishes line by line and passes the ids to `print`. A line has at most `limit` bytes.
async fn from_lines<I, P>(mut input: I, limit: usize, sender: &mut Sender, mut print: P) -> Result<(), CliError>
where
    I: AsyncBufRead + Unpin,
    P: FnMut(&str) -> Result<Pipe, CliError>,
{
    let mut number = 0;
    loop {
        number += 1;
        let mut line = Vec::new();
        // One byte more than allowed, plus the line end.
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
                CliError::Unreachable(format!("line {number} and the lines after it were not published: {text}"))
            }
            other => other,
        };
        if event.len() > limit || (read == limit + 2 && line.last() != Some(&b'\n')) {
            return Err(at(CliError::Failed(format!("longer than limits.message ({limit} bytes)"))));
        }
        let id = sender.send(event.to_vec(), None, Some(number)).await.map_err(at)?;
        if let Some(id) = id {
            // Goes on even if nobody reads the ids.
            let _: Pipe = print(&id)?;
        }
    }
}

#[cfg(test)]
mod tests;
