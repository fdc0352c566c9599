//! `namespaces.<n>.*`: how [`Namespace`] is written. Its fields and their defaults stand in `crewcast-events`.

use std::{collections::BTreeMap, time::Duration};

use crewcast_events::{Channel, LogPolicy, Namespace, Namespaces, Owner};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{form, rules::Rules};

#[derive(Default, Serialize, Deserialize)]
#[serde(remote = "Namespace", default, deny_unknown_fields)]
struct NamespaceForm {
    #[serde(with = "LogForm")]
    log: LogPolicy,
    #[serde(with = "form")]
    retain: bool,
    #[serde(with = "form")]
    capture_live: bool,
    #[serde(with = "form")]
    terminal: Vec<String>,
    #[serde(with = "form")]
    owner: Option<Owner>,
    #[serde(with = "form")]
    lost_after: Duration,
    #[serde(with = "form")]
    skip_progress: bool,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(remote = "LogPolicy", default, deny_unknown_fields)]
struct LogForm {
    #[serde(with = "form")]
    length: u32,
    #[serde(with = "form")]
    age: Duration,
}

#[derive(Serialize, Deserialize)]
struct Table(#[serde(with = "NamespaceForm")] Namespace);

pub(crate) fn serialize<S: Serializer>(namespaces: &Namespaces, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(namespaces.0.iter().map(|(name, namespace)| (name, Table(namespace.clone()))))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Namespaces, D::Error> {
    let tables = BTreeMap::<String, Table>::deserialize(deserializer)?;
    Ok(Namespaces(tables.into_iter().map(|(name, table)| (name, table.0)).collect()))
}

pub(crate) fn check(namespaces: &Namespaces, rules: &mut Rules<'_>) {
    for (name, namespace) in &namespaces.0 {
        let key = format!("namespaces.{name}");
        let text = "a namespace's name starts with a lower-case letter and has at most 32 of a-z 0-9 _ -";
        rules.hold(&key, Channel::new(name, "id").is_ok(), text);
        rules.positive(&format!("{key}.log.age"), namespace.log.age);
        let text = format!("needs {key}.retain = true: it stores the retained value");
        let may_capture = namespace.retain || Namespace::leaves_documents(name);
        rules.hold(&format!("{key}.capture_live"), may_capture || !namespace.capture_live, text);
        let has_empty = namespace.terminal.iter().any(String::is_empty);
        rules.hold(&format!("{key}.terminal"), !has_empty, "an event type is not empty");
    }
}
