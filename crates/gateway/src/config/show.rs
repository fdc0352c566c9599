//! Prints a configuration as TOML, with each key's source and without secrets.

use figment::value::Value;

use super::{Loaded, keys};

/// The configuration as TOML. The comment after each line names its source; unset keys stand in comments; secrets are
/// `***`. The result is valid as a configuration.
pub fn show(loaded: &Loaded) -> String {
    let dict = keys::dict(&loaded.config);
    let mut leaves = keys::leaves(&dict, "");
    // TOML wants the keys without a table first.
    leaves.sort_by_key(|(path, _)| path.contains('.'));
    let is_set = |path: &str| leaves.iter().any(|(other, value)| other == path && !matches!(value, Value::Empty(..)));
    let (mut text, mut open) = (String::new(), "");
    for (path, value) in &leaves {
        let (table, key) = table_and_key(path);
        if table != open {
            text += &format!("\n[{table}]\n");
            open = table;
        }
        let written = toml::Value::try_from(value).map_or_else(|_| String::new(), |toml| toml.to_string());
        text += &match is_set(path) {
            // Both in one file would contradict each other.
            _ if is_set(&format!("{path}_file")) => format!("# {key} is read from {key}_file\n"),
            true => format!("{key} = {written}  # {}\n", loaded.sources.of(path)),
            false => format!("# {key} is not set\n"),
        };
    }
    text
}

/// The configuration as one JSON object: each key's path with its `value` (null if unset) and `source`. Secrets are
/// `***`.
pub fn show_json(loaded: &Loaded) -> serde_json::Value {
    let dict = keys::dict(&loaded.config);
    let shown = keys::leaves(&dict, "").into_iter().map(|(path, value)| {
        let value = match value {
            Value::Empty(..) => serde_json::Value::Null,
            value => serde_json::to_value(value).unwrap_or_default(),
        };
        let source = loaded.sources.of(&path).to_string();
        (path, serde_json::json!({"value": value, "source": source}))
    });
    serde_json::Value::Object(shown.collect())
}

/// The log policy of a namespace is written in its namespace's table.
fn table_and_key(path: &str) -> (&str, &str) {
    let table = path.rsplit_once('.').map_or("", |(table, _)| table);
    let table = table.strip_suffix(".log").filter(|table| table.contains('.')).unwrap_or(table);
    (table, path[table.len()..].trim_start_matches('.'))
}
