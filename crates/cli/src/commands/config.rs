//! `crewcast config`: prints the effective configuration.

use std::process::ExitCode;

use crewcast_gateway::config::{show, show_default};

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
    let text = if args.default { show_default()? } else { show(&config.load()?) };
    output::line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
