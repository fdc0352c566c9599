//! `crewcast serve`: one gateway replica.

use std::process::ExitCode;

use crewcast_gateway::{Server, shutdown_signal, telemetry};

use crate::{error::CliError, settings::ConfigArgs};

/// Serves until SIGTERM or SIGINT, then drains. The exit code is 0 after a drain, 1 if a second signal ends it.
///
/// # Errors
/// [`CliError`] when the replica cannot start. The message says what is wrong and what to set.
pub(crate) async fn run(config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let config = config.load()?.config;
    config.check_serve()?;
    let guard = telemetry::init(&config).map_err(CliError::failed)?;
    let recorder = telemetry::install().map_err(CliError::failed)?;
    // Before the start, so that a signal during the start is not lost.
    let signals = shutdown_signal().map_err(CliError::failed)?;
    let server = Server::start(config, Some(recorder)).await.map_err(CliError::failed)?;
    let outcome = server.run(signals).await;
    guard.shutdown().await;
    Ok(ExitCode::from(outcome.exit_code()))
}
