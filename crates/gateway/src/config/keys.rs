//! Every key by its path, and what somebody may have meant by one that does not exist.

use std::sync::LazyLock;

use figment::value::{Dict, Value};

use super::{error::Source, raw::Raw};

/// A key whose value is a table of the operator's own.
pub const ANONYMOUS: &str = "auth.anonymous";

/// The paths of all keys; `<n>` stands for a namespace's name.
pub static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let defaults = Value::serialize(Raw::default()).ok().and_then(Value::into_dict).unwrap_or_default();
    let mut keys: Vec<_> = leaves(&defaults).iter().map(|key| pattern(key)).collect();
    keys.sort();
    keys.dedup();
    keys
});

/// The paths of all values, tables entered.
pub fn leaves(dict: &Dict) -> Vec<String> {
    let mut found = Vec::new();
    collect(dict, "", &mut found);
    found
}

fn collect(dict: &Dict, prefix: &str, found: &mut Vec<String>) {
    for (key, value) in dict {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Dict(_, inner) if path != ANONYMOUS && !inner.is_empty() => collect(inner, &path, found),
            _ => found.push(path),
        }
    }
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
pub fn is_known(key: &str) -> bool {
    let key = pattern(key);
    let is_table = |known: &String| known.strip_prefix(&key).is_some_and(|rest| rest.starts_with('.'));
    let is_namespace = key.strip_prefix("namespaces.").is_some_and(|rest| !rest.contains('.'));
    is_namespace || KEYS.iter().any(|known| *known == key || is_table(known))
}

/// What to tell somebody who wrote a key that does not exist.
pub fn suggestion(key: &str, source: &Source) -> String {
    let wanted = pattern(key);
    let distance = |known: &String| {
        let whole = strsim::damerau_levenshtein(&normal(&wanted), &normal(known));
        let is_in_wrong_table = wanted.rsplit('.').next() == known.rsplit('.').next();
        if is_in_wrong_table { whole.min(2) } else { whole }
    };
    let nearest = KEYS.iter().map(|known| (distance(known), known)).min();
    let near = nearest.filter(|(distance, known)| *distance <= 2.max(known.len() / 4));
    let Some((_, known)) = near else {
        return "there is no such key; `crewcast config --default` lists all".to_owned();
    };
    let known = match (key.split('.').nth(1), key.starts_with("namespaces.")) {
        (Some(namespace), true) => known.replace("<n>", namespace),
        _ => known.clone(),
    };
    match source {
        Source::Variable(_) => {
            let variable = known.to_uppercase().replace('.', "__");
            format!("there is no such key; did you mean CREWCAST_{variable} ({known})?")
        }
        _ => format!("there is no such key; did you mean {known}?"),
    }
}

/// One `_` in a variable's name where there should be two is no difference.
fn normal(key: &str) -> String {
    key.replace("__", "_").replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tables_are_known_and_nothing_else() {
        for key in
            ["listen", "limits.stall", "limits", "auth.anonymous", "namespaces.audit.log.age", "namespaces.audit"]
        {
            assert!(is_known(key), "{key}");
        }
        for key in ["liste", "limit", "limits.stal", "namespaces.audit.log.size", "namespaces.audit.x", "auth.hs256"] {
            assert!(!is_known(key), "{key}");
        }
        assert!(KEYS.iter().any(|key| key == "namespaces.<n>.log.length"));
    }

    #[test]
    fn the_nearest_key_is_named_in_the_manner_of_its_source() {
        let file = Source::File("x.toml".into());
        let variable = Source::Variable("X".to_owned());
        assert!(suggestion("limits.stal", &file).ends_with("did you mean limits.stall?"));
        assert!(
            suggestion("namespaces.audit.log.lenght", &file).ends_with("did you mean namespaces.audit.log.length?")
        );
        assert!(suggestion("hs256_secret", &file).ends_with("did you mean auth.hs256_secret?"));
        let underscore = suggestion("auth_hs256_secret", &variable);
        assert!(underscore.contains("CREWCAST_AUTH__HS256_SECRET (auth.hs256_secret)"), "{underscore}");
        assert!(suggestion("zzzzzzzzzzzz", &file).contains("crewcast config --default"));
    }
}
