//! The command line.

use clap::{Parser, Subcommand};

use crate::{commands, settings::ConfigArgs};

/// Watch crews of AI agents: a gateway between Redis Pub/Sub, with logs, and WebSockets.
#[derive(Parser, Debug)]
#[command(name = "crewcast", version = env!("VERSION_WITH_COMMIT"), propagate_version = true)]
pub(crate) struct Cli {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a gateway replica.
    Serve,
    /// Run a gateway with a memory broker and simulated crews on this machine. Needs nothing else.
    Dev(commands::dev::DevArgs),
    /// Mint a token with the configured key, or check or revoke one.
    Token(commands::token::TokenArgs),
    /// Register the owner of an id: the org of a crew, run, stream or session.
    Register(commands::register::RegisterArgs),
    /// Publish events from the command line or from standard input.
    Publish(commands::publish::PublishArgs),
    /// Follow channels through a gateway. Resumes after each lost connection.
    Tail(commands::tail::TailArgs),
    /// POST each event of a channel to a webhook, in order, until the webhook accepts it.
    Forward(Box<commands::forward::ForwardArgs>),
    /// Test the configuration and Redis, and say what is wrong and how to fix it.
    Check(commands::check::CheckArgs),
    /// Ask a gateway whether it is healthy. The exit code is the answer.
    Health(commands::health::HealthArgs),
    /// Print the effective configuration with the source of each key. Secrets are masked.
    Config(commands::config::ShowConfigArgs),
    /// Print a completion script for a shell.
    Completions(commands::completions::CompletionsArgs),
    /// Print the manual page of crewcast or of a command.
    Man(commands::completions::ManArgs),
}

impl Command {
    /// Whether the command sets up its log itself, from the configuration.
    pub(crate) fn sets_up_logging(&self) -> bool {
        matches!(self, Command::Serve | Command::Dev(_))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn examples_in_the_documentation_parse() {
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

    /// Splits a line like a shell, as far as the examples need it: at blanks, with single quotes.
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
