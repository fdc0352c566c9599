//! `crewcast tail`: follows channels through a gateway, across lost connections.

use std::{collections::BTreeMap, process::ExitCode, rc::Rc};

use crewcast_client::{Client, ClientError, Cut, Delivery, Request, Start};
use crewcast_events::{Channel, EventId, Namespaces};
use futures_util::{StreamExt, stream::select_all};
use tokio::time::{Duration, Instant, sleep_until};

use crate::{
    error::CliError,
    gateway::GatewayArgs,
    hints::{self, Claims},
    output::{self, Pipe},
    render, wrong_address,
};

/// The exit code after Ctrl-C, as in a shell.
const INTERRUPTED: u8 = 130;

/// A refusal follows its handshake at once. An open connection is reported when it has lasted this long.
const REFUSAL_WINDOW: Duration = Duration::from_secs(1);

/// Arguments of `tail`.
#[derive(clap::Args, Debug)]
pub(crate) struct TailArgs {
    /// The channels to follow, such as run:RUN, graph:CREW or stream:STREAM. graph:* and mission:* are those of every
    /// crew that the token grants
    #[arg(required = true, value_parser = target)]
    pub channels: Vec<Target>,
    /// The gateway and the token for it.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Resume after this event, of the only channel or of CHANNEL. 0 starts at the first event in the log
    #[arg(long, value_delimiter = ',', value_name = "ID or CHANNEL=ID", value_parser = since)]
    pub since: Vec<Since>,
    /// Print only events of these types
    #[arg(long, value_delimiter = ',', value_name = "TYPE,…")]
    pub types: Vec<String>,
    /// Print the events unchanged, one per line
    #[arg(long)]
    pub json: bool,
}

/// One channel or pattern to follow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// One run. Its subscription ends with the run.
    Run(Channel),
    /// Any other channel. All of these share one socket.
    Channel(Channel),
    /// The tool events of every crew.
    Graphs,
    /// The status of every crew.
    Missions,
}

/// Where to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Since {
    /// `None` means the only channel or, for the beginning, every channel.
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

/// Prints events until all subscriptions have ended.
///
/// # Errors
/// [`CliError`] when the gateway's address or `--since` is invalid, or standard output cannot be written.
pub(crate) async fn run(args: TailArgs) -> Result<ExitCode, CliError> {
    check_since(&args)?;
    let client = args.gateway.client()?;
    let token = args.gateway.token_now()?;
    warnings(&args, token.as_deref()).iter().for_each(|warning| eprintln!("-- {warning}"));
    let mut deliveries = select_all(subscribe(&client, &args));
    let mut printer = Printer::new(args.json, token);
    let mut is_address_known = false;
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let due = printer.next_due();
        let next = tokio::select! {
            next = deliveries.next() => next,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                printer.confirm_due();
                continue;
            }
            _ = &mut interrupted => {
                printer.print_positions(&args);
                return Ok(ExitCode::from(INTERRUPTED));
            }
        };
        let Some((what, delivery)) = next else {
            return Ok(if printer.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        };
        is_address_known |= matches!(delivery, Ok(Delivery::Connected { .. }));
        if !is_address_known && may_be_address(&delivery) {
            is_address_known = true;
            if let Some(why) = wrong_address::find(&args.gateway.url).await {
                return Err(CliError::Usage(why));
            }
        }
        if printer.print(&what, delivery)? == Pipe::Closed {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The name of a subscription, and one delivery.
type NamedDelivery = (Rc<str>, Result<Delivery, ClientError>);

/// Opens one socket for each run and each pattern, and one for all other channels.
fn subscribe(client: &Client, args: &TailArgs) -> Vec<impl futures_util::Stream<Item = NamedDelivery> + Unpin + use<>> {
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
    let connect = |(what, request): (String, Request)| {
        let what: Rc<str> = what.into();
        request.types(&args.types).connect().map(move |delivery| (what.clone(), delivery))
    };
    requests.into_iter().map(connect).collect()
}

/// Where a channel starts: by its own `--since`, or by the one for all.
fn start(args: &TailArgs, channel: &Channel) -> Start {
    let own = args.since.iter().find(|since| since.channel.as_ref() == Some(channel));
    own.or(args.since.iter().find(|since| since.channel.is_none())).map(|since| since.start).unwrap_or_default()
}

fn check_since(args: &TailArgs) -> Result<(), CliError> {
    let named: Vec<&Channel> = args.channels.iter().filter_map(Target::channel).collect();
    let is_one = named.len() == 1 && args.channels.len() == 1;
    for since in &args.since {
        match (&since.channel, since.start) {
            (None, Start::After(_)) if !is_one => {
                let text = "--since ID needs exactly one channel: follow one channel, or use --since CHANNEL=ID";
                return Err(CliError::Usage(text.to_owned()));
            }
            (Some(channel), _) if !named.contains(&channel) => {
                return Err(CliError::Usage(format!("--since names {channel}, which is not among the given channels")));
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

/// Whether the address of the gateway may be the cause.
fn may_be_address(delivery: &Result<Delivery, ClientError>) -> bool {
    match delivery {
        Ok(Delivery::Disconnected { cut, .. }) => matches!(cut, Cut::Io(_)),
        Err(ClientError::Http { .. }) => true,
        Err(ClientError::NotFound { reason }) => reason.starts_with("HTTP"),
        _ => false,
    }
}

/// Says in advance what can never be received.
fn warnings(args: &TailArgs, token: Option<&str>) -> Vec<String> {
    let mut warnings = Vec::new();
    let namespaces = Namespaces::default();
    for channel in args.channels.iter().filter_map(Target::channel) {
        // A gateway may have namespaces of its own, so only what looks mistyped is worth a warning.
        let hint = hints::unknown_namespace(channel, &namespaces).filter(|hint| hint.ends_with('?'));
        warnings.extend(hint.map(|hint| format!("{channel}: {hint}")));
    }
    if token.and_then(Claims::of).is_some_and(|claims| claims.grant_nothing()) {
        warnings.push(
            "the token lists no org, crews, runs, streams, sessions or channels: unless the gateway adds some, it \
             grants nothing to read"
                .to_owned(),
        );
    }
    warnings
}

/// Prints deliveries, and remembers the last ids.
struct Printer {
    json: bool,
    token: Option<String>,
    last: BTreeMap<Channel, EventId>,
    failed: bool,
    /// Reports of open connections that may still be refused, and when they are printed.
    opened: BTreeMap<Rc<str>, (String, Instant)>,
}

impl Printer {
    fn new(json: bool, token: Option<String>) -> Self {
        Self { json, token, last: BTreeMap::new(), failed: false, opened: BTreeMap::new() }
    }

    /// When the next open connection counts as accepted.
    fn next_due(&self) -> Option<Instant> {
        self.opened.values().map(|(_, due)| *due).min()
    }

    /// Reports the connections that were not refused in time.
    fn confirm_due(&mut self) {
        let now = Instant::now();
        self.opened.retain(|what, (text, due)| {
            if *due <= now {
                eprintln!("-- {what}: {text}");
            }
            *due > now
        });
    }

    fn print(&mut self, what: &Rc<str>, delivery: Result<Delivery, ClientError>) -> Result<Pipe, CliError> {
        match &delivery {
            // A gateway accepts each handshake and closes the socket with the reason of a refusal.
            Ok(Delivery::Connected { .. }) => {
                let text = delivery.as_ref().ok().and_then(describe).unwrap_or_default();
                self.opened.insert(what.clone(), (text, Instant::now() + REFUSAL_WINDOW));
                return Ok(Pipe::Open);
            }
            // What the gateway says may be the reason of a refusal that follows.
            Ok(Delivery::Refused { .. } | Delivery::Notice { .. }) => {}
            Ok(Delivery::Disconnected { .. }) | Err(_) => {
                self.opened.remove(what);
            }
            Ok(_) => {
                if let Some((text, _)) = self.opened.remove(what) {
                    eprintln!("-- {what}: {text}");
                }
            }
        }
        match delivery {
            Ok(Delivery::Event { channel, event }) => {
                let name = channel.as_ref().map_or_else(|| what.to_string(), Channel::to_string);
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
                if let Some(text) = describe(&other) {
                    let name = channel_of(&other).map_or_else(|| what.to_string(), Channel::to_string);
                    let hint = match &other {
                        Delivery::Refused { channel, .. } => self.suggestion(channel).unwrap_or_default(),
                        _ => String::new(),
                    };
                    eprintln!("-- {name}: {text}{hint}");
                }
                Ok(Pipe::Open)
            }
            Err(error) => {
                self.failed = true;
                // Only a run has a socket whose whole subscription is one channel.
                let run = what.parse().ok().filter(|_| matches!(error, ClientError::Forbidden { .. }));
                let hint = run.and_then(|run| self.suggestion(&run)).unwrap_or_default();
                eprintln!("-- {what}: {}{hint}", advice(&error, self.token.is_some()));
                Ok(Pipe::Open)
            }
        }
    }

    /// What a refused channel may be a misspelling of.
    fn suggestion(&self, refused: &Channel) -> Option<String> {
        let near = Claims::of(self.token.as_deref()?)?.suggestion(refused)?;
        Some(format!("; {near}"))
    }

    fn print_positions(&self, args: &TailArgs) {
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

/// The channel that a delivery is about, if it is one channel.
fn channel_of(delivery: &Delivery) -> Option<&Channel> {
    match delivery {
        Delivery::Reset { channel, .. } | Delivery::Gap { channel, .. } => channel.as_ref(),
        Delivery::Refused { channel, .. } | Delivery::Waiting { channel } => Some(channel),
        _ => None,
    }
}

/// Puts an event on one line. JSON has line ends only between tokens, where a blank means the same.
fn one_line(text: &str) -> String {
    text.trim().replace(['\n', '\r'], " ")
}

/// Describes a delivery that is not an event; `None` if there is nothing to report.
fn describe(delivery: &Delivery) -> Option<String> {
    Some(match delivery {
        Delivery::Connected { resumed: true } => "connected".to_owned(),
        Delivery::Connected { resumed: false } => "connected, live from now on".to_owned(),
        Delivery::Disconnected { cut, retry_in } => {
            format!("{}; trying again in {:.1} s", render::remark(&cut.to_string()), retry_in.as_secs_f64())
        }
        Delivery::Reset { reason, from, .. } => {
            let follows = match from {
                Some(from) => format!("the log follows from {from}"),
                None => "the log is empty".to_owned(),
            };
            match reason.as_str() {
                "trimmed" => format!("some events were missed: the log no longer reaches back to them; {follows}"),
                _ => format!("the channel's history has changed; {follows}"),
            }
        }
        Delivery::Gap { missed: Some(missed), .. } => format!("{missed} live events were missed"),
        Delivery::Gap { missed: None, .. } => "live events may have been missed".to_owned(),
        Delivery::Refused { reason, .. } => format!("refused: {}", render::remark(reason)),
        Delivery::Waiting { channel } => {
            format!("no org owns the id {} yet: check its spelling; waiting for its first event", channel.id())
        }
        Delivery::Notice { message } => format!("the gateway says: {}", render::remark(message.text())),
        Delivery::End { reason } => format!("ended: {}", render::remark(reason)),
        _ => return None,
    })
}

fn advice(error: &ClientError, has_token: bool) -> String {
    let next = match error {
        ClientError::Unauthorized { .. } | ClientError::Forbidden { .. } | ClientError::Refused { code: 1008, .. }
            if !has_token =>
        {
            hints::GET_TOKEN
        }
        ClientError::Unauthorized { reason } if reason.starts_with("bad signature") => hints::OTHER_KEY,
        ClientError::Unauthorized { .. } => "run `crewcast token check` to see what is wrong with the token",
        ClientError::Forbidden { .. } => "run `crewcast token check` to see what the token grants",
        _ => return render::remark(&error.to_string()),
    };
    format!("{}; {next}", render::remark(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Result<TailArgs, clap::Error> {
        let cli = Cli::try_parse_from(line.split_whitespace())?;
        let Command::Tail(args) = cli.command else { panic!() };
        Ok(args)
    }

    #[test]
    fn targets_are_channels_and_two_patterns() {
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
        assert!(checked("crewcast tail run:r --since graph:g=7-abcdefghijkl").is_err(), "not among the channels");
    }

    #[test]
    fn each_of_several_channels_has_its_start() {
        let args = parse("crewcast tail run:r graph:g hub:h --since graph:g=7-abcdefghijkl,run:r=0").unwrap();
        assert!(check_since(&args).is_ok());
        let start = |name: &str| start(&args, &name.parse().unwrap());
        assert_eq!(start("graph:g"), Start::After("7-abcdefghijkl".parse().unwrap()));
        assert_eq!((start("run:r"), start("hub:h")), (Start::Beginning, Start::Default));
    }

    #[test]
    fn descriptions_say_what_was_missed() {
        let reset = |reason: &str, from: Option<&str>| {
            let from = from.map(|id| id.parse().unwrap());
            describe(&Delivery::Reset { channel: None, reason: reason.to_owned(), from }).unwrap()
        };
        assert!(reset("trimmed", Some("7-abcdefghijkl")).ends_with("from 7-abcdefghijkl"));
        assert!(reset("unknown_id", None).contains("has changed"));
        assert_eq!(describe(&Delivery::Gap { channel: None, missed: Some(3) }).unwrap(), "3 live events were missed");
        let end = describe(&Delivery::End { reason: "\u{1b}[2J".to_owned() }).unwrap();
        assert!(!end.contains('\u{1b}'));
    }

    #[test]
    fn json_is_printed_on_one_line() {
        assert_eq!(one_line("{\n \"type\":\r\n\"a\\n\"}\n"), "{  \"type\":  \"a\\n\"}");
    }
}
