//! `crewcast token`: mints, checks and revokes tokens.

use std::process::ExitCode;

use crewcast_gateway::{Claim, Identity};

use crate::{error::CliError, settings::ConfigArgs};

pub(crate) mod check;
pub(crate) mod mint;
pub(crate) mod revoke;

/// Warns on standard error about a token that grants nothing, claims by default included.
fn warn_if_useless(identity: &Identity) {
    let missing = identity.missing(&Claim::ALL);
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|claim| claim.name()).collect();
        eprintln!(
            "warning: this token grants nothing: give it the claim {}, or set auth.default_claims in the gateway's \
             configuration",
            names.join(" or ")
        );
    }
}

/// Arguments of `token`.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct TokenArgs {
    /// A subcommand other than minting.
    #[command(subcommand)]
    pub command: Option<TokenCommand>,
    /// The token to mint.
    #[command(flatten)]
    pub mint: mint::MintArgs,
}

/// The subcommands other than minting.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Show what a token grants, or why it is refused
    Check(check::CheckTokenArgs),
    /// Revoke a token, or all tokens of a user, and close its connections on every replica
    Revoke(revoke::RevokeArgs),
}

/// Mints, checks or revokes a token.
///
/// # Errors
/// [`CliError`] of the subcommand.
pub(crate) async fn run(args: TokenArgs, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    match args.command {
        None => mint::run(args.mint, config).await,
        Some(TokenCommand::Check(check)) => check::run(check, config).await,
        Some(TokenCommand::Revoke(revoke)) => revoke::run(revoke, config).await,
    }
}
