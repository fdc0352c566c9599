//! `crewcast tail`: watches channels through a gateway, resuming for ever.

use std::{collections::BTreeMap, process::ExitCode, rc::Rc};

use crewcast_client::{Client, ClientError, Delivery, Request, Start};
use crewcast_events::{Channel, EventId};
use futures_util::{StreamExt, stream::select_all};

use crate::{
    error::CliError,
    gateway::Gateway,
    output::{self, Reader},
    render,
};

/// The exit code of what Ctrl-C ended, as in a shell.
const INTERRUPTED: u8 = 130;

/// Arguments of `tail`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to watch: any channels, such as run:RUN, graph:CREW, stream:STREAM; graph:* or mission:* for every crew that
    /// the token grants
    #[arg(required = true, value_parser = target)]
    pub channels: Vec<Target>,
    /// The gateway, and the token for it
    #[command(flatten)]
    pub gateway: Gateway,
    /// Go on behind this event of the one channel that is named, or of CHANNEL; 0: from the first that the log holds
    #[arg(long, value_delimiter = ',', value_name = "ID or CHANNEL=ID", value_parser = since)]
    pub since: Vec<Since>,
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
    /// One run, which ends.
    Run(Channel),
    /// Any other channel. All of them share one socket.
    Channel(Channel),
    /// The tools of every crew.
    Graphs,
    /// The status of every crew.
    Missions,
}

/// Where to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Since {
    /// `None`: the one that is watched or, for the beginning, each.
    channel: Option<Channel>,
    start: Start,
}

fn target(text: &str) -> Result<Target, String> {
    match text {
        "graph:*" => return Ok(Target::Graphs),
        "mission:*" => return Ok(Target::Missions),
        _ => {}
    }
    let channel: Channel = text.parse().map_err(|bad| format!("{bad}"))?;
    Ok(if channel.namespace() == "run" { Target::Run(channel) } else { Target::Channel(channel) })
}

fn since(text: &str) -> Result<Since, String> {
    let (channel, id) = match text.split_once('=') {
        Some((channel, id)) => (Some(channel.parse::<Channel>().map_err(|bad| bad.to_string())?), id),
        None => (None, text),
    };
    let start = match id {
        "0" => Start::Beginning,
        id => id.parse::<EventId>().map(Start::After).map_err(|bad| bad.to_string())?,
    };
    Ok(Since { channel, start })
}

/// Prints what comes until everything has ended.
///
/// # Errors
/// [`CliError`] when the gateway's address makes no sense, or when it refuses everything that is watched.
pub async fn run(args: Args) -> Result<ExitCode, CliError> {
    check_since(&args)?;
    let client = args.gateway.client()?;
    let mut heard = select_all(watches(&client, &args));
    let mut watch = Watch { json: args.json, last: BTreeMap::new(), failed: false };
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
        let Some((what, delivery)) = next else {
            return Ok(if watch.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        };
        if watch.show(&what, delivery)? == Reader::Gone {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// What is watched, in words, and what came of it.
type Heard = (Rc<str>, Result<Delivery, ClientError>);

/// One socket for each run and each kind of all, and one for all other channels.
fn watches(client: &Client, args: &Args) -> Vec<impl futures_util::Stream<Item = Heard> + Unpin + use<>> {
    let mut requests: Vec<(String, Request)> = Vec::new();
    let mut channels = Vec::new();
    for target in &args.channels {
        match target {
            Target::Run(channel) => {
                let request = client.run(channel.id()).since(start(args, channel));
                requests.push((channel.to_string(), request));
            }
            Target::Channel(channel) => channels.push((channel.clone(), start(args, channel))),
            Target::Graphs => requests.push(("graph:*".to_owned(), client.graphs())),
            Target::Missions => requests.push(("mission:*".to_owned(), client.missions())),
        }
    }
    if !channels.is_empty() {
        let names: Vec<&str> = channels.iter().map(|(channel, _)| channel.as_str()).collect();
        requests.push((names.join(" "), client.stream(channels)));
    }
    let watched = |(what, request): (String, Request)| {
        let what: Rc<str> = what.into();
        request.types(&args.types).connect().map(move |delivery| (what.clone(), delivery))
    };
    requests.into_iter().map(watched).collect()
}

/// Where a channel starts: as is said of it, or of all.
fn start(args: &Args, channel: &Channel) -> Start {
    let own = args.since.iter().find(|since| since.channel.as_ref() == Some(channel));
    own.or(args.since.iter().find(|since| since.channel.is_none())).map(|since| since.start).unwrap_or_default()
}

fn check_since(args: &Args) -> Result<(), CliError> {
    let named: Vec<&Channel> = args.channels.iter().filter_map(Target::channel).collect();
    let is_one = named.len() == 1 && args.channels.len() == 1;
    for since in &args.since {
        match (&since.channel, since.start) {
            (None, Start::After(_)) if !is_one => {
                let text = "--since names an event of one channel: watch one, or say --since CHANNEL=ID";
                return Err(CliError::Usage(text.to_owned()));
            }
            (Some(channel), _) if !named.contains(&channel) => {
                return Err(CliError::Usage(format!("--since names {channel}, which is not watched by its name")));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Target {
    fn channel(&self) -> Option<&Channel> {
        match self {
            Target::Run(channel) | Target::Channel(channel) => Some(channel),
            Target::Graphs | Target::Missions => None,
        }
    }
}

/// What is remembered from delivery to delivery.
struct Watch {
    json: bool,
    last: BTreeMap<Channel, EventId>,
    failed: bool,
}

impl Watch {
    fn show(&mut self, what: &str, delivery: Result<Delivery, ClientError>) -> Result<Reader, CliError> {
        match delivery {
            Ok(Delivery::Event { channel, event }) => {
                let name = channel.as_ref().map_or_else(|| what.to_owned(), Channel::to_string);
                if let (Some(channel), Some(id)) = (channel, event.id()) {
                    self.last.insert(channel, id);
                }
                if self.json {
                    return output::line(&one_line(event.text()));
                }
                output::line(&render::event(&name, &event))
            }
            Ok(other) => {
                self.failed |= matches!(other, Delivery::Refused { .. });
                if let Some(text) = news(&other) {
                    let name = concerned(&other).map_or_else(|| what.to_owned(), Channel::to_string);
                    eprintln!("-- {name}: {text}");
                }
                Ok(Reader::There)
            }
            Err(error) => {
                self.failed = true;
                eprintln!("-- {what}: {}", advice(&error));
                Ok(Reader::There)
            }
        }
    }

    fn farewell(&self, args: &Args) {
        let named = args.channels.iter().filter_map(Target::channel);
        let known: Vec<_> = named.filter_map(|channel| self.last.get_key_value(channel)).collect();
        match (known.as_slice(), args.channels.len()) {
            ([], _) => {}
            ([(channel, last)], 1) => eprintln!("-- {channel}: go on from here with --since {last}"),
            (known, _) => {
                let all: Vec<String> = known.iter().map(|(channel, last)| format!("{channel}={last}")).collect();
                eprintln!("-- go on from here with --since {}", all.join(","));
            }
        }
    }
}

/// The one channel that news are about.
fn concerned(delivery: &Delivery) -> Option<&Channel> {
    match delivery {
        Delivery::Reset { channel, .. } | Delivery::Gap { channel, .. } => channel.as_ref(),
        Delivery::Refused { channel, .. } => Some(channel),
        _ => None,
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
        Delivery::Refused { reason, .. } => format!("refused: {}", render::remark(reason)),
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
    fn targets_are_channels_and_all_of_two_kinds() {
        let args = parse("crewcast tail graph:abc run:r1 hub:acme graph:* mission:* --types a,b --json").unwrap();
        let channel = |name: &str| Target::Channel(name.parse().unwrap());
        let run = Target::Run("run:r1".parse().unwrap());
        assert_eq!(args.channels, [channel("graph:abc"), run, channel("hub:acme"), Target::Graphs, Target::Missions]);
        assert_eq!(args.types, ["a", "b"]);
        for bad in ["tail", "tail abc", "tail hub:*", "tail run:*", "tail graph:a/b", "tail run:r --since 7"] {
            assert!(parse(&format!("crewcast {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_goes_with_one_channel_and_the_beginning_with_any() {
        let checked = |line: &str| check_since(&parse(line).unwrap());
        assert!(checked("crewcast tail run:r --since 7-abcdefghijkl").is_ok());
        assert!(checked("crewcast tail run:r graph:g --since 0").is_ok());
        for bad in ["run:r graph:g", "graph:g graph:*", "graph:*"] {
            let checked = checked(&format!("crewcast tail {bad} --since 7-abcdefghijkl"));
            assert!(matches!(checked, Err(CliError::Usage(_))), "{bad}");
        }
        assert!(checked("crewcast tail run:r --since graph:g=7-abcdefghijkl").is_err(), "it is not watched");
    }

    #[test]
    fn several_channels_have_each_their_start() {
        let args = parse("crewcast tail run:r graph:g hub:h --since graph:g=7-abcdefghijkl,run:r=0").unwrap();
        assert!(check_since(&args).is_ok());
        let start = |name: &str| start(&args, &name.parse().unwrap());
        assert_eq!(start("graph:g"), Start::After("7-abcdefghijkl".parse().unwrap()));
        assert_eq!((start("run:r"), start("hub:h")), (Start::Beginning, Start::Default));
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
