//! `crewcast tail`: watches channels through a gateway, resuming for ever.

use std::{path::PathBuf, process::ExitCode};

use crewcast_client::{Client, ClientError, Delivery, Request, Start, Subscription};
use crewcast_events::{Channel, EventId};
use futures_util::{StreamExt, stream::select_all};

use crate::{
    error::CliError,
    output::{self, Reader},
    render,
};

/// The exit code of what Ctrl-C ended, as in a shell.
const INTERRUPTED: u8 = 130;

/// Arguments of `tail`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to watch: graph:CREW, run:RUN, mission:CREW; graph:* or mission:* for every crew that the token grants
    #[arg(required = true, value_parser = target)]
    pub channels: Vec<Target>,
    /// The gateway
    #[arg(long, value_name = "URL", env = "CREWCAST_URL", default_value = "http://127.0.0.1:8000")]
    pub gateway: String,
    /// The token
    #[arg(long, value_name = "JWT", env = "CREWCAST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A file that holds the token; read again whenever a fresh one is needed. Counts before --token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Go on behind this event of the one channel that is named; 0: from the first that the log holds
    #[arg(long, value_name = "ID", value_parser = start)]
    pub since: Option<Start>,
    /// Only events of these types
    #[arg(long, value_delimiter = ',', value_name = "TYPE,…")]
    pub types: Vec<String>,
    /// Print the events as they are, one a line
    #[arg(long)]
    pub json: bool,
}

/// One thing to watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// One run.
    Run(Channel),
    /// The tools of one crew.
    Graph(Channel),
    /// The tools of every crew.
    Graphs,
    /// The status of one crew.
    Mission(Channel),
    /// The status of every crew.
    Missions,
}

fn target(text: &str) -> Result<Target, String> {
    match text {
        "graph:*" => return Ok(Target::Graphs),
        "mission:*" => return Ok(Target::Missions),
        _ => {}
    }
    let channel: Channel = text.parse().map_err(|bad| format!("{bad}"))?;
    match channel.namespace() {
        "run" => Ok(Target::Run(channel)),
        "graph" => Ok(Target::Graph(channel)),
        "mission" => Ok(Target::Mission(channel)),
        _ => Err("graph, run and mission channels can be watched".to_owned()),
    }
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "0" => Ok(Start::Beginning),
        id => id.parse::<EventId>().map(Start::After).map_err(|bad| bad.to_string()),
    }
}

/// Prints what comes until everything has ended.
///
/// # Errors
/// [`CliError`] when the gateway's address makes no sense, or when it refuses everything that is watched.
pub async fn run(args: Args) -> Result<ExitCode, CliError> {
    check_since(&args)?;
    let client = client(&args)?;
    let streams = args.channels.iter().map(|target| {
        let subscription = request(&client, target, &args).connect();
        watched(target.clone(), subscription)
    });
    let mut heard = select_all(streams.collect::<Vec<_>>());
    let mut watch = Watch { json: args.json, last: None, failed: false };
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let next = tokio::select! {
            next = heard.next() => next,
            _ = &mut interrupted => {
                watch.farewell(&args);
                return Ok(ExitCode::from(INTERRUPTED));
            }
        };
        let Some((target, delivery)) = next else {
            return Ok(if watch.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        };
        if watch.show(&target, delivery)? == Reader::Gone {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

type Heard = (Target, Result<Delivery, ClientError>);

fn watched(target: Target, subscription: Subscription) -> impl futures_util::Stream<Item = Heard> + Unpin {
    subscription.map(move |delivery| (target.clone(), delivery))
}

fn check_since(args: &Args) -> Result<(), CliError> {
    let one = matches!(args.channels.as_slice(), [Target::Run(_) | Target::Graph(_)]);
    match args.since {
        Some(Start::After(_)) if !one => Err(CliError::Usage(
            "--since names an event of one channel: watch one run or the graph of one crew".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn client(args: &Args) -> Result<Client, CliError> {
    let builder = Client::builder(&args.gateway);
    let builder = match (&args.token_file, &args.token) {
        (None, Some(token)) => builder.token(token),
        (Some(file), _) => {
            let file = file.clone();
            builder.token_source(move || {
                let file = file.clone();
                async move {
                    let read = tokio::fs::read_to_string(&file).await;
                    read.map_err(|error| format!("{}: {error}", file.display()))
                }
            })
        }
        (None, None) => builder,
    };
    builder.build().map_err(|error| CliError::Usage(error.to_string()))
}

fn request(client: &Client, target: &Target, args: &Args) -> Request {
    let request = match target {
        Target::Run(channel) => client.run(channel.id()),
        Target::Graph(channel) => client.graph(channel.id()),
        Target::Graphs => client.graphs(),
        Target::Mission(_) | Target::Missions => client.missions(),
    };
    request.since(args.since.unwrap_or_default()).types(&args.types)
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Run(channel) | Target::Graph(channel) | Target::Mission(channel) => channel.fmt(f),
            Target::Graphs => f.write_str("graph:*"),
            Target::Missions => f.write_str("mission:*"),
        }
    }
}

/// What is remembered from delivery to delivery.
struct Watch {
    json: bool,
    last: Option<EventId>,
    failed: bool,
}

impl Watch {
    fn show(&mut self, target: &Target, delivery: Result<Delivery, ClientError>) -> Result<Reader, CliError> {
        match delivery {
            Ok(Delivery::Event { channel, event }) => {
                // The socket of all missions carries those of other crews, too.
                if matches!(target, Target::Mission(wanted) if channel.as_ref() != Some(wanted)) {
                    return Ok(Reader::There);
                }
                self.last = event.id().or(self.last);
                if self.json {
                    return output::line(&one_line(event.text()));
                }
                let channel = channel.map_or_else(|| target.to_string(), |channel| channel.to_string());
                output::line(&render::event(&channel, &event))
            }
            Ok(other) => {
                if let Some(text) = news(&other) {
                    eprintln!("-- {target}: {text}");
                }
                Ok(Reader::There)
            }
            Err(error) => {
                self.failed = true;
                eprintln!("-- {target}: {}", advice(&error));
                Ok(Reader::There)
            }
        }
    }

    fn farewell(&self, args: &Args) {
        if let ([target @ (Target::Run(_) | Target::Graph(_))], Some(last)) = (args.channels.as_slice(), self.last) {
            eprintln!("-- {target}: go on from here with --since {last}");
        }
    }
}

/// JSON has line ends only between its tokens, where a blank is as good.
fn one_line(text: &str) -> String {
    text.trim().replace(['\n', '\r'], " ")
}

/// What happened beside events, in words; `None` where it is not worth any.
fn news(delivery: &Delivery) -> Option<String> {
    Some(match delivery {
        Delivery::Connected { resumed: true } => "connected".to_owned(),
        Delivery::Connected { resumed: false } => "connected, live from now on".to_owned(),
        Delivery::Disconnected { cut, retry_in } => {
            format!("{}; again in {:.1} s", render::remark(&cut.to_string()), retry_in.as_secs_f64())
        }
        Delivery::Reset { reason, from, .. } => {
            let follows = match from {
                Some(from) => format!("what the log holds follows, from {from}"),
                None => "the log is empty".to_owned(),
            };
            match reason.as_str() {
                "trimmed" => format!("some events are gone: the log no longer reaches back to them; {follows}"),
                _ => format!("the channel's history is another one now; {follows}"),
            }
        }
        Delivery::Gap { missed: Some(missed), .. } => format!("{missed} live events were missed"),
        Delivery::Gap { missed: None, .. } => "live events may have been missed".to_owned(),
        Delivery::Notice { message } => format!("the gateway says: {}", render::remark(message.text())),
        Delivery::End { reason } => format!("ended: {}", render::remark(reason)),
        _ => return None,
    })
}

fn advice(error: &ClientError) -> String {
    let next = match error {
        ClientError::Unauthorized { .. } => "; `crewcast token check` says what is wrong with a token",
        ClientError::Forbidden { .. } => "; `crewcast token check` says what a token grants",
        _ => "",
    };
    format!("{}{next}", render::remark(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Result<Args, clap::Error> {
        let cli = Cli::try_parse_from(line.split_whitespace())?;
        let Command::Tail(args) = cli.command else { panic!() };
        Ok(args)
    }

    #[test]
    fn targets_are_channels_of_the_crew_dialect() {
        let args = parse("crewcast tail graph:abc run:r1 mission:abc graph:* mission:* --types a,b --json").unwrap();
        let told: Vec<String> = args.channels.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["graph:abc", "run:r1", "mission:abc", "graph:*", "mission:*"]);
        assert_eq!(args.types, ["a", "b"]);
        for bad in ["tail", "tail abc", "tail hub:acme", "tail run:*", "tail graph:a/b", "tail run:r --since 7"] {
            assert!(parse(&format!("crewcast {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_goes_with_one_channel_and_the_beginning_with_any() {
        let checked = |line: &str| check_since(&parse(line).unwrap());
        assert!(checked("crewcast tail run:r --since 7-abcdefghijkl").is_ok());
        assert!(checked("crewcast tail run:r graph:g --since 0").is_ok());
        for bad in ["run:r graph:g", "mission:m", "graph:*"] {
            let checked = checked(&format!("crewcast tail {bad} --since 7-abcdefghijkl"));
            assert!(matches!(checked, Err(CliError::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn news_say_what_was_lost() {
        let reset = |reason: &str, from: Option<&str>| {
            let from = from.map(|id| id.parse().unwrap());
            news(&Delivery::Reset { channel: None, reason: reason.to_owned(), from }).unwrap()
        };
        assert!(reset("trimmed", Some("7-abcdefghijkl")).ends_with("from 7-abcdefghijkl"));
        assert!(reset("unknown_id", None).contains("another one"));
        assert_eq!(news(&Delivery::Gap { channel: None, missed: Some(3) }).unwrap(), "3 live events were missed");
        let end = news(&Delivery::End { reason: "\u{1b}[2J".to_owned() }).unwrap();
        assert!(!end.contains('\u{1b}'));
    }

    #[test]
    fn json_stays_one_line() {
        assert_eq!(one_line("{\n \"type\":\r\n\"a\\n\"}\n"), "{  \"type\":  \"a\\n\"}");
    }
}
