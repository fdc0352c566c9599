//! The gateway that a command listens to, and who it says it is.

use std::path::PathBuf;

use crewcast_client::Client;

use crate::error::CliError;

/// Arguments of every command that listens to a gateway.
#[derive(clap::Args, Debug)]
pub struct Gateway {
    /// The gateway
    #[arg(long = "gateway", value_name = "URL", env = "CREWCAST_URL", default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// The token
    #[arg(long, value_name = "JWT", env = "CREWCAST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A file that holds the token; read again whenever a fresh one is needed. Counts before --token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl Gateway {
    /// A client of it.
    ///
    /// # Errors
    /// [`CliError::Usage`] when the address makes no sense.
    pub fn client(&self) -> Result<Client, CliError> {
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
}
