//! The gateway that a command subscribes to, and the token for it.

use std::path::PathBuf;

use crewcast_client::Client;

use crate::error::CliError;

/// Arguments of every command that subscribes through a gateway.
#[derive(clap::Args, Debug)]
pub(crate) struct GatewayArgs {
    /// The gateway's address
    #[arg(long = "gateway", value_name = "URL", env = "CREWCAST_URL", default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// The token, a JWT
    #[arg(long, value_name = "JWT", env = "CREWCAST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A file that holds the token, read again whenever a new token is needed. Takes precedence over --token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl GatewayArgs {
    /// Creates a client of the gateway.
    ///
    /// # Errors
    /// [`CliError::Usage`] when the address is invalid, or the token file cannot be read or is empty.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        // Later on, a file that is missing for a moment is read again.
        self.token_now()?;
        let builder = Client::builder(&self.url);
        let builder = match (&self.token_file, &self.token) {
            (Some(file), _) => {
                let file = file.clone();
                builder.token_source(move || {
                    let file = file.clone();
                    async move {
                        let read = tokio::fs::read_to_string(&file).await;
                        read.map_err(|error| format!("{}: {error}", file.display()))
                    }
                })
            }
            (None, Some(token)) => builder.token(token),
            (None, None) => builder,
        };
        builder.build().map_err(|error| CliError::Usage(error.to_string()))
    }

    /// The token at this moment, if there is one.
    ///
    /// # Errors
    /// [`CliError::Usage`] when the token file cannot be read or is empty.
    pub(crate) fn token_now(&self) -> Result<Option<String>, CliError> {
        let Some(file) = &self.token_file else { return Ok(self.token.clone()) };
        let bad = |why: &str| CliError::Usage(format!("--token-file {}: {why}", file.display()));
        let token = std::fs::read_to_string(file).map_err(|error| bad(&error.to_string()))?;
        if token.trim().is_empty() {
            return Err(bad(
                "the file is empty: write the token into it, for example with `crewcast token --sub NAME`",
            ));
        }
        Ok(Some(token))
    }
}
