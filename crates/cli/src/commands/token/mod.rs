//! `crewcast token`: mints, checks and revokes tokens.

use std::process::ExitCode;

use crate::{error::CliError, settings::ConfigArgs};

pub mod check;
pub mod mint;
pub mod revoke;

/// Arguments of `token`.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    /// Something else than minting.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to mint.
    #[command(flatten)]
    pub mint: mint::Args,
}

/// Something else than minting.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Say what a token grants, or why it is refused
    Check(check::Args),
    /// Close a token's sockets on every replica and refuse it until it would have expired
    Revoke(revoke::Args),
}

/// Mints, checks or revokes.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    match args.command {
        None => mint::run(args.mint, config).await,
        Some(Command::Check(check)) => check::run(check, config).await,
        Some(Command::Revoke(revoke)) => revoke::run(revoke, config).await,
    }
}
