//! `crewcast forward`: POSTs the events of a channel to a webhook, one after the other.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use crewcast_client::{Delivery, Start, Subscription};
use crewcast_events::{Channel, Event};
use crewcast_gateway::drain::{Signals, shutdown_signal};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::{
    position::PositionFile,
    webhook::{Outcome, Post, Webhook},
};
use crate::{duration, error::CliError, gateway::Gateway, render};

mod position;
mod retry;
mod signature;
mod webhook;

/// Arguments of `forward`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The channel whose events are posted, for example stream:webhook
    #[arg(long)]
    pub channel: Channel,
    /// Where to: http:// or https://. Only its host is ever printed
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// A file with the secret that signs each POST; read once
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Where to keep the id of the last event that was accepted, so that a restart goes on behind it
    #[arg(long, value_name = "FILE")]
    pub position_file: Option<PathBuf>,
    /// Where to begin as long as the position file holds no position: an event's id, 0 for the first event that the log
    /// holds, or now. By default 0 with a position file, and now without
    #[arg(long, value_name = "ID", value_parser = start)]
    pub since: Option<Start>,
    /// Only events of these types, compared without case
    #[arg(long, value_delimiter = ',', value_name = "TYPE,…")]
    pub types: Vec<String>,
    /// What to do when the webhook refuses an event for good (3xx, 4xx)
    #[arg(long, value_enum, default_value_t = OnRefusal::Stop)]
    pub on_refusal: OnRefusal,
    /// How long one POST may take
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "30s")]
    pub timeout: Duration,
    /// The gateway, and the token for it
    #[command(flatten)]
    pub gateway: Gateway,
}

/// What to do with an event that the webhook refuses.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnRefusal {
    /// End with exit code 1; the position stays before the event
    Stop,
    /// Tell, count, and go on with the next event
    Skip,
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "now" => Ok(Start::Default),
        "0" => Ok(Start::Beginning),
        id => id.parse().map(Start::After).map_err(|bad: crewcast_events::BadEventId| bad.to_string()),
    }
}

/// Posts until a signal comes, the gateway refuses the channel, or the webhook an event.
///
/// # Errors
/// [`CliError`] when the arguments make no sense, the position cannot be kept, or something is refused for good.
pub async fn run(args: Args) -> Result<ExitCode, CliError> {
    let mut signals = shutdown_signal().map_err(CliError::failed)?;
    let webhook = Webhook::new(&args.to, args.secret_file.as_deref(), args.timeout)?;
    let positions = args.position_file.as_deref().map(|path| PositionFile::open(path, &args.channel)).transpose()?;
    let start = begin_at(args.since, positions.as_ref());
    let events = args.gateway.client()?.stream([(args.channel.clone(), start)]).connect();
    let mut forward = Forward::new(args, webhook, positions);
    let ended = until_told(&mut forward, events, &mut signals).await;
    forward.farewell();
    ended.map(|()| ExitCode::SUCCESS)
}

async fn until_told(forward: &mut Forward, events: Subscription, signals: &mut impl Signals) -> Result<(), CliError> {
    let going = forward.going.clone();
    let forwarded = forward.run(events);
    tokio::pin!(forwarded);
    tokio::select! {
        ended = &mut forwarded => return ended,
        _ = signals.next() => going.cancel(),
    }
    // The POST under way is waited for, so that its event is not sent again by the next start.
    tokio::select! {
        ended = &mut forwarded => ended,
        _ = signals.next() => Ok(()),
    }
}

fn begin_at(since: Option<Start>, positions: Option<&PositionFile>) -> Start {
    match (positions.and_then(PositionFile::last), since) {
        (Some(id), _) => Start::After(id),
        (None, Some(since)) => since,
        (None, None) if positions.is_some() => Start::Beginning,
        (None, None) => Start::Default,
    }
}

/// One channel on its way to one webhook.
struct Forward {
    channel: Channel,
    types: Vec<String>,
    on_refusal: OnRefusal,
    webhook: Webhook,
    positions: Option<PositionFile>,
    /// Cancelled when the process is to end.
    going: CancellationToken,
    posted: u64,
    refused: u64,
}

impl Forward {
    fn new(args: Args, webhook: Webhook, positions: Option<PositionFile>) -> Self {
        let going = CancellationToken::new();
        let types = args.types.iter().map(|kind| kind.to_lowercase()).collect();
        let (channel, on_refusal) = (args.channel, args.on_refusal);
        Self { channel, types, on_refusal, webhook, positions, going, posted: 0, refused: 0 }
    }

    async fn run(&mut self, mut events: Subscription) -> Result<(), CliError> {
        let going = self.going.clone();
        while let Some(Some(delivery)) = going.run_until_cancelled(events.next()).await {
            match delivery.map_err(|error| CliError::Failed(advice(&error.to_string())))? {
                Delivery::Event { event, .. } => self.event(&event).await?,
                Delivery::Reset { reason, from, .. } => {
                    self.say(&format!("events are gone or their history is another one ({reason})"));
                    self.tell("reset", json!({ "reason": reason, "from": from })).await?;
                }
                Delivery::Gap { missed, .. } => {
                    self.say("live events were missed");
                    self.tell("gap", json!({ "missed": missed })).await?;
                }
                Delivery::Disconnected { cut, retry_in } => {
                    let why = render::remark(&cut.to_string());
                    self.say(&format!("{why}; again in {:.1} s", retry_in.as_secs_f64()));
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
            return self.positions.as_mut().map_or(Ok(()), |positions| positions.pass(event.id()));
        }
        let post = Post { channel: &self.channel, id: event.id(), control: None, body: event.raw().clone() };
        match self.webhook.deliver(&post, &self.going).await {
            Outcome::Accepted => self.posted += 1,
            Outcome::Interrupted => return Ok(()),
            Outcome::Refused(why) => {
                let name = event.id().map_or_else(|| "a live event".to_owned(), |id| id.to_string());
                if self.on_refusal == OnRefusal::Stop {
                    let help = "--on-refusal skip passes over what is refused";
                    return Err(CliError::Failed(format!("{name} of {} is refused: {why}; {help}", self.channel)));
                }
                self.refused += 1;
                self.say(&format!("{name} is refused and passed over: {why}"));
            }
        }
        self.positions.as_mut().map_or(Ok(()), |positions| positions.keep(event.id()))
    }

    /// Posts what the gateway said about events that do not come. A webhook that does not want to know is no reason to end.
    async fn tell(&mut self, kind: &'static str, mut message: serde_json::Value) -> Result<(), CliError> {
        message["type"] = json!(kind);
        message["source"] = json!("gateway");
        message["channel"] = json!(self.channel);
        let post = Post { channel: &self.channel, id: None, control: Some(kind), body: message.to_string().into() };
        if let Outcome::Refused(why) = self.webhook.deliver(&post, &self.going).await {
            self.say(&format!("the POST that tells of it is refused: {why}"));
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        eprintln!("-- {}: {text}", self.channel);
    }

    fn farewell(&self) {
        self.say(&format!("{} posted, {} refused and passed over", self.posted, self.refused));
    }
}

fn advice(error: &str) -> String {
    format!("{}; `crewcast token check` says what a token grants", render::remark(error))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Result<Args, clap::Error> {
        let cli = Cli::try_parse_from(line.split_whitespace())?;
        let Command::Forward(args) = cli.command else { panic!() };
        Ok(*args)
    }

    #[test]
    fn reads_its_arguments() {
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
    fn the_position_file_counts_before_since() {
        let folder = tempfile::tempdir().unwrap();
        let channel: Channel = "stream:w".parse().unwrap();
        let mut positions = PositionFile::open(&folder.path().join("p"), &channel).unwrap();
        assert_eq!(begin_at(None, None), Start::Default);
        assert_eq!(begin_at(None, Some(&positions)), Start::Beginning);
        assert_eq!(begin_at(Some(Start::Default), Some(&positions)), Start::Default);
        let id = "7-abcdefghijkl".parse().unwrap();
        positions.keep(Some(id)).unwrap();
        assert_eq!(begin_at(Some(Start::Beginning), Some(&positions)), Start::After(id));
    }
}
