//! `crewcast config`: prints the effective configuration.

use std::process::ExitCode;

use crewcast_gateway::config::{Loaded, show};

use crate::{error::CliError, output, settings::ConfigArgs};

/// Arguments of `config`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print the defaults instead: what holds when nothing is set
    #[arg(long)]
    pub default: bool,
}

/// Prints it as TOML; secrets are `***`.
///
/// # Errors
/// [`CliError`].
pub fn run(args: &Args, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let loaded = if args.default { Loaded::default() } else { config.load()? };
    output::line(show(&loaded).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
