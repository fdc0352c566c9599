//! One file per command.

use std::process::ExitCode;

use crate::{
    cli::{Cli, Command},
    error::CliError,
};

pub mod check;
pub mod config;
pub mod dev;
pub mod forward;
pub mod publish;
pub mod register;
pub mod serve;
pub mod tail;
pub mod token;

/// Runs the given command.
///
/// # Errors
/// [`CliError`] of the command.
pub async fn run(cli: Cli) -> Result<ExitCode, CliError> {
    match cli.command {
        Command::Serve => serve::run(&cli.config).await,
        Command::Dev(args) => dev::run(args, &cli.config).await,
        Command::Token(args) => token::run(args, &cli.config).await,
        Command::Register(args) => register::run(args, &cli.config).await,
        Command::Publish(args) => publish::run(args, &cli.config).await,
        Command::Tail(args) => tail::run(args).await,
        Command::Forward(args) => forward::run(*args).await,
        Command::Check(args) => check::run(args, &cli.config).await,
        Command::Config(args) => config::run(&args, &cli.config),
    }
}
