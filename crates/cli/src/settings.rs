//! The configuration of a command.

use std::path::PathBuf;

use crewcast_gateway::config::{Loaded, load};

use crate::error::CliError;

/// The sources of the configuration: the file, then the environment, then `--set`. Later ones win.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct ConfigArgs {
    /// The configuration, a TOML file
    #[arg(long, global = true, env = "CREWCAST_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The settings that a system took for granted: crew, hive, hub, agentcraft or forge
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// Set one key of the configuration, for example --set broker.url=redis://redis:6379
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

impl ConfigArgs {
    /// Loads the configuration, with the environment of this process.
    ///
    /// # Errors
    /// [`CliError::Config`] when the configuration is invalid.
    pub(crate) fn load(&self) -> Result<Loaded, CliError> {
        // None of the keys can have a name or value that is not UTF-8.
        let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let profile = self.profile.iter().map(|name| ("profile".to_owned(), name.clone()));
        let overrides: Vec<_> = profile.chain(self.set.iter().cloned()).collect();
        Ok(load(self.config.as_deref(), env, &overrides)?)
    }
}

/// Splits `key=value` at the first `=`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected key=value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "listen = '127.0.0.1:1111'\n[broker]\nkey_prefix = 'mine'\n").unwrap();
        let args = ConfigArgs {
            config: Some(file.path().to_owned()),
            profile: None,
            set: vec![key_value("listen=127.0.0.1:2222").unwrap()],
        };
        let config = args.load().unwrap().config;
        assert_eq!((config.listen.0.port(), config.broker.key_prefix.as_str()), (2222, "mine"));
    }

    #[test]
    fn a_wrong_key_is_named() {
        let args = ConfigArgs { config: None, profile: None, set: vec![key_value("lisen=127.0.0.1:1").unwrap()] };
        let error = args.load().unwrap_err();
        assert!(error.to_string().contains("listen"), "{error}");
        assert!(key_value("no").is_err() && key_value("=x").is_err());
        assert_eq!(key_value("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
    }
}
