//! `crewcast forward`: POSTs the events of a channel to a webhook, in order.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use crewcast_client::{Delivery, Start, Subscription};
use crewcast_events::{Channel, Event};
use crewcast_gateway::{Signals, shutdown_signal};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::{
    position::PositionFile,
    webhook::{Post, PostOutcome, Webhook},
};
use crate::{duration, error::CliError, gateway::GatewayArgs, render};

mod position;
mod retry;
mod signature;
mod webhook;

/// Arguments of `forward`.
#[derive(clap::Args, Debug)]
pub(crate) struct ForwardArgs {
    /// The channel to forward, for example stream:webhook
    #[arg(long)]
    pub channel: Channel,
    /// The webhook's address, http:// or https://. Only its host is ever printed
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// A file with the secret that signs each POST. It is read once
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// A file for the id of the last accepted event. A restart resumes after it
    #[arg(long, value_name = "FILE")]
    pub position_file: Option<PathBuf>,
    /// Where to start if the position file holds no position: after an event's id, at 0 (the first event in the log),
    /// or now. Defaults to 0 with a position file, and to now without one
    #[arg(long, value_name = "ID", value_parser = start)]
    pub since: Option<Start>,
    /// Forward only events of these types, compared without case
    #[arg(long, value_delimiter = ',', value_name = "TYPE,…")]
    pub types: Vec<String>,
    /// What to do when the webhook refuses an event permanently (3xx, 4xx)
    #[arg(long, value_enum, default_value_t = OnRefusal::Stop)]
    pub on_refusal: OnRefusal,
    /// Timeout of one POST
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "30s")]
    pub timeout: Duration,
    /// The gateway and the token for it.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What to do with an event that the webhook refuses.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnRefusal {
    /// Stop with exit code 1. The position stays before the event
    Stop,
    /// Report and count the event, and go on with the next one
    Skip,
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "now" => Ok(Start::Default),
        "0" => Ok(Start::Beginning),
        id => id.parse().map(Start::After).map_err(|bad: crewcast_events::BadEventId| bad.to_string()),
    }
}

/// Forwards until a signal arrives, the gateway refuses the channel, or the webhook refuses an event.
///
/// # Errors
/// [`CliError`] when the arguments are invalid, the position cannot be written, or a request is refused permanently.
pub(crate) async fn run(args: ForwardArgs) -> Result<ExitCode, CliError> {
    let mut signals = shutdown_signal().map_err(CliError::failed)?;
    let webhook = Webhook::new(&args.to, args.secret_file.as_deref(), args.timeout)?;
    let positions = args.position_file.as_deref().map(|path| PositionFile::open(path, &args.channel)).transpose()?;
    let start = start_at(args.since, positions.as_ref());
    let events = args.gateway.client()?.stream([(args.channel.clone(), start)]).connect();
    let mut forwarder = Forwarder::new(args, webhook, positions);
    let ended = until_signal(&mut forwarder, events, &mut signals).await;
    forwarder.report_totals();
    ended.map(|()| ExitCode::SUCCESS)
}

async fn until_signal(
    forwarder: &mut Forwarder,
    events: Subscription,
    signals: &mut impl Signals,
) -> Result<(), CliError> {
    let shutdown = forwarder.shutdown.clone();
    let forwarded = forwarder.run(events);
    tokio::pin!(forwarded);
    tokio::select! {
        ended = &mut forwarded => return ended,
        _ = signals.next() => shutdown.cancel(),
    }
    // Waits for the current POST, so that the next start does not send its event again.
    tokio::select! {
        ended = &mut forwarded => ended,
        _ = signals.next() => Ok(()),
    }
}

fn start_at(since: Option<Start>, positions: Option<&PositionFile>) -> Start {
    match (positions.and_then(PositionFile::last), since) {
        (Some(id), _) => Start::After(id),
        (None, Some(since)) => since,
        (None, None) if positions.is_some() => Start::Beginning,
        (None, None) => Start::Default,
    }
}

/// Forwards one channel to one webhook.
struct Forwarder {
    channel: Channel,
    types: Vec<String>,
    on_refusal: OnRefusal,
    webhook: Webhook,
    positions: Option<PositionFile>,
    /// Cancelled when the process has to end.
    shutdown: CancellationToken,
    posted: u64,
    refused: u64,
}

impl Forwarder {
    fn new(args: ForwardArgs, webhook: Webhook, positions: Option<PositionFile>) -> Self {
        let shutdown = CancellationToken::new();
        let types = args.types.iter().map(|kind| kind.to_lowercase()).collect();
        let (channel, on_refusal) = (args.channel, args.on_refusal);
        Self { channel, types, on_refusal, webhook, positions, shutdown, posted: 0, refused: 0 }
    }

    async fn run(&mut self, mut events: Subscription) -> Result<(), CliError> {
        let shutdown = self.shutdown.clone();
        while let Some(Some(delivery)) = shutdown.run_until_cancelled(events.next()).await {
            match delivery.map_err(|error| CliError::Failed(advice(&error.to_string())))? {
                Delivery::Event { event, .. } => self.event(&event).await?,
                Delivery::Reset { reason, from, .. } => {
                    self.say(&format!("events are missing: history was trimmed or has changed ({reason})"));
                    self.post_control("reset", json!({ "reason": reason, "from": from })).await?;
                }
                Delivery::Gap { missed, .. } => {
                    self.say("live events were missed");
                    self.post_control("gap", json!({ "missed": missed })).await?;
                }
                Delivery::Disconnected { cut, retry_in } => {
                    let why = render::remark(&cut.to_string());
                    self.say(&format!("{why}; trying again in {:.1} s", retry_in.as_secs_f64()));
                }
                Delivery::Refused { code, reason, .. } => self.say(&render::remark(&format!("{code}: {reason}"))),
                Delivery::Notice { message } => self.say(&render::remark(message.text())),
                _ => {}
            }
        }
        Ok(())
    }

    async fn event(&mut self, event: &Event) -> Result<(), CliError> {
        if !self.types.is_empty() && !self.types.contains(&event.kind().to_lowercase()) {
            return self.positions.as_mut().map_or(Ok(()), |positions| positions.skip(event.id()));
        }
        let post = Post { channel: &self.channel, id: event.id(), control: None, body: event.raw().clone() };
        match self.webhook.deliver(&post, &self.shutdown).await {
            PostOutcome::Accepted => self.posted += 1,
            PostOutcome::Interrupted => return Ok(()),
            PostOutcome::Refused(why) => {
                let name = event.id().map_or_else(|| "a live event".to_owned(), |id| id.to_string());
                if self.on_refusal == OnRefusal::Stop {
                    let help = "use --on-refusal skip to skip refused events";
                    return Err(CliError::Failed(format!(
                        "the webhook refused {name} of {}: {why}; {help}",
                        self.channel
                    )));
                }
                self.refused += 1;
                self.say(&format!("the webhook refused {name}, skipped: {why}"));
            }
        }
        self.positions.as_mut().map_or(Ok(()), |positions| positions.store(event.id()))
    }

    /// Posts a control message about missing events. If the webhook refuses it, forwarding goes on.
    async fn post_control(&mut self, kind: &'static str, mut message: serde_json::Value) -> Result<(), CliError> {
        message["type"] = json!(kind);
        message["source"] = json!("gateway");
        message["channel"] = json!(self.channel);
        let post = Post { channel: &self.channel, id: None, control: Some(kind), body: message.to_string().into() };
        if let PostOutcome::Refused(why) = self.webhook.deliver(&post, &self.shutdown).await {
            self.say(&format!("the webhook refused the {kind} message: {why}"));
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        eprintln!("-- {}: {text}", self.channel);
    }

    fn report_totals(&self) {
        self.say(&format!("{} posted, {} refused and skipped", self.posted, self.refused));
    }
}

fn advice(error: &str) -> String {
    format!("{}; run `crewcast token check` to see what the token grants", render::remark(error))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Result<ForwardArgs, clap::Error> {
        let cli = Cli::try_parse_from(line.split_whitespace())?;
        let Command::Forward(args) = cli.command else { panic!() };
        Ok(*args)
    }

    #[test]
    fn parses_its_arguments() {
        let args = parse("crewcast forward --channel stream:w --to https://h/x --types A,b --on-refusal skip").unwrap();
        assert_eq!((args.channel.as_str(), args.on_refusal, args.timeout.as_secs()), ("stream:w", OnRefusal::Skip, 30));
        let since = |text: &str| {
            parse(&format!("crewcast forward --channel stream:w --to http://h --since {text}")).map(|args| args.since)
        };
        assert_eq!(since("now").unwrap(), Some(Start::Default));
        assert_eq!(since("0").unwrap(), Some(Start::Beginning));
        assert!(matches!(since("7-abcdefghijkl").unwrap(), Some(Start::After(_))));
        for bad in ["forward --to http://h", "forward --channel stream:w", "forward --channel w --to http://h"] {
            assert!(parse(&format!("crewcast {bad}")).is_err(), "{bad}");
        }
        assert!(since("7").is_err());
    }

    #[test]
    fn the_position_file_takes_precedence_over_since() {
        let folder = tempfile::tempdir().unwrap();
        let channel: Channel = "stream:w".parse().unwrap();
        let mut positions = PositionFile::open(&folder.path().join("p"), &channel).unwrap();
        assert_eq!(start_at(None, None), Start::Default);
        assert_eq!(start_at(None, Some(&positions)), Start::Beginning);
        assert_eq!(start_at(Some(Start::Default), Some(&positions)), Start::Default);
        let id = "7-abcdefghijkl".parse().unwrap();
        positions.store(Some(id)).unwrap();
        assert_eq!(start_at(Some(Start::Beginning), Some(&positions)), Start::After(id));
    }
}
