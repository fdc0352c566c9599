//! `crewcast config`: prints the effective configuration.

use std::process::ExitCode;

use crewcast_gateway::config::{Loaded, show, show_json};

use crate::{error::CliError, output, settings::ConfigArgs};

/// Arguments of `config`.
#[derive(clap::Args, Debug)]
pub(crate) struct ShowConfigArgs {
    /// Print the default configuration instead
    #[arg(long)]
    pub default: bool,
    /// Print one JSON object: each key with its "value" and its "source"
    #[arg(long)]
    pub json: bool,
}

/// Prints the configuration as TOML or JSON. Secrets are shown as `***`.
///
/// # Errors
/// [`CliError`] when the configuration is invalid or cannot be printed.
pub(crate) fn run(args: &ShowConfigArgs, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let loaded = if args.default { Loaded::default() } else { config.load()? };
    let text = if args.json { show_json(&loaded).to_string() } else { show(&loaded) };
    output::line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
