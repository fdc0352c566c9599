//! From file, variables and flags to a [`Config`].

use std::{collections::BTreeMap, path::Path};

use figment::{Figment, Profile, Provider, error::Kind};

use super::{
    Config,
    error::{ConfigError, Problem, Source},
    keys,
    layers::Layer,
    raw::Raw,
    resolve::resolve,
};

/// Who set each key, by path. What nobody set is missing.
#[derive(Clone, Debug, Default)]
pub struct Sources(BTreeMap<String, Source>);

impl Sources {
    /// Who set a key.
    pub fn of(&self, key: &str) -> &Source {
        self.0.get(key).unwrap_or(&Source::Default)
    }

    /// A problem with a key.
    pub(super) fn problem(&self, key: &str, text: impl Into<String>) -> Problem {
        Problem { key: key.to_owned(), source: self.of(key).clone(), text: text.into() }
    }
}

/// A configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Resolved and validated.
    pub config: Config,
    /// Who set what.
    pub sources: Sources,
    /// As it was written; [`super::show()`] prints it.
    pub(super) raw: Raw,
}

/// Loads a configuration: defaults, then the TOML `file`, then the variables among `env` that begin with
/// `CREWCAST_`, then `overrides` (pairs of path and value, from flags). Later ones win.
///
/// The working directory and the process's environment are not looked at.
///
/// # Errors
/// [`ConfigError`]: with every unknown key, or every value that breaks a rule. Whether it is enough to serve is
/// another question: [`Config::check_serve`].
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    overrides: &[(String, String)],
) -> Result<Loaded, ConfigError> {
    let mut layers = vec![];
    layers.extend(file.map(Layer::file).transpose()?);
    layers.extend(Layer::variables(env));
    layers.extend(Layer::flags(overrides));
    merge(layers)
}

/// The built-in defaults.
///
/// # Errors
/// Never: a test holds that they load.
pub(super) fn defaults() -> Result<Loaded, ConfigError> {
    merge(Vec::new())
}

pub(super) fn merge(layers: Vec<Layer>) -> Result<Loaded, ConfigError> {
    let unknown: Vec<_> = layers.iter().flat_map(Layer::unknown_keys).collect();
    if !unknown.is_empty() {
        return Err(ConfigError::Problems(unknown));
    }
    let by_name: BTreeMap<_, _> = layers.iter().map(|layer| (layer.source.to_string(), layer.source.clone())).collect();
    let not_understood = |error: figment::Error| ConfigError::Problems(problems(error, &by_name));

    let defaults = Layer::defaults().map_err(|error| not_understood(*error))?;
    let merged = layers.into_iter().fold(Figment::from(defaults), |figment, layer| figment.merge(layer));
    let mut raw: Raw = merged.extract().map_err(not_understood)?;
    raw.namespaces = raw.namespaces.into_iter().map(|(name, rules)| (name, rules.complete())).collect();

    let sources = sources(&merged, &by_name);
    let config = resolve(&raw, &sources)?;
    let broken = super::check::check(&config, &sources);
    if broken.is_empty() { Ok(Loaded { config, sources, raw }) } else { Err(ConfigError::Problems(broken)) }
}

fn sources(merged: &Figment, by_name: &BTreeMap<String, Source>) -> Sources {
    let profiles = merged.data().unwrap_or_default();
    let values = profiles.get(&Profile::Default).cloned().unwrap_or_default();
    let of = |key: &String| merged.find_metadata(key).and_then(|metadata| by_name.get(metadata.name.as_ref())).cloned();
    Sources(keys::leaves(&values).into_iter().filter_map(|key| of(&key).map(|source| (key, source))).collect())
}

/// What serde did not understand, without the value: it may be a secret in the wrong place.
fn problems(error: figment::Error, by_name: &BTreeMap<String, Source>) -> Vec<Problem> {
    error
        .into_iter()
        .map(|error| {
            let source = error.metadata.as_ref().and_then(|metadata| by_name.get(metadata.name.as_ref()));
            let text = match &error.kind {
                Kind::InvalidType(_, expected) if expected.starts_with("struct ") => {
                    "expected a table of keys".to_owned()
                }
                Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => format!("expected {expected}"),
                Kind::UnknownField(..) => "there is no such key".to_owned(),
                kind => kind.to_string(),
            };
            Problem { key: error.path.join("."), source: source.cloned().unwrap_or(Source::Default), text }
        })
        .collect()
}
