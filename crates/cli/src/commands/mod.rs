//! One file per command.

use std::process::ExitCode;

use crate::{
    cli::{Cli, Command},
    error::CliError,
};

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod forward;
pub(crate) mod health;
pub(crate) mod publish;
pub(crate) mod register;
pub(crate) mod serve;
pub(crate) mod tail;
pub(crate) mod token;

/// Runs the given command.
///
/// # Errors
/// [`CliError`] of the command.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode, CliError> {
    match cli.command {
        Command::Serve => serve::run(&cli.config).await,
        Command::Dev(args) => dev::run(args, &cli.config).await,
        Command::Token(args) => token::run(args, &cli.config).await,
        Command::Register(args) => register::run(args, &cli.config).await,
        Command::Publish(args) => publish::run(args, &cli.config).await,
        Command::Tail(args) => tail::run(args).await,
        Command::Forward(args) => forward::run(*args).await,
        Command::Check(args) => check::run(args, &cli.config).await,
        Command::Health(args) => health::run(args, &cli.config).await,
        Command::Config(args) => config::run(&args, &cli.config),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(&args),
    }
}
