//! Dependencies point one way: the rule of docs/architecture.md.

use std::{fs, path::Path};

/// Module of the gateway, and the modules that it must not use. A dialect is told who is there (`auth::Identity`); what he
/// may read it leaves to the connection.
const FORBIDDEN: [(&str, &[&str]); 5] = [
    ("broker", &["relay", "hub", "replay", "connection", "dialect", "transport", "routes", "auth", "server"]),
    ("hub", &["broker", "relay", "replay", "connection", "dialect", "transport", "routes", "auth", "server"]),
    ("relay", &["replay", "connection", "dialect", "transport", "routes", "auth", "server"]),
    ("dialect", &["broker", "relay", "connection", "routes", "server"]),
    ("transport", &["broker", "relay", "hub", "replay", "connection", "dialect", "routes", "server"]),
];

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") && !path.to_string_lossy().contains("test") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Whether `text` names `crate::<module>`, alone or inside `use crate::{…}`.
fn uses(text: &str, module: &str) -> bool {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    if code.contains(&format!("crate::{module}::")) || code.contains(&format!("crate::{module};")) {
        return true;
    }
    let Some((_, list)) = code.split_once("use crate::{") else { return false };
    let list = list.split("\n};").next().unwrap_or_default();
    list.lines()
        .any(|line| line.trim_start().starts_with(&format!("{module}::")) || line.trim() == format!("{module},"))
}

#[test]
fn the_gateways_modules_do_not_reach_back_up_the_way_of_an_event() {
    for (module, forbidden) in FORBIDDEN {
        let mut files = Vec::new();
        sources(&root().join("crates/gateway/src").join(module), &mut files);
        assert!(!files.is_empty(), "{module}");
        for (path, text) in files {
            for other in forbidden {
                assert!(!uses(&text, other), "{path} uses {other}");
            }
        }
    }
}

#[test]
fn the_crates_depend_one_way() {
    let allowed: [(&str, &[&str]); 5] = [
        ("events", &[]),
        ("store", &["crewcast-events"]),
        ("publisher", &["crewcast-events", "crewcast-store"]),
        ("gateway", &["crewcast-events", "crewcast-store"]),
        ("client", &["crewcast-events"]),
    ];
    for (name, allowed) in allowed {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
        let ours = dependencies.lines().filter(|line| line.starts_with("crewcast-"));
        for line in ours {
            let dependency = line.split(['.', ' ', '=']).next().unwrap();
            assert!(allowed.contains(&dependency), "{name} depends on {dependency}");
        }
    }
}

#[test]
fn the_check_sees_what_it_is_to_see() {
    assert!(uses("use crate::{\n    auth::Auth,\n    hub::Hub,\n};", "hub"));
    assert!(uses("let x = crate::auth::mint();", "auth"));
    assert!(!uses("use crate::{\n    auth::Auth,\n};", "hub"));
}
