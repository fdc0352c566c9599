//! Why a command failed. Every message says what to do next.

use std::process::ExitCode;

use crewcast_gateway::config::ConfigError;
use crewcast_publisher::AppendError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line is invalid.
    #[error("{0}")]
    Usage(String),
    /// The configuration is invalid.
    #[error("the configuration is invalid:\n{0}")]
    Config(#[from] ConfigError),
    /// The request was refused, or a check failed. Repeating the command would not help.
    #[error("{0}")]
    Failed(String),
    /// Redis or the gateway does not answer. Repeating the command may help.
    #[error("{0}")]
    Unreachable(String),
    /// Reading or writing standard input, standard output or a file failed.
    #[error("{what}: {error}")]
    Io {
        /// What was read or written.
        what: String,
        /// The cause.
        error: std::io::Error,
    },
}

impl CliError {
    /// The exit code, as documented in `docs/cli.md`.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            CliError::Usage(_) | CliError::Config(_) => 2,
            CliError::Failed(_) | CliError::Io { .. } => 1,
            CliError::Unreachable(_) => 3,
        })
    }

    /// A failure whose message already says what to do.
    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        CliError::Failed(error.to_string())
    }

    /// A failure of input or output.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| CliError::Io { what, error }
    }
}

impl From<AppendError> for CliError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Unavailable(_) => CliError::Unreachable(format!(
                "{error}\nCheck that the address is right and that the server runs; `crewcast check` tests Redis, \
                 `crewcast health --url URL` a gateway"
            )),
            AppendError::Refused(_) | AppendError::Gap { .. } => CliError::Failed(error.to_string()),
        }
    }
}
