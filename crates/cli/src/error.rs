//! Why a command failed. Every text says what to do next.

use std::process::ExitCode;

use crewcast_gateway::config::ConfigError;
use crewcast_publisher::AppendError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error("the configuration is wrong:\n{0}")]
    Config(#[from] ConfigError),
    /// It was refused, or the answer is no. A repetition would fare no better.
    #[error("{0}")]
    Failed(String),
    /// Redis or the gateway does not answer. A repetition may fare better.
    #[error("{0}")]
    Unreachable(String),
    /// Standard input or output, or a file.
    #[error("{what}: {error}")]
    Io {
        /// What was read or written.
        what: String,
        /// Why it failed.
        error: std::io::Error,
    },
}

impl CliError {
    /// The exit codes of `docs/cli.md`.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            CliError::Usage(_) | CliError::Config(_) => 2,
            CliError::Failed(_) | CliError::Io { .. } => 1,
            CliError::Unreachable(_) => 3,
        })
    }

    /// A failure that says itself what to do.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        CliError::Failed(error.to_string())
    }

    /// A failure of input or output.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| CliError::Io { what, error }
    }
}

impl From<AppendError> for CliError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Unavailable(_) => CliError::Unreachable(format!(
                "{error}\nIs the address right and does it run? `crewcast check` tries it out."
            )),
            AppendError::Refused(_) | AppendError::Gap { .. } => CliError::Failed(error.to_string()),
        }
    }
}
