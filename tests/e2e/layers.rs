//! Dependencies point one way: the rule of docs/architecture.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use proc_macro2::{Delimiter, TokenTree};

use crate::{
    sources::{is_punct, is_word, sources, tokens, without_tests},
    support::root,
};

/// Each module of the gateway with all modules that it uses.
///
/// A new dependency needs an entry. Think about its direction first. An entry that is no longer needed must be removed.
const USES: &[(&str, &[&str])] = &[
    // The path of an event, in this order. `registry` shares its connections to Redis with `broker`.
    ("broker", &["config", "registry", "telemetry", "util"]),
    ("relay", &["broker", "hub", "registry", "stats", "telemetry", "util"]),
    ("hub", &["telemetry"]),
    ("replay", &["broker", "hub", "state", "telemetry", "util"]),
    (
        "connection",
        &[
            "adoption",
            "auth",
            "broker",
            "config",
            "dashboards",
            "dialect",
            "drain",
            "hub",
            "limits",
            "outbox",
            "publishing",
            "registry",
            "relay",
            "replay",
            "state",
            "stats",
            "telemetry",
        ],
    ),
    ("outbox", &[]),
    // What a connection says.
    ("dialect", &["auth", "dashboards", "hub", "limits", "replay", "state"]),
    ("dashboards", &["broker", "config", "replay", "state"]),
    ("state", &["broker"]),
    ("stats", &["hub", "registry"]),
    ("console", &[]),
    // What is not on the path of an event.
    ("auth", &["config", "registry"]),
    ("registry", &["broker"]),
    ("limits", &["config"]),
    ("config", &[]),
    ("telemetry", &["config"]),
    (
        "routes",
        &[
            "app",
            "auth",
            "broker",
            "config",
            "connection",
            "dashboards",
            "dialect",
            "drain",
            "limits",
            "outbox",
            "publishing",
            "stats",
            "telemetry",
        ],
    ),
    ("http", &["telemetry"]),
    ("util", &[]),
    // What assembles a replica, starts it and drains it.
    ("publishing", &["auth", "dialect", "registry"]),
    ("adoption", &["auth", "hub", "registry", "relay", "telemetry", "util"]),
    ("control", &["adoption", "app", "connection", "hub", "registry", "relay"]),
    ("ready", &["broker", "drain", "telemetry"]),
    ("drain", &["config", "telemetry"]),
    (
        "app",
        &[
            "auth",
            "broker",
            "config",
            "connection",
            "drain",
            "http",
            "limits",
            "ready",
            "registry",
            "stats",
            "telemetry",
        ],
    ),
    (
        "server",
        &[
            "adoption",
            "app",
            "auth",
            "broker",
            "config",
            "connection",
            "console",
            "control",
            "dashboards",
            "drain",
            "http",
            "hub",
            "limits",
            "publishing",
            "ready",
            "registry",
            "relay",
            "replay",
            "routes",
            "stats",
            "telemetry",
        ],
    ),
];

/// The modules that `code` uses, as `crate::<module>` or as `super::<module>` from a module directly below the root.
///
/// `module` is the module that contains the code. Paths in macros and in nested braces of a `use` count.
fn used(code: &[TokenTree], module: &[String], found: &mut BTreeSet<String>) {
    for (at, token) in code.iter().enumerate() {
        let rest = &code[at + 1..];
        if let Some(path) = path_from_root(token, rest, module.len()) {
            found.extend(first_names(path));
        }
        if let TokenTree::Group(group) = token {
            let inside: Vec<_> = group.stream().into_iter().collect();
            let name = inline_module(&code[..at]).filter(|_| group.delimiter() == Delimiter::Brace);
            let module = [module, name.as_slice()].concat();
            used(&inside, &module, found);
        }
    }
}

/// What follows `crate::`, or enough `super::` to reach the root from `depth` modules below it.
fn path_from_root<'a>(token: &TokenTree, rest: &'a [TokenTree], depth: usize) -> Option<&'a [TokenTree]> {
    let mut rest = after_colons(rest)?;
    if is_word(token, "crate") {
        return Some(rest);
    }
    let mut supers = usize::from(is_word(token, "super"));
    while supers > 0 && supers < depth && is_word(rest.first()?, "super") {
        rest = after_colons(&rest[1..])?;
        supers += 1;
    }
    (supers > 0 && supers == depth).then_some(rest)
}

fn after_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    match tokens {
        [first, second, rest @ ..] if is_punct(first, ':') && is_punct(second, ':') => Some(rest),
        _ => None,
    }
}

/// The first name of a path, or of each path in braces.
fn first_names(path: &[TokenTree]) -> Vec<String> {
    match path.first() {
        Some(TokenTree::Ident(name)) => vec![name.to_string()],
        Some(TokenTree::Group(list)) => {
            let list: Vec<_> = list.stream().into_iter().collect();
            list.split(|token| is_punct(token, ',')).flat_map(first_names).collect()
        }
        _ => Vec::new(),
    }
}

/// The name when the tokens before a pair of braces are `mod name`.
fn inline_module(before: &[TokenTree]) -> Option<String> {
    match before {
        [.., word, name] if is_word(word, "mod") => Some(name.to_string()),
        _ => None,
    }
}

#[test]
fn each_module_of_the_gateway_uses_only_the_modules_listed_for_it() {
    let sources = sources(&root().join("crates/gateway"));
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.module.is_empty()) {
        used(&source.code, &source.module, uses.entry(source.module[0].clone()).or_default());
    }
    let modules: BTreeSet<String> = uses.keys().cloned().collect();
    for (module, used) in &mut uses {
        used.retain(|other| other != module && modules.contains(other));
    }
    let listed: BTreeMap<String, BTreeSet<String>> = USES
        .iter()
        .map(|(module, used)| (module.to_string(), used.iter().map(ToString::to_string).collect()))
        .collect();
    for (module, used) in &uses {
        let Some(listed) = listed.get(module) else { panic!("add `{module}` to USES with {used:?}") };
        let added: Vec<_> = used.difference(listed).collect();
        assert!(added.is_empty(), "`{module}` must not use {added:?}");
        let gone: Vec<_> = listed.difference(used).collect();
        assert!(gone.is_empty(), "`{module}` no longer uses {gone:?}: remove that from USES");
    }
    let gone: Vec<_> = listed.keys().filter(|module| !uses.contains_key(*module)).collect();
    assert!(gone.is_empty(), "the modules {gone:?} do not exist: remove them from USES");
}

#[test]
fn the_crates_depend_one_way() {
    let allowed: [(&str, &[&str]); 6] = [
        ("events", &[]),
        ("store", &["crewcast-events"]),
        ("websocket", &[]),
        ("publisher", &["crewcast-events", "crewcast-store"]),
        ("gateway", &["crewcast-events", "crewcast-store", "crewcast-websocket"]),
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
fn the_check_finds_every_way_to_name_a_module() {
    let uses = |text: &str| {
        let module = ["broker".to_owned(), "redis".to_owned()];
        let mut found = BTreeSet::new();
        used(&without_tests(tokens(text)), &module, &mut found);
        Vec::from_iter(found)
    };
    assert_eq!(uses("use crate::{\n    auth::Auth,\n    hub::{Hub, ring::{Ring, Slot}},\n};"), ["auth", "hub"]);
    assert_eq!(uses("use crate::{auth, hub as other};"), ["auth", "hub"]);
    assert_eq!(uses("fn f() { let x = crate::auth::mint(); }"), ["auth"]);
    assert_eq!(uses("metric!(crate::telemetry::COUNT);"), ["telemetry"]);
    assert_eq!(uses("use super::super::relay::Relay; use super::memory::Memory;"), ["relay"]);
    assert_eq!(uses("mod inline { use super::super::super::relay; use super::super::memory; }"), ["relay"]);
    assert_eq!(uses("// crate::auth\n/// crate::hub\nstruct Of { auth: u8 }"), [""; 0]);
    assert_eq!(uses("#[cfg(test)] mod tests { use crate::hub; } use crate::auth;"), ["auth"]);
    assert_eq!(uses("struct A { #[cfg(test)] seen: Vec<crate::hub::Hub>, auth: crate::auth::Auth }"), ["auth"]);
}
