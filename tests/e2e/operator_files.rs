//! The files that operators copy: deploy/ and k8s/ name only settings, files and metrics that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use crewcast_gateway::config::{Config, load};
use serde::Deserialize;
use serde_yaml_ng::Value;

use crate::support::root;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The paths of all files below deploy/ and k8s/.
fn operator_files() -> Vec<String> {
    let (mut folders, mut files) = (vec![root().join("deploy"), root().join("k8s")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    assert!(files.len() >= 12, "{files:?}");
    files
}

/// The documents of a YAML file, with merge keys applied.
fn yaml(path: &str) -> Vec<Value> {
    let text = read(path);
    let documents = serde_yaml_ng::Deserializer::from_str(&text).map(|document| {
        let mut value = Value::deserialize(document).unwrap_or_else(|error| panic!("{path}: {error}"));
        value.apply_merge().unwrap_or_else(|error| panic!("{path}: {error}"));
        value
    });
    documents.collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a string, got {value:?}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_sequence().unwrap_or_else(|| panic!("expected a list, got {value:?}"))
}

/// The configuration from these variables and this file. `crewcast serve` must accept it.
fn serve_with(file: Option<&str>, variables: Vec<(String, String)>) -> Config {
    let file = file.map(|file| root().join(file));
    let config = load(file.as_deref(), variables, &[]).unwrap_or_else(|error| panic!("{file:?}: {error}")).config;
    config.check_serve().unwrap_or_else(|error| panic!("{file:?}: {error}"));
    config
}

/// Parses `25s` as in Compose and systemd, or a plain number.
fn seconds(value: &str) -> Duration {
    Duration::from_secs(value.trim_end_matches('s').parse().unwrap())
}

#[test]
fn every_variable_they_name_is_a_configuration_key() {
    let mut seen = BTreeSet::new();
    for path in operator_files() {
        let text = read(&path);
        for (start, _) in text.match_indices("CREWCAST_") {
            let name: String = text[start..]
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_')
                .collect();
            // Only the name is checked here, not the value.
            let refusal = load(None, [(name.clone(), "?".to_owned())], &[]).err().map(|error| error.to_string());
            let unknown = refusal.filter(|refusal| refusal.contains("there is no such key"));
            assert_eq!(unknown, None, "{name} in {path}");
            seen.insert(name);
        }
    }
    assert!(seen.len() >= 4, "{seen:?}");
    let refusal = load(None, [("CREWCAST_AUTH__HS256".to_owned(), "?".to_owned())], &[]).unwrap_err().to_string();
    assert!(refusal.contains("there is no such key"), "the error that this test looks for: {refusal}");
}

#[test]
fn compose_starts_two_replicas_behind_nginx() {
    let compose = yaml("deploy/compose.yaml").remove(0);
    let services = compose["services"].as_mapping().unwrap();
    let folder = root().join("deploy");
    let mut replicas = BTreeSet::new();
    for (name, service) in services {
        let waited_for: Vec<&str> = match &service["depends_on"] {
            Value::Sequence(names) => names.iter().map(text).collect(),
            Value::Mapping(conditions) => conditions.keys().map(text).collect(),
            _ => Vec::new(),
        };
        assert!(waited_for.iter().all(|other| services.contains_key(*other)), "{name:?} waits for {waited_for:?}");
        for volume in service["volumes"].as_sequence().into_iter().flatten() {
            let (from, _) = text(volume).split_once(':').unwrap();
            let there = if from.starts_with('.') {
                folder.join(from).exists()
            } else {
                compose["volumes"].as_mapping().unwrap().contains_key(from)
            };
            assert!(there, "{name:?} mounts {from}");
        }
        if text(&service["image"]) != "crewcast:dev" {
            continue;
        }
        replicas.insert(format!("{}:8000", text(name)));
        let build = &service["build"];
        let dockerfile = folder.join(text(&build["context"])).join(text(&build["dockerfile"]));
        assert!(dockerfile.exists(), "{}", dockerfile.display());
        let variables = service["environment"].as_mapping().unwrap().iter().map(|(name, value)| {
            // Compose substitutes the caller's variable.
            let value = if text(value).starts_with("${") { "s".repeat(48) } else { text(value).to_owned() };
            (text(name).to_owned(), value)
        });
        let config = serve_with(None, variables.collect());
        assert_eq!(config.listen.0.port(), 8000);
        assert_eq!(config.broker.url.expose(), "redis://redis:6379");
        assert!(services.contains_key("redis"));
        assert!(
            seconds(text(&service["stop_grace_period"])) > config.drain.grace,
            "the replica is killed while it drains"
        );
    }
    let nginx = read("deploy/nginx/crewcast.conf");
    let upstreams =
        nginx.lines().filter_map(|line| line.trim().strip_prefix("server ")).filter(|line| !line.contains('{'));
    let upstreams: BTreeSet<String> = upstreams.map(|line| line.split([' ', ';']).next().unwrap().to_owned()).collect();
    assert_eq!(upstreams, replicas);
    assert_eq!(replicas.len(), 2);
}

#[test]
fn kubernetes_manifests_are_complete_and_start_a_replica() {
    for path in operator_files().iter().filter(|path| path.starts_with("k8s/") && path.ends_with(".yaml")) {
        for document in yaml(path) {
            assert!(document["apiVersion"].is_string() && document["kind"].is_string(), "{path}");
            let kustomization = document["kind"] == "Kustomization";
            assert!(kustomization || document["metadata"]["name"] == "crewcast", "{path}");
            let folder = root().join(path).parent().unwrap().to_owned();
            let named =
                ["resources", "patches"].into_iter().flat_map(|key| document[key].as_sequence().into_iter().flatten());
            for name in named.map(|entry| entry.as_str().unwrap_or_else(|| text(&entry["path"]))) {
                assert!(folder.join(name).exists(), "{path} names {name}");
            }
        }
    }

    let deployment = yaml("k8s/base/deployment.yaml").remove(0);
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &list(&pod["containers"])[0];
    // The Secret that kustomization.yaml describes.
    let secrets = tempfile::tempdir().unwrap();
    let told = read("k8s/base/kustomization.yaml");
    for literal in told.split("--from-literal=").skip(1) {
        let (name, value) = literal.split_once('=').unwrap();
        let value = value.split(' ').next().unwrap();
        let value = if value.starts_with("\"$(") { "s".repeat(48) } else { value.to_owned() };
        fs::write(secrets.path().join(name), value + "\n").unwrap();
    }
    let mount = list(&container["volumeMounts"]).iter().find(|mount| mount["name"] == "secrets").unwrap();
    let here = secrets.path().display().to_string();
    let variables: Vec<_> = list(&container["env"])
        .iter()
        .map(|entry| (text(&entry["name"]).to_owned(), text(&entry["value"]).replace(text(&mount["mountPath"]), &here)))
        .collect();
    for file in ["k8s/base/crewcast.toml", "k8s/overlays/production/crewcast.toml"] {
        let config = serve_with(Some(file), variables.clone());
        let port = |name: &str| {
            let ports = list(&container["ports"]);
            ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].as_u64().unwrap()
        };
        assert_eq!(u64::from(config.listen.0.port()), port("http"));
        assert_eq!(u64::from(config.admin.listen.port()), port("admin"));
        assert!(!config.admin.listen.ip().is_loopback(), "probes come from outside the pod");
        assert_eq!(config.broker.url.expose(), "redis://redis:6379");
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(Duration::from_secs(grace) > config.drain.grace, "the replica is killed while it drains");
    }
}

#[test]
fn the_unit_and_the_image_start_a_replica() {
    let unit = read("deploy/systemd/crewcast.service");
    let value = |key: &str| {
        let found = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{key} in crewcast.service"))
    };
    let credentials = tempfile::tempdir().unwrap();
    fs::write(credentials.path().join(value("LoadCredential").split(':').next().unwrap()), "s".repeat(48)).unwrap();
    let (name, file) = value("Environment").split_once('=').unwrap();
    let file = file.replace("%d", &credentials.path().display().to_string());
    // production.toml sets a key itself, so only the unit's variable is tested here.
    let config = serve_with(None, vec![(name.to_owned(), file)]);
    assert!(seconds(value("TimeoutStopSec")) > config.drain.grace, "the replica is killed while it drains");
    assert!(read("config/production.toml").len() > 100, "the unit refers to this file");

    let image = read("deploy/Dockerfile");
    let variables = image.lines().filter_map(|line| line.strip_prefix("ENV ")?.split_once('='));
    let mut variables: Vec<_> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    variables.push(("CREWCAST_AUTH__HS256_SECRET".to_owned(), "s".repeat(48)));
    let config = serve_with(None, variables);
    let exposed = format!("EXPOSE {} {}", config.listen.0.port(), config.admin.listen.port());
    assert!(image.contains(&exposed), "{exposed}");
    assert!(!config.admin.listen.ip().is_loopback(), "probes come from outside the container");
}

/// A metric in docs/metrics.md.
struct Documented {
    is_histogram: bool,
    /// The labels, each with its listed values, if there are any.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// The texts between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = String> + '_ {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

fn documented() -> BTreeMap<String, Documented> {
    let document = read("docs/metrics.md");
    let rows = document.lines().filter(|line| line.starts_with("| `crewcast_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[3].split(';').flat_map(|label| {
            let (names, values) = label.split_once(':').unwrap_or((label, ""));
            let values: BTreeSet<String> = quoted(values).collect();
            quoted(names).map(move |name| (name, values.clone())).collect::<Vec<_>>()
        });
        let metric = Documented { is_histogram: cells[2] == "histogram", labels: labels.collect() };
        (quoted(cells[1]).next().unwrap(), metric)
    })
    .collect()
}

fn find<'a>(name: &str, all: &'a BTreeMap<String, Documented>) -> Option<&'a Documented> {
    let histogram =
        || all.get(name.strip_suffix("_bucket").or(name.strip_suffix("_count"))?).filter(|m| m.is_histogram);
    all.get(name).or_else(histogram)
}

/// Names in an expression that begin with `crewcast`, each with the text in the braces after it.
fn selectors(expression: &str) -> Vec<(String, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let starts = expression.match_indices("crewcast").map(|(start, _)| &expression[start..]);
    let selector = |rest: &str| rest.chars().take_while(|c| is_name(*c)).collect::<String>();
    starts
        .map(|rest| {
            let name = selector(rest);
            let matchers = rest[name.len()..].strip_prefix('{').map_or("", |rest| rest.split('}').next().unwrap());
            (name, matchers)
        })
        .collect()
}

#[test]
fn alerts_use_only_metrics_labels_and_values_that_exist() {
    let all = documented();
    let rules = yaml("deploy/prometheus/crewcast.rules.yaml").remove(0);
    let rules: Vec<&Value> = list(&rules["groups"]).iter().flat_map(|group| list(&group["rules"])).collect();
    let recorded: BTreeSet<&str> = rules.iter().filter_map(|rule| rule["record"].as_str()).collect();
    assert!(rules.len() >= 10 && recorded.len() >= 3);
    for rule in rules {
        let expression = text(&rule["expr"]);
        let used = selectors(expression);
        assert!(!used.is_empty(), "{expression}");
        let mut labels: BTreeSet<String> = ["le", "instance"].map(str::to_owned).into();
        for (name, matchers) in &used {
            if recorded.contains(name.as_str()) {
                continue;
            }
            let metric = find(name, &all).unwrap_or_else(|| panic!("{name} is not a metric: {expression}"));
            labels.extend(metric.labels.keys().cloned());
            for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
                let (label, value) = matcher.split_once('=').unwrap();
                let values = metric.labels.get(label).unwrap_or_else(|| panic!("{name} has no label {label}"));
                let wanted = value.trim_start_matches('~').trim_matches('"').split('|');
                for wanted in wanted.filter(|_| values.len() > 2) {
                    let start = wanted.strip_suffix(".*");
                    let is_there = values.iter().any(|value| match start {
                        Some(start) => value.starts_with(start),
                        None => value == wanted,
                    });
                    assert!(is_there, "{name} never has {label}={wanted}");
                }
            }
        }
        let grouped = expression.split("by (").skip(1).flat_map(|rest| rest.split(')').next().unwrap().split(','));
        let told = rule["annotations"].as_mapping().into_iter().flat_map(|notes| notes.values()).map(text);
        let told =
            told.flat_map(|note| note.split("$labels.").skip(1).map(|rest| rest.split([' ', '}']).next().unwrap()));
        for label in grouped.map(str::trim).chain(told) {
            assert!(labels.contains(label), "{label}: {expression}");
        }
    }

    let scaler = yaml("k8s/base/hpa.yaml").remove(0);
    for metric in list(&scaler["spec"]["metrics"]).iter().filter(|metric| metric["type"] == "Pods") {
        let name = text(&metric["pods"]["metric"]["name"]);
        assert!(find(name, &all).is_some(), "{name}");
    }
}

#[test]
fn operator_docs_name_only_metrics_that_exist() {
    let all = documented();
    for path in operator_files().iter().filter(|path| path.ends_with(".yaml")) {
        let text = read(path);
        for (name, _) in selectors(&text).into_iter().filter(|(name, _)| name.starts_with("crewcast_")) {
            assert!(find(&name, &all).is_some(), "{path} names {name}");
        }
    }
}
