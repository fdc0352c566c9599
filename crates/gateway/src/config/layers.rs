//! The layers of a configuration: defaults, file, variables, flags. Each remembers who set what.

use std::path::Path;

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::{
    error::{ConfigError, Problem, Source},
    keys::{self, ANONYMOUS},
    raw::Raw,
};

/// Prefix of variables that are configuration.
const PREFIX: &str = "CREWCAST_";
/// Short name of `broker.url`; the long name wins over it.
const REDIS_URL: &str = "CREWCAST_REDIS_URL";
/// Variables with the prefix that the command line reads by itself.
pub const COMMAND_LINE_VARIABLES: &[&str] = &["CREWCAST_CONFIG", "CREWCAST_TOKEN", "CREWCAST_URL"];

/// Values from one source.
#[derive(Debug)]
pub struct Layer {
    /// Who set them.
    pub source: Source,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

impl Layer {
    /// The defaults.
    pub fn defaults() -> Result<Self, Box<figment::Error>> {
        let dict = Value::serialize(Raw::default())?.into_dict().unwrap_or_default();
        Ok(Self { source: Source::Default, dict })
    }

    /// A TOML file.
    pub fn file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
            path: path.to_owned(),
            named_by: "--config".to_owned(),
            error,
        })?;
        Self::text(path, &text)
    }

    /// A TOML file's text.
    pub fn text(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let syntax = |line, problem| ConfigError::Syntax { path: path.to_owned(), line, problem };
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or_default());
            syntax(before.matches('\n').count() + 1, error.message().to_owned())
        })?;
        let value = Value::serialize(table).map_err(|error| syntax(1, error.to_string()))?;
        Ok(Self { source: Source::File(path.to_owned()), dict: value.into_dict().unwrap_or_default() })
    }

    /// One value by its path: from a variable or a flag.
    fn one(source: Source, path: &str, text: String) -> Self {
        let value = if path.starts_with(ANONYMOUS) { claim(text) } else { Value::from(text) };
        let mut keys = path.rsplit('.');
        let last = keys.next().unwrap_or_default().to_owned();
        let leaf = Dict::from([(last, value)]);
        let dict = keys.fold(leaf, |inner, key| Dict::from([(key.to_owned(), Value::from(inner))]));
        Self { source, dict }
    }

    /// One layer for each variable that is configuration, the short name first. Empty ones count as unset.
    pub fn variables(env: impl IntoIterator<Item = (String, String)>) -> Vec<Self> {
        let ours =
            |name: &str| name.starts_with(PREFIX) && !COMMAND_LINE_VARIABLES.contains(&name) && !is_of_a_service(name);
        let mut variables: Vec<_> = env.into_iter().filter(|(name, value)| ours(name) && !value.is_empty()).collect();
        variables.sort_by(|(a, _), (b, _)| (a != REDIS_URL, a).cmp(&(b != REDIS_URL, b)));
        variables
            .into_iter()
            .map(|(name, value)| {
                let path = match name.as_str() {
                    REDIS_URL => "broker.url".to_owned(),
                    _ => name[PREFIX.len()..].to_lowercase().replace("__", "."),
                };
                Self::one(Source::Variable(name), &path, value)
            })
            .collect()
    }

    /// One layer for each flag.
    pub fn flags(overrides: &[(String, String)]) -> Vec<Self> {
        overrides.iter().map(|(path, value)| Self::one(Source::Flag, path, value.clone())).collect()
    }

    /// Every key of this layer that does not exist.
    pub fn unknown_keys(&self) -> Vec<Problem> {
        let unknown = keys::leaves(&self.dict).into_iter().filter(|key| !keys::is_known(key));
        unknown
            .map(|key| Problem { text: keys::suggestion(&key, &self.source), source: self.source.clone(), key })
            .collect()
    }
}

/// A claim's value may be JSON, such as `["abc","def"]`; what is no JSON is a text.
fn claim(text: String) -> Value {
    serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|json| Value::serialize(json).ok())
        .unwrap_or_else(|| Value::from(text))
}

/// Whether Kubernetes made the variable for a Service whose name is or begins with `crewcast`: it sets
/// `<NAME>_SERVICE_HOST`, `<NAME>_SERVICE_PORT[_<PORT>]` and `<NAME>_PORT[_<number>_<protocol>[_…]]`.
fn is_of_a_service(name: &str) -> bool {
    if name.contains("__") {
        return false;
    }
    let is_port = |rest: &str| {
        rest.is_empty()
            || rest.strip_prefix('_').is_some_and(|rest| {
                let mut parts = rest.split('_');
                let number = parts.next().is_some_and(|part| part.parse::<u16>().is_ok());
                number && parts.next().is_some_and(|part| matches!(part, "TCP" | "UDP" | "SCTP"))
            })
    };
    name.starts_with("CREWCAST_PORT")
        || name.starts_with("CREWCAST_SERVICE_")
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.rsplit_once("_PORT").is_some_and(|(_, rest)| is_port(rest))
        || name.match_indices("_PORT_").any(|(at, _)| is_port(&name[at + "_PORT".len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_sets_for_a_service_is_passed_over() {
        for name in [
            "CREWCAST_PORT",
            "CREWCAST_PORT_8000_TCP_ADDR",
            "CREWCAST_SERVICE_HOST",
            "CREWCAST_SERVICE_PORT_HTTP",
            "CREWCAST_REDIS_SERVICE_HOST",
            "CREWCAST_REDIS_SERVICE_PORT",
            "CREWCAST_REDIS_PORT",
            "CREWCAST_REDIS_PORT_6379_TCP_PROTO",
        ] {
            assert!(is_of_a_service(name), "{name}");
        }
        for name in [
            "CREWCAST_LISTEN",
            "CREWCAST_BROKER__URL",
            "CREWCAST_REDIS_URL",
            "CREWCAST_IMPORT_X",
            "CREWCAST_SERVICE__X",
        ] {
            assert!(!is_of_a_service(name), "{name}");
        }
    }

    #[test]
    fn the_short_name_comes_before_the_long_one_and_strangers_are_left_out() {
        let env = [
            "PATH",
            "CREWCAST_BROKER__URL",
            "CREWCAST_REDIS_URL",
            "CREWCAST_TOKEN",
            "CREWCAST_PORT",
            "CREWCAST_ADMIN__LISTEN",
        ];
        let layers = Layer::variables(env.map(|name| (name.to_owned(), "x".to_owned())));
        let sources: Vec<_> = layers.iter().map(|layer| layer.source.to_string()).collect();
        assert_eq!(
            sources,
            ["variable CREWCAST_REDIS_URL", "variable CREWCAST_ADMIN__LISTEN", "variable CREWCAST_BROKER__URL"]
        );
    }
}
