mod form;
mod keys;
mod layers;
mod origins;
mod secret;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use crewcast_events::{Namespace, Owner};
use figment::value::Value;

use super::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn env(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn of_text(toml: &str) -> Result<Loaded, ConfigError> {
    load::merge(vec![
        super::layers::toml(Path::new("crewcast.toml"), toml).map_err(|problem| ConfigError(vec![problem]))?,
    ])
}

fn of_variables(variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    load(None, env(variables), &[])
}

/// The problems of a configuration, as the operator reads them.
fn refusal(result: Result<Loaded, ConfigError>) -> String {
    result.expect_err("the configuration is taken").to_string()
}

#[test]
fn nothing_set_gives_the_defaults() {
    let loaded = load(None, [], &[]).expect("the defaults load");
    assert_eq!(format!("{:?}", loaded.config), format!("{:?}", Config::default()));
    assert_eq!(loaded.sources.of("limits.stall"), &Source::Default);
}

#[test]
fn later_layers_win_and_each_key_remembers_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("crewcast.toml");
    std::fs::write(&file, "listen = '127.0.0.1:1'\n[limits]\nstall = '1s'\nper_user = 1\nhandshake = 3")
        .expect("written");
    let variables = env(&[("CREWCAST_LIMITS__STALL", "2s"), ("CREWCAST_LIMITS__PER_USER", "2"), ("HOME", "/root")]);
    let loaded = load(Some(&file), variables, &[("limits.stall".to_owned(), "3s".to_owned())]).expect("loads");

    assert_eq!(loaded.config.listen.0.port(), 1);
    assert_eq!(loaded.config.limits.handshake, Duration::from_secs(3));
    assert_eq!(loaded.config.limits.per_user, 2);
    assert_eq!(loaded.config.limits.stall, Duration::from_secs(3));
    assert_eq!(loaded.sources.of("listen"), &Source::File(file));
    assert_eq!(loaded.sources.of("limits.per_user"), &Source::Variable("CREWCAST_LIMITS__PER_USER".to_owned()));
    assert_eq!(loaded.sources.of("limits.stall"), &Source::Flag);
    assert_eq!(loaded.sources.of("limits.ring_bytes"), &Source::Default);
}

#[test]
fn every_kind_of_value_can_come_from_a_variable() {
    let loaded = of_variables(&[
        ("CREWCAST_AUTH__HS256_SECRET", "01234567890123456789012345678901"),
        ("CREWCAST_AUTH__AUDIENCE", "a, b"),
        ("CREWCAST_AUTH__ALGORITHMS", "HS256,HS512"),
        ("CREWCAST_AUTH__QUERY_TOKEN", "true"),
        ("CREWCAST_AUTH__ISSUER", "12345"),
        ("CREWCAST_AUTH__ANONYMOUS", r#"{"org":"acme","crews":["abc"]}"#),
        ("CREWCAST_TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1"),
        ("CREWCAST_LIMITS__MESSAGE", "2MiB"),
        ("CREWCAST_NAMESPACES__AUDIT__LOG__LENGTH", "7"),
        ("CREWCAST_LOG__LEVEL", ""),
    ])
    .expect("loads");
    let auth = &loaded.config.auth;
    assert_eq!(auth.hs256_secret.as_ref().map(Secret::expose), Some("01234567890123456789012345678901"));
    assert_eq!(auth.audience, ["a", "b"]);
    assert_eq!(auth.algorithms, [Algorithm::HS256, Algorithm::HS512]);
    assert!(auth.query_token);
    assert_eq!(auth.issuer.as_deref(), Some("12345"));
    assert_eq!(auth.anonymous.as_ref().and_then(|claims| claims.get("crews")), Some(&serde_json::json!(["abc"])));
    assert_eq!(loaded.config.trusted_proxies.len(), 2);
    assert_eq!(loaded.config.limits.message, Size(2 << 20));
    assert_eq!(loaded.config.namespaces.0["audit"].log.length, 7);
    assert_eq!(loaded.config.log.level, "info");
}

#[test]
fn anonymous_claims_are_a_table() {
    let loaded = of_text("[auth.anonymous]\norg = 'acme'\ncrews = ['a', 'b']").expect("loads");
    let claims = serde_json::Value::Object(loaded.config.auth.anonymous.clone().expect("set"));
    assert_eq!(claims, serde_json::json!({"org": "acme", "crews": ["a", "b"]}));
    let by_variable =
        of_variables(&[("CREWCAST_AUTH__ANONYMOUS__CREWS", r#"["a"]"#), ("CREWCAST_AUTH__ANONYMOUS__ORG", "acme")]);
    let claims = serde_json::Value::Object(by_variable.expect("loads").config.auth.anonymous.expect("set"));
    assert_eq!(claims, serde_json::json!({"org": "acme", "crews": ["a"]}));
}

#[test]
fn default_claims_are_tables_also_those_of_an_issuer() {
    let toml = "[auth.default_claims]\norg = 'default'\n[auth.default_claims_by_issuer.\"https://id.example.com/\"]\ncrews = '*'";
    let auth = of_text(toml).expect("loads").config.auth;
    assert_eq!(auth.default_claims.expect("set")["org"], "default");
    assert_eq!(auth.default_claims_by_issuer.expect("set")["https://id.example.com/"]["crews"], "*");
    let by_variable = of_variables(&[
        ("CREWCAST_AUTH__DEFAULT_CLAIMS__CREWS", "*"),
        ("CREWCAST_AUTH__DEFAULT_CLAIMS_BY_ISSUER", r#"{"https://a.b/":{"runs":["r1"]}}"#),
    ]);
    let auth = by_variable.expect("loads").config.auth;
    assert_eq!(auth.default_claims.expect("set")["crews"], "*");
    assert_eq!(auth.default_claims_by_issuer.expect("set")["https://a.b/"]["runs"], serde_json::json!(["r1"]));
    let text = refusal(of_text("[auth]\ndefault_claims_by_issuer = { 'https://a' = 7 }"));
    assert!(text.contains("a table of claims for each issuer"), "{text}");
}

#[test]
fn namespaces_change_the_built_in_ones_and_add_new_ones() {
    let loaded = of_text(
        "[namespaces.run]\nlog = { length = 5 }\n[namespaces.audit]\nowner = 'org'\nlog = { age = '2h' }\n[namespaces.graph]\nowner='none'",
    )
    .expect("loads");
    let namespaces = &loaded.config.namespaces.0;
    assert_eq!(namespaces["run"].log.length, 5);
    assert_eq!(namespaces["run"].log.age, Duration::from_secs(86_400));
    assert_eq!(namespaces["run"].terminal, ["done"]);
    assert_eq!(namespaces["run"].owner, Some(Owner::Run));
    assert_eq!(namespaces["audit"].owner, Some(Owner::Org));
    assert_eq!(namespaces["audit"].log.length, 1000);
    assert_eq!(namespaces["audit"].log.age, Duration::from_secs(7200));
    assert_eq!(namespaces["graph"].owner, None);
    assert!(namespaces["mission"].retain && namespaces["mission"].capture_live);
}

#[test]
fn every_unknown_key_is_reported_with_its_source_and_the_nearest_key() {
    let text = refusal(of_text("[limits]\nstal = '1s'\n[bogus]\nx = 1"));
    assert_eq!(
        text,
        "bogus.x (file crewcast.toml): there is no such key; `crewcast config --default` lists all\n\
         limits.stal (file crewcast.toml): there is no such key; did you mean limits.stall?"
    );
    let text = refusal(of_variables(&[("CREWCAST_AUTH_HS256_SECRET", KEY)]));
    assert!(text.contains("variable CREWCAST_AUTH_HS256_SECRET"), "{text}");
    assert!(text.contains("did you mean CREWCAST_AUTH__HS256_SECRET (auth.hs256_secret)?"), "{text}");
    assert!(!text.contains(KEY), "{text}");
    let text = refusal(load(None, [], &[("drain.grce".to_owned(), "1s".to_owned())]));
    assert_eq!(text, "drain.grce (flag): there is no such key; did you mean drain.grace?");
    assert!(refusal(of_text("[bogus]")).contains("bogus"));
}

#[test]
fn the_long_name_of_the_broker_url_wins_over_the_short_one() {
    let short = ("CREWCAST_REDIS_URL", "redis://a:1");
    let loaded = of_variables(&[short]).expect("loads");
    assert_eq!(loaded.config.broker.url.expose(), "redis://a:1");
    let loaded = of_variables(&[("CREWCAST_BROKER__URL", "redis://b:1"), short]).expect("loads");
    assert_eq!(loaded.config.broker.url.expose(), "redis://b:1");
}

#[test]
fn secrets_come_from_files_too_and_the_later_layer_wins() {
    let dir = tempfile::tempdir().expect("a directory");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, format!("{KEY}\n")).expect("written");
    let path = secret.to_str().expect("a path");

    let loaded = of_variables(&[("CREWCAST_AUTH__HS256_SECRET_FILE", path)]).expect("loads");
    assert_eq!(loaded.config.auth.hs256_secret, Some(Secret::new(KEY)));

    let of_file = super::layers::toml(Path::new("x.toml"), &format!("[auth]\nhs256_secret = '{}'", "f".repeat(32)))
        .expect("TOML");
    let layers =
        std::iter::once(of_file).chain(super::layers::variables(env(&[("CREWCAST_AUTH__HS256_SECRET_FILE", path)])));
    let loaded = load::merge(layers.collect()).expect("loads");
    assert_eq!(loaded.config.auth.hs256_secret, Some(Secret::new(KEY)));

    let both = of_variables(&[("CREWCAST_AUTH__HS256_SECRET_FILE", path), ("CREWCAST_AUTH__HS256_SECRET", KEY)]);
    assert!(refusal(both).contains("remove one of them"));
    let missing = of_variables(&[("CREWCAST_BROKER__URL_FILE", "/nowhere/url")]);
    let text = refusal(missing);
    assert!(
        text.starts_with("broker.url_file (variable CREWCAST_BROKER__URL_FILE): cannot read /nowhere/url: "),
        "{text}"
    );
    let text = refusal(load(Some(Path::new("/nowhere/x.toml")), [], &[]));
    assert!(text.starts_with("cannot read /nowhere/x.toml, which --config names: "), "{text}");
    std::fs::write(&secret, "\n").expect("written");
    let empty = of_variables(&[("CREWCAST_AUTH__HS256_SECRET_FILE", path)]);
    assert!(refusal(empty).contains("is empty"));
}

#[test]
fn broken_rules_say_what_to_write_instead() {
    for (toml, expected) in [
        ("[limits]\nstall = 0", "limits.stall (file crewcast.toml): must be longer than 0"),
        ("[limits]\nstall = '5 minutes'", "\"5 minutes\" is not a duration: a number with ms, s, m, h or d"),
        ("[limits]\nper_user = -1", "limits.per_user (file crewcast.toml): -1 is not a whole number"),
        ("[limits]\nmessage = '1MB'", "a number with KiB, MiB or GiB"),
        ("[limits]\nconnections = 0", "leave it unset"),
        ("[limits]\nmessage = '8MiB'", "limits.ring_bytes (default): must be at least limits.message"),
        ("[compression]\nlevel = 0", "compression.level (file crewcast.toml): must be 1 (fast) to 9 (small)"),
        ("[compression]\nlevel = 10", "compression.enabled = false"),
        ("[drain]\nspread = '30s'", "must be shorter than drain.grace"),
        ("listen = 'localhost:8000'", "is not an address with port such as 0.0.0.0:8000"),
        ("listen = '127.0.0.1:9090'", "admin.listen (default): must differ from listen"),
        ("limits = 5", "limits (file crewcast.toml): expected a table of keys"),
        ("[broker]\nkind = 'kafka'", "\"kafka\" is not redis or memory"),
        ("[broker]\nurl = 'http://x'", "must be a URL such as redis://127.0.0.1:6379"),
        ("[broker]\nurl = 'redis+sentinel://x'", "the name of the master"),
        ("[broker]\nurl = 'redis://a/1,redis://b'", "a Cluster has no databases"),
        ("[broker]\nurl = 'redis://a/x'", "must be a URL such as"),
        ("[broker]\nsharded = 'yes'", "is not auto or never"),
        ("[broker]\ntls_key_file = 'k'", "belong together"),
        ("[broker]\nkey_prefix = 'a{b'", "broker.key_prefix"),
        ("[namespaces.Audit]\nretain = true", "a namespace's name starts with a lower-case letter"),
        ("[namespaces.graph]\nowner = 'user'", "is not one of crew, run"),
        ("[namespaces.graph]\ncapture_live = true", "needs namespaces.graph.retain = true"),
        ("[auth]\nhs256_secret = 'short'", "has 5 bytes and needs 32"),
        ("[auth]\nalgorithms = ['none']", "\"none\" is not one of HS256"),
        ("[auth]\njwks_url = 'https://x/k'\nalgorithms = ['HS256']", "HS256 does not fit the key"),
        ("[auth]\npublic_key = '-----BEGIN PRIVATE KEY-----'", "is a private key"),
        ("[auth]\npublic_key = 'abc'", "must be PEM"),
        ("[auth]\njwks_url = 'https://x'\npublic_key = '-----BEGIN PUBLIC KEY-----'", "set only one of"),
        ("[auth]\njwks_url = 'ftp://x'", "must be a URL that begins with https://"),
        ("[auth]\nallowed_origins = ['https://x/']", "without a path"),
        ("[cors]\nallowed_origins = ['x.com']", "is not an origin"),
        ("[cors]\nallowed_headers = ['x y']", "is not the name of a header"),
        ("[otel]\nendpoint = 'http://u:p@x'", "must not contain a user name or password"),
        ("[log]\nlevel = 'a=b=c'", "must be a level or a filter"),
        ("[mission]\noffline_after = 0", "must be longer than 0"),
        ("[tracking]\nsession_ttl = 0", "must be longer than 0"),
        ("[forge]\nmetrics_every = 0", "must be longer than 0"),
        ("[forge]\ndashboard_every = 0", "must be longer than 0"),
    ] {
        let text = refusal(of_text(toml));
        assert!(text.contains(expected), "{toml}\ngives: {text}\nnot: {expected}");
    }
}

#[test]
fn several_broken_rules_are_reported_together() {
    let text = refusal(of_text("[limits]\nstall = 0\nhandshake = 0"));
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn no_error_repeats_a_secret() {
    let secret = "pass-word-that-nobody-may-read";
    for toml in [
        format!("[auth]\nhs256_secret = '{secret}"),
        format!("[auth]\nhs256_secret = '{secret}'\n"),
        format!("auth = '{secret}'"),
        format!("[auth]\nhs256_secret = ['{secret}']"),
        format!("[broker]\nurl = 'redis://:{secret}@host:nonsense'"),
        format!("[broker]\nurl = 'http://:{secret}@host'"),
        format!("[broker]\nurl = 'redis://:{secret}@a/3,redis://b'"),
        format!("[broker]\nurl = 'redis+sentinel://:{secret}@a,b'"),
        format!("[otel]\nendpoint = 'http://u:{secret}@x'"),
    ] {
        let text = refusal(of_text(&toml));
        assert!(!text.contains(secret), "{text}");
    }
    let text = refusal(of_text("[auth]\nhs256_secret = 12345678901"));
    assert!(!text.contains("12345678901"), "{text}");
    assert!(text.contains("expected a text in quotes"), "{text}");
    assert!(refusal(of_text("\n[broker\n")).starts_with("crewcast.toml, line 2: "));
}

#[test]
fn serving_needs_a_key_or_anonymous_claims() {
    let text = Config::default().check_serve().expect_err("nobody could connect").to_string();
    assert!(text.contains("CREWCAST_AUTH__HS256_SECRET") && text.contains("auth.anonymous"), "{text}");
    for toml in [
        format!("[auth]\nhs256_secret = '{KEY}'"),
        "[auth]\njwks_url = 'https://x/keys'".to_owned(),
        "[auth.anonymous]\norg = 'acme'".to_owned(),
    ] {
        of_text(&toml).expect("loads").config.check_serve().expect(&toml);
    }
}

#[test]
fn the_shown_configuration_names_sources_masks_secrets_and_loads_again() {
    let toml = format!(
        "[auth]\nhs256_secret = '{KEY}'\nanonymous = {{ org = 'a\"b' }}\n[broker]\nurl = 'redis://u:{KEY}@h:1/2'\n[namespaces.run]\nlog = {{ length = 5 }}"
    );
    let loaded = of_text(&toml).expect("loads");
    let shown = show(&loaded);
    assert!(!shown.contains(KEY), "{shown}");
    for line in [
        "listen = \"0.0.0.0:8000\"  # default",
        "hs256_secret = \"***\"  # file crewcast.toml",
        "url = \"redis://u:***@h:1/2\"  # file crewcast.toml",
        "log.length = 5  # file crewcast.toml",
        "log.age = \"1d\"  # default",
        "# issuer is not set",
        "[namespaces.mission]",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
    }
    let again = of_text(&shown.replace("***", KEY)).expect("what is shown is a configuration");
    assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config));
    let default = of_text(&show(&Loaded::default())).expect("a configuration");
    assert_eq!(format!("{:?}", default.config), format!("{:?}", Config::default()));
}

#[test]
fn debug_shows_no_secret() {
    let loaded =
        of_text(&format!("[auth]\nhs256_secret = '{KEY}'\n[broker]\nurl = 'redis://:{KEY}@h'")).expect("loads");
    assert!(!format!("{loaded:?}").contains(KEY));
    assert!(!format!("{:#?}", loaded.config).contains(KEY));
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[test]
fn the_example_files_load() {
    let development = load(Some(&in_repository("config/development.toml")), [], &[]).expect("loads").config;
    development.check_serve().expect("serves");
    assert!(development.auth.development && development.listen.0.ip().is_loopback());

    // Its secret stands in a file that does not exist here; a later layer replaces it.
    let key = ("auth.hs256_secret".to_owned(), KEY.to_owned());
    let production = load(Some(&in_repository("config/production.toml")), [], &[key]).expect("loads").config;
    production.check_serve().expect("serves");
    assert!(!production.auth.development && !production.auth.query_token && production.auth.anonymous.is_none());
}

#[test]
fn each_profile_loads_and_stands_below_what_the_operator_sets() {
    for profile in Profile::ALL {
        let text = std::fs::read_to_string(in_repository(&format!("config/profiles/{profile}.toml"))).expect("a file");
        let chosen = of_text(&format!("profile = '{profile}'")).expect("loads");
        let copied = of_text(&text).expect("a copy of the file loads");
        let config = Config { profile: None, ..chosen.config.clone() };
        assert_eq!(format!("{config:?}"), format!("{:?}", copied.config), "the built-in profile is the file");
        assert_eq!(chosen.sources.of("listen"), &Source::Profile(profile));
        assert_eq!(chosen.config.auth.default_org.as_deref(), Some("default"));
        // Tokens are asked for, or sockets without one see the same org.
        let anonymous = chosen.config.auth.anonymous.as_ref();
        assert!(anonymous.is_none_or(|claims| claims["org"] == "default"));
        assert_eq!(chosen.config.check_serve().is_ok(), anonymous.is_some());

        let moved = of_text(&format!("profile = '{profile}'\nlisten = '127.0.0.1:1'")).expect("loads");
        assert_eq!(moved.config.listen.0.port(), 1);
    }
}

#[test]
fn the_last_source_chooses_the_profile_and_an_unknown_one_is_refused() {
    let variables = env(&[("CREWCAST_PROFILE", " hub ")]);
    assert_eq!(load(None, variables.clone(), &[]).expect("loads").config.listen.0.port(), 3001);
    let flag = [("profile".to_owned(), "forge".to_owned())];
    let loaded = load(None, variables, &flag).expect("loads");
    assert_eq!((loaded.config.profile, loaded.config.listen.0.port()), (Some(Profile::Forge), 8000));
    let problem = refusal(of_variables(&[("CREWCAST_PROFILE", "fourge")]));
    assert!(problem.contains("crew, hive, hub, agentcraft or forge"), "{problem}");
}

/// Every key with its default, as the documentation writes it.
fn defaults() -> BTreeMap<String, String> {
    let mut config = Config::default();
    config.namespaces.0 = [("<n>".to_owned(), Namespace::default())].into();
    super::keys::leaves(&super::keys::dict(&config), "").into_iter().map(|(key, value)| (key, written(value))).collect()
}

fn written(value: &Value) -> String {
    match value {
        Value::Empty(..) => "unset".to_owned(),
        Value::Array(_, list) if list.is_empty() => "none".to_owned(),
        Value::String(_, text) if text.is_empty() => "empty".to_owned(),
        Value::String(_, text) => format!("`{text}`"),
        value => format!("`{}`", toml::Value::try_from(value).expect("a value")),
    }
}

#[test]
fn the_documentation_lists_every_key_with_its_default_and_nothing_else() {
    let document = std::fs::read_to_string(in_repository("docs/configuration.md")).expect("the document");
    let mut documented = BTreeMap::new();
    for row in document.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert!(cells.len() == 3 && !cells[2].is_empty(), "key, default, meaning: {row}");
        let twice = documented.insert(cells[0].trim_matches('`').to_owned(), cells[1].to_owned());
        assert_eq!(twice, None, "twice: {row}");
    }
    assert_eq!(documented, defaults());
    for variable in COMMAND_LINE_VARIABLES {
        assert!(document.contains(variable), "{variable}");
    }
}
