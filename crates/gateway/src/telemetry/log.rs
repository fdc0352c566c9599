//! Log lines: text for people at a terminal, one JSON object per line for machines.

use std::{
    fs::{File, OpenOptions},
    io::IsTerminal,
    sync::Arc,
};

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry::LookupSpan};

use super::TelemetryError;
use crate::config::{Log, LogFormat};

/// A layer that writes lines.
pub type Lines<S> = Box<dyn Layer<S> + Send + Sync>;

/// The layer that writes lines as `log.*` configures: to standard error, or appended to `log.file`.
///
/// # Errors
/// If the file cannot be opened or the filter is invalid.
pub fn layer<S>(config: &Log) -> Result<Lines<S>, TelemetryError>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let filter = EnvFilter::try_new(&config.level)?;
    let file = config.file.as_ref().map(|path| append(path)).transpose()?;
    let is_terminal = file.is_none() && std::io::stderr().is_terminal();
    let format = config.format.unwrap_or(if is_terminal { LogFormat::Text } else { LogFormat::Json });

    let lines = fmt::layer().with_ansi(is_terminal);
    let lines: Lines<S> = match (format, file) {
        (LogFormat::Text, None) => lines.with_writer(std::io::stderr).boxed(),
        (LogFormat::Text, Some(file)) => lines.with_writer(file).boxed(),
        (LogFormat::Json, None) => lines.json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        (LogFormat::Json, Some(file)) => lines.json().flatten_event(true).with_writer(file).boxed(),
    };
    Ok(lines.with_filter(filter).boxed())
}

fn append(path: &std::path::Path) -> Result<Arc<File>, TelemetryError> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.map(Arc::new).map_err(|error| TelemetryError::LogFile { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tracing_subscriber::{Registry, layer::SubscriberExt};

    use super::*;
    use crate::config::{Config, Secret};

    fn lines_of(format: Option<LogFormat>, work: impl FnOnce()) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lines");
        let config = Log { format, level: "info".to_owned(), file: Some(path.clone()) };
        let layer = layer::<Registry>(&config).expect("opens");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        std::fs::read_to_string(&path).expect("lines")
    }

    #[test]
    fn a_file_gets_json_unless_configured_and_the_level_applies() {
        let lines = lines_of(None, || {
            tracing::info!(namespace = "graph", "begins");
            tracing::debug!("too fine");
        });
        let line: serde_json::Value = serde_json::from_str(lines.trim()).expect("one object");
        assert_eq!(line["message"], "begins");
        assert_eq!(line["namespace"], "graph");
        assert_eq!(line["level"], "INFO");

        let text = lines_of(Some(LogFormat::Text), || tracing::info!(namespace = "graph", "begins"));
        assert!(
            text.contains("begins namespace=\"graph\"") && !text.contains('{') && !text.contains('\u{1b}'),
            "{text}"
        );
    }

    #[test]
    fn a_logged_configuration_contains_no_secret() {
        let mut config = Config::default();
        config.auth.hs256_secret = Some(Secret::new("top-secret-key"));
        config.broker.url = Secret::new("redis://:top-secret-password@h");
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = lines_of(Some(format), || tracing::info!(?config, "effective {config:?}"));
            assert!(lines.contains("***") && !lines.contains("top-secret"), "{lines}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let config = Log { file: Some(Path::new("/nowhere/at/all").to_owned()), ..Log::default() };
        let error = layer::<Registry>(&config).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("cannot append to /nowhere/at/all, which log.file names: "), "{error}");
    }
}
