//! The command line.

use clap::{Parser, Subcommand};

use crate::{commands, settings::ConfigArgs};

/// Watch crews of agents work: a gateway from Redis Pub/Sub channels with logs to WebSockets.
#[derive(Parser, Debug)]
#[command(name = "crewcast", version, propagate_version = true)]
pub struct Cli {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a gateway replica.
    Serve,
    /// Run everything on this machine with nothing installed: gateway, memory broker, simulated crews.
    Dev(commands::dev::Args),
    /// Mint a token with the configured key; check or revoke one.
    Token(commands::token::Args),
    /// Say to which org a crew, run, stream or session belongs.
    Register(commands::register::Args),
    /// Publish events, from the command line or from standard input.
    Publish(commands::publish::Args),
    /// Watch channels through a gateway, resuming for ever.
    Tail(commands::tail::Args),
    /// POST each event of a channel to a webhook, in order, until it is accepted.
    Forward(Box<commands::forward::Args>),
    /// Try out the configuration and Redis, and say what is wrong and how to mend it.
    Check(commands::check::Args),
    /// Print the effective configuration, secrets masked, with each key's source.
    Config(commands::config::Args),
}

impl Command {
    /// Whether the command sets its log up as the configuration says.
    pub fn logs_by_itself(&self) -> bool {
        matches!(self, Command::Serve | Command::Dev(_))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn examples_of_the_documentation_parse() {
        let page = include_str!("../../../docs/cli.md");
        let mut seen = 0;
        for line in page.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let Some(command) = line.split(" | ").find(|part| part.starts_with("crewcast ")) else { continue };
            let words = words(command.split(" > ").next().unwrap());
            Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{line}\n{error}"));
            seen += 1;
        }
        assert!(seen >= 10, "{seen} examples");
    }

    /// Words as a shell sees them, as far as the examples go: blanks and single quotes.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![];
        for (i, part) in line.split('\'').enumerate() {
            match i % 2 {
                1 => words.push(part.to_owned()),
                _ => words.extend(part.split_whitespace().map(str::to_owned)),
            }
        }
        words
    }
}
