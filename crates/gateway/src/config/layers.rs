//! The layers of a configuration: file, variables, flags.

use std::{path::Path, sync::LazyLock};

use figment::value::{Dict, Value};
use regex::Regex;

use super::{Source, keys::is_of_claims};

/// Prefix of variables that are configuration.
const PREFIX: &str = "CREWCAST_";
/// Short name of `broker.url`; the long name wins over it.
const REDIS_URL: &str = "CREWCAST_REDIS_URL";
/// Variables with the prefix that the command line reads by itself.
pub const COMMAND_LINE_VARIABLES: &[&str] = &["CREWCAST_CONFIG", "CREWCAST_TOKEN", "CREWCAST_URL"];

/// Values from one source.
pub(crate) type Layer = (Source, Dict);

pub(crate) fn file(path: &Path) -> Result<Layer, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("cannot read {}, which --config names: {error}", path.display()))?;
    toml(path, &text)
}

/// The layer of a TOML file's text. An error does not show the line itself: it may hold a secret.
pub(crate) fn toml(path: &Path, text: &str) -> Result<Layer, String> {
    let dict = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        format!("{}, line {line}: {}", path.display(), error.message())
    })?;
    Ok((Source::File(path.to_owned()), dict))
}

/// One layer for each variable that is configuration, the short name first. Empty ones count as unset.
pub(crate) fn variables(env: impl IntoIterator<Item = (String, String)>) -> Vec<Layer> {
    let ours =
        |name: &str| name.starts_with(PREFIX) && !COMMAND_LINE_VARIABLES.contains(&name) && !is_of_a_service(name);
    let mut variables: Vec<_> = env.into_iter().filter(|(name, value)| ours(name) && !value.is_empty()).collect();
    variables.sort_by_key(|(name, _)| (name != REDIS_URL, name.clone()));
    let layer = |(name, value): (String, String)| {
        let path = match name.as_str() {
            REDIS_URL => "broker.url".to_owned(),
            _ => name[PREFIX.len()..].to_lowercase().replace("__", "."),
        };
        one(Source::Variable(name), &path, value)
    };
    variables.into_iter().map(layer).collect()
}

/// One value by its path: from a variable or a flag.
pub(crate) fn one(source: Source, path: &str, text: String) -> Layer {
    let value = if is_of_claims(path) { claim(text) } else { Value::from(text) };
    let value = path.rsplit('.').fold(value, |inner, key| Dict::from([(key.to_owned(), inner)]).into());
    (source, value.into_dict().unwrap_or_default())
}

/// A claim's value may be JSON, such as `["abc","def"]`; anything else is a text.
fn claim(text: String) -> Value {
    let json = serde_json::from_str::<serde_json::Value>(&text).ok();
    json.and_then(|json| Value::serialize(json).ok()).unwrap_or_else(|| Value::from(text))
}

/// Whether Kubernetes made the variable for a Service whose name is or begins with `crewcast`: it sets
/// `<NAME>_SERVICE_HOST`, `<NAME>_SERVICE_PORT[_<PORT>]` and `<NAME>_PORT[_<number>_<protocol>[_…]]`.
pub(crate) fn is_of_a_service(name: &str) -> bool {
    static NAMES: LazyLock<Regex> = LazyLock::new(|| {
        let names = "^CREWCAST_(PORT|SERVICE_)|_SERVICE_(HOST$|PORT)|_PORT($|_[0-9]+_(TCP|UDP|SCTP)(_|$))";
        Regex::new(names).expect("constant")
    });
    !name.contains("__") && NAMES.is_match(name)
}
