//! Prints the effective configuration as TOML, with each key's source and without secrets.

use figment::value::{Dict, Value};

use super::{
    error::ConfigError,
    keys,
    load::{Loaded, defaults},
};

/// The effective configuration as TOML. Each line says in a comment who set it; keys that are not set stand
/// in comments; secrets are `***`.
pub fn show(loaded: &Loaded) -> String {
    let dict = Value::serialize(&loaded.raw).ok().and_then(Value::into_dict).unwrap_or_default();
    let mut text = String::new();
    table(&dict, "", loaded, &mut text);
    text
}

/// [`show`] of what holds when nothing is set.
///
/// # Errors
/// Never: a test holds that the defaults load.
pub fn show_default() -> Result<String, ConfigError> {
    defaults().map(|loaded| show(&loaded))
}

/// The keys of one table, then the tables in it.
fn table(dict: &Dict, path: &str, loaded: &Loaded, text: &mut String) {
    let path_of = |key: &String| if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
    let is_table = |key: &String, value: &Value| {
        matches!(value, Value::Dict(..)) && path_of(key) != keys::ANONYMOUS && !is_log_policy(&path_of(key))
    };
    let (tables, values): (Vec<_>, Vec<_>) = dict.iter().partition(|(key, value)| is_table(key, value));
    if !path.is_empty() && !values.is_empty() {
        text.push_str(&format!("\n[{path}]\n"));
    }
    for (key, value) in values {
        match value {
            Value::Dict(_, log) if path_of(key) != keys::ANONYMOUS => {
                for (inner, value) in log {
                    line(&format!("{key}.{inner}"), &format!("{}.{inner}", path_of(key)), value, loaded, text);
                }
            }
            _ => line(key, &path_of(key), value, loaded, text),
        }
    }
    for (key, value) in tables {
        if let Some(inner) = value.as_dict() {
            table(inner, &path_of(key), loaded, text);
        }
    }
}

fn line(key: &str, path: &str, value: &Value, loaded: &Loaded, text: &mut String) {
    let source = loaded.sources.of(path);
    let written = match path {
        "broker.url" if loaded.raw.broker.url_file.is_none() => {
            Some(quoted(&masked_url(loaded.config.broker.url.expose())))
        }
        _ if matches!(value, Value::Empty(..)) => None,
        _ => toml::Value::try_from(value).ok().map(|value| value.to_string()),
    };
    text.push_str(&match written {
        Some(written) => format!("{key} = {written}  # {source}\n"),
        None => format!("# {key} is not set\n"),
    });
}

/// `namespaces.<n>.log` is written in its namespace's table.
fn is_log_policy(path: &str) -> bool {
    path.starts_with("namespaces.") && path.ends_with(".log") && path.matches('.').count() == 2
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// The URL with its passwords masked: between `:` and `@` of each server, and behind `password=`. Of what is no URL, nothing.
fn masked_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return "***".to_owned() };
    let (servers, query) = rest.split_once('?').map_or((rest, None), |(servers, query)| (servers, Some(query)));
    let server = |server: &str| {
        let (scheme, rest) = server.split_once("://").map_or(("", server), |(scheme, rest)| (scheme, rest));
        let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
        match rest.rsplit_once('@') {
            None => format!("{scheme}{rest}"),
            Some((credentials, host)) => match credentials.split_once(':') {
                Some((user, _)) => format!("{scheme}{user}:***@{host}"),
                None => format!("{scheme}{credentials}@{host}"),
            },
        }
    };
    let parameter = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if key.contains("pass") => format!("{key}=***"),
        _ => pair.to_owned(),
    };
    let servers: Vec<String> = servers.split(',').map(server).collect();
    let mut masked = format!("{scheme}://{}", servers.join(","));
    if let Some(query) = query {
        let query: Vec<String> = query.split('&').map(parameter).collect();
        masked.push('?');
        masked.push_str(&query.join("&"));
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_wherever_they_stand() {
        for (url, masked) in [
            ("redis://h:1/2", "redis://h:1/2"),
            ("redis://:secret@h", "redis://:***@h"),
            ("redis://u:se:cr%40et@a,redis://:secret@b,c", "redis://u:***@a,redis://:***@b,c"),
            (
                "redis+sentinel://u:secret@a,b/m?sentinel_password=secret&x=1",
                "redis+sentinel://u:***@a,b/m?sentinel_password=***&x=1",
            ),
            ("unix:///run/r.sock?user=u&pass=secret", "unix:///run/r.sock?user=u&pass=***"),
            ("secret", "***"),
        ] {
            assert_eq!(masked_url(url), masked);
        }
    }
}
