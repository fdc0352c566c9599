//! `crewcast config`: prints the effective configuration.

use std::process::ExitCode;

use crewcast_gateway::config::{Loaded, show};

use crate::{error::CliError, output, settings::ConfigArgs};

/// Arguments of `config`.
#[derive(clap::Args, Debug)]
pub(crate) struct ShowConfigArgs {
    /// Print the default configuration instead
    #[arg(long)]
    pub default: bool,
}

/// Prints the configuration as TOML. Secrets are shown as `***`.
///
/// # Errors
/// [`CliError`] when the configuration is invalid or cannot be printed.
pub(crate) fn run(args: &ShowConfigArgs, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let loaded = if args.default { Loaded::default() } else { config.load()? };
    output::line(show(&loaded).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
