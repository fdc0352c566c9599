//! `crewcast config`: prints the effective configuration.

use std::process::ExitCode;

use crewcast_gateway::config::{show, show_default};

use crate::{error::CliError, output, settings::ConfigArgs};

/// Arguments of `config`.
#[derive(clap::Args, Debug)]
pub struct ShowConfigArgs {
    /// Print the default configuration instead
    #[arg(long)]
    pub default: bool,
}

/// Prints the configuration as TOML. Secrets are shown as `***`.
///
/// # Errors
/// [`CliError`] when the configuration is invalid or cannot be printed.
pub fn run(args: &ShowConfigArgs, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let text = if args.default { show_default()? } else { show(&config.load()?) };
    output::line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
