//! From file, variables and flags to a [`Config`].

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    path::{Path, PathBuf},
};

use figment::{Figment, error::Kind, providers::Serialized, value::Dict};

use super::{Config, Profile, files, keys, layers, layers::Layer, profile, rules};

/// The layer that sets a value. Later ones win over earlier ones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// Unset.
    Default,
    /// The profile.
    Profile(Profile),
    /// The TOML file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag on the command line.
    Flag,
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::Profile(profile) => write!(f, "profile {profile}"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Variable(name) => write!(f, "variable {name}"),
            Source::Flag => f.write_str("flag"),
        }
    }
}

/// Every problem of a configuration, at least one: the key, its [`Source`], and what to write instead. Never holds a
/// secret.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Where each key was set, by path. Unset keys are missing.
#[derive(Clone, Debug, Default)]
pub struct Sources(BTreeMap<String, Source>);

impl Sources {
    /// Where a key was set.
    pub fn of(&self, key: &str) -> &Source {
        self.0.get(key).unwrap_or(&Source::Default)
    }

    pub(super) fn problem(&self, key: &str, text: impl Display) -> String {
        format!("{key} ({}): {text}", self.of(key))
    }
}

/// A configuration and where it comes from; by [`Default`], the built-in one.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Complete and valid.
    pub config: Config,
    /// Where each key was set.
    pub sources: Sources,
}

/// Loads a configuration: defaults, then the profile that one of the others chooses, then the TOML `file`, then the
/// variables among `env` that begin with `CREWCAST_`, then `overrides` (pairs of path and value, from flags). Later
/// ones win.
///
/// # Errors
/// Every unknown key, or every value that breaks a rule. [`Config::check_serve`] tells whether it is enough to serve.
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    overrides: &[(String, String)],
) -> Result<Loaded, ConfigError> {
    let mut layers = Vec::from_iter(file.map(layers::file).transpose().map_err(|problem| ConfigError(vec![problem]))?);
    layers.extend(layers::variables(env));
    layers.extend(overrides.iter().map(|(path, value)| layers::one(Source::Flag, path, value.clone())));
    merge(layers)
}

pub(super) fn merge(mut layers: Vec<Layer>) -> Result<Loaded, ConfigError> {
    let profile = profile::layer(&layers).map_err(|problem| ConfigError(vec![problem]))?;
    layers.splice(..0, profile);
    let (mut unknown, mut sources) = (Vec::new(), Sources::default());
    for (source, dict) in &layers {
        for (key, _) in keys::leaves(dict, "") {
            if !keys::is_known(&key) {
                unknown.push(format!("{key} ({source}): {}", keys::suggestion(&key, source)));
            }
            sources.0.insert(key, source.clone());
        }
    }
    if !unknown.is_empty() {
        return Err(ConfigError(unknown));
    }
    // A map in a layer would replace a default map as a whole: the built-in namespaces are a layer of their own.
    let built_in: Dict = keys::dict(&Config::default()).remove_entry("namespaces").into_iter().collect();
    let dicts = layers.into_iter().map(|(_, dict)| Serialized::defaults(dict));
    let merged = dicts.fold(Figment::from(Serialized::defaults(built_in)), Figment::merge);
    let problem = |error: figment::Error| {
        let text = match error.kind {
            // Without the value: it may be a secret in the wrong place.
            Kind::InvalidType(..) => "expected a table of keys".to_owned(),
            kind => kind.to_string(),
        };
        sources.problem(&error.path.join("."), text)
    };
    let mut config: Config =
        merged.extract().map_err(|errors| ConfigError(errors.into_iter().map(problem).collect()))?;
    files::read(&mut config, &sources).map_err(|problem| ConfigError(vec![problem]))?;
    let broken = rules::broken(&config, &sources);
    if broken.is_empty() { Ok(Loaded { config, sources }) } else { Err(ConfigError(broken)) }
}
