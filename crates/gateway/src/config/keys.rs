//! Every key by its path, and the key that was probably meant by an unknown one.

use std::{collections::BTreeSet, sync::LazyLock};

use figment::value::{Dict, Value};

use super::{Config, Source, secret::mask_passwords};

/// Keys whose values are tables of the operator's own.
const CLAIM_TABLES: [&str; 3] = ["auth.anonymous", "auth.default_claims", "auth.default_claims_by_issuer"];

/// Whether a path is that of a table of claims, or of something in it.
pub(crate) fn is_of_claims(path: &str) -> bool {
    CLAIM_TABLES
        .iter()
        .any(|table| path.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// The paths of all keys; `<n>` stands for a namespace's name.
pub(crate) static KEYS: LazyLock<BTreeSet<String>> =
    LazyLock::new(|| leaves(&dict(&Config::default()), "").iter().map(|(key, _)| pattern(key)).collect());

/// A configuration as figment holds it, without secrets; what is unset is [`Value::Empty`].
pub(crate) fn dict(config: &Config) -> Dict {
    let mut dict = Value::serialize(config).ok().and_then(Value::into_dict).unwrap_or_default();
    if let Some(Value::Dict(_, broker)) = dict.get_mut("broker") {
        broker.insert("url".to_owned(), mask_passwords(config.broker.url.expose()).into());
    }
    dict
}

/// All values with their paths, tables entered.
pub(crate) fn leaves<'a>(dict: &'a Dict, prefix: &str) -> Vec<(String, &'a Value)> {
    let of = |(key, value): (&String, &'a Value)| {
        let path = format!("{prefix}{key}");
        match value {
            Value::Dict(_, inner) if !is_of_claims(&path) && !inner.is_empty() => leaves(inner, &(path + ".")),
            _ => vec![(path, value)],
        }
    };
    dict.iter().flat_map(of).collect()
}

/// The key with the name of a namespace replaced by `<n>`.
fn pattern(key: &str) -> String {
    let mut parts: Vec<_> = key.split('.').collect();
    if parts.len() > 2 && parts[0] == "namespaces" {
        parts[1] = "<n>";
    }
    parts.join(".")
}

/// Whether a key, or a table of keys, stands at this path.
pub(crate) fn is_known(key: &str) -> bool {
    let key = pattern(key);
    let is_table = |known: &String| known.strip_prefix(&key).is_some_and(|rest| rest.starts_with('.'));
    let is_namespace = key.strip_prefix("namespaces.").is_some_and(|rest| !rest.contains('.'));
    is_namespace || KEYS.iter().any(|known| *known == key || is_table(known))
}

/// What to say about a key that does not exist.
pub(crate) fn suggestion(key: &str, source: &Source) -> String {
    let wanted = pattern(key);
    // One `_` instead of the two that a variable's name needs is not counted as a difference.
    let normal = |key: &str| key.replace("__", "_").replace('.', "_");
    let distance = |known: &String| {
        let whole = strsim::damerau_levenshtein(&normal(&wanted), &normal(known));
        let is_in_wrong_table = wanted.rsplit('.').next() == known.rsplit('.').next();
        if is_in_wrong_table { whole.min(2) } else { whole }
    };
    let nearest = KEYS.iter().map(|known| (distance(known), known)).min();
    let Some((_, near)) = nearest.filter(|(distance, known)| *distance <= 2.max(known.len() / 4)) else {
        return "there is no such key; `crewcast config --default` lists all".to_owned();
    };
    let namespace = key.split('.').nth(1).filter(|_| key.starts_with("namespaces.")).unwrap_or("<n>");
    let near = near.replace("<n>", namespace);
    let variable = near.to_uppercase().replace('.', "__");
    match source {
        Source::Variable(_) => format!("there is no such key; did you mean CREWCAST_{variable} ({near})?"),
        _ => format!("there is no such key; did you mean {near}?"),
    }
}
