//! The rules that values keep. Each message says what to write instead.

use std::time::Duration;

use crewcast_events::Channel;
use crewcast_store::{RedisClient, RedisSetupError};
use jsonwebtoken::AlgorithmFamily;
use url::Url;

use super::{
    BrokerKind, Config,
    error::{ConfigError, Problem, Source},
    load::Sources,
};

/// RFC 7518, section 3.2: a key of HS256 is at least as long as the hash.
const MIN_SECRET: usize = 32;

/// Every rule that the configuration breaks.
pub(super) fn check(config: &Config, sources: &Sources) -> Vec<Problem> {
    let mut rules = Rules { sources, broken: Vec::new() };
    listeners(config, &mut rules);
    broker(config, &mut rules);
    namespaces(config, &mut rules);
    limits(config, &mut rules);
    keys(config, &mut rules);
    origins(config, &mut rules);
    going_away(config, &mut rules);
    telemetry(config, &mut rules);
    rules.broken
}

impl Config {
    /// Whether this is enough to serve: without a key to check tokens with, or anonymous claims, nobody could
    /// connect.
    ///
    /// # Errors
    /// Says what to set.
    pub fn check_serve(&self) -> Result<(), ConfigError> {
        let auth = &self.auth;
        let has_key = auth.hs256_secret.is_some() || auth.public_key.is_some() || auth.jwks_url.is_some();
        if has_key || auth.anonymous.is_some() {
            return Ok(());
        }
        let text = "no key to check tokens with: set auth.hs256_secret (CREWCAST_AUTH__HS256_SECRET, at least 32 bytes, for \
                    example from `openssl rand -base64 48`), auth.public_key_file or auth.jwks_url; or say in \
                    auth.anonymous what sockets without a token may read";
        Err(ConfigError::Problems(vec![Problem {
            key: "auth".to_owned(),
            source: Source::Default,
            text: text.to_owned(),
        }]))
    }
}

struct Rules<'a> {
    sources: &'a Sources,
    broken: Vec<Problem>,
}

impl Rules<'_> {
    fn hold(&mut self, key: &str, holds: bool, text: impl Into<String>) {
        if !holds {
            self.broken.push(self.sources.problem(key, text));
        }
    }

    fn positive(&mut self, key: &str, duration: Duration) {
        self.hold(key, !duration.is_zero(), "must be longer than 0, for example 10s");
    }

    fn at_least_one(&mut self, key: &str, number: usize) {
        self.hold(key, number > 0, "must be at least 1");
    }

    /// A URL that ends up in logs and so may not carry a password.
    fn web_url(&mut self, key: &str, text: Option<&str>) {
        let Some(text) = text else { return };
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        self.hold(key, url.is_some(), "must be a URL that begins with https:// or http://");
        let open = url.is_none_or(|url| url.username().is_empty() && url.password().is_none());
        self.hold(key, open, "must not contain a user name or password: this URL appears in logs");
    }
}

fn listeners(config: &Config, rules: &mut Rules<'_>) {
    let same = config.listen.0 == config.admin.listen && config.listen.0.port() != 0;
    rules.hold("admin.listen", !same, "must differ from listen: the operator's endpoints are not for the public");
}

fn broker(config: &Config, rules: &mut Rules<'_>) {
    let broker = &config.broker;
    if broker.kind == BrokerKind::Redis {
        let key =
            if *rules.sources.of("broker.url_file") == Source::Default { "broker.url" } else { "broker.url_file" };
        // The text never repeats the URL: it may hold a password.
        if let Err(error) = RedisClient::new(broker.url.expose(), &broker.tls, 1, "crewcast-check") {
            let key = if error == RedisSetupError::Tls { "broker.tls_ca_file" } else { key };
            rules.hold(key, false, error.to_string());
        }
    }
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'));
    let key_prefix = !broker.key_prefix.is_empty() && plain(&broker.key_prefix);
    rules.hold("broker.key_prefix", key_prefix, "must be one or more of A-Z a-z 0-9 . _ : -");
    rules.hold("broker.channel_prefix", plain(&broker.channel_prefix), "may consist of A-Z a-z 0-9 . _ : - only");
    rules.positive("broker.patience", broker.patience);
}

fn namespaces(config: &Config, rules: &mut Rules<'_>) {
    for (name, namespace) in &config.namespaces.0 {
        let key = format!("namespaces.{name}");
        let lawful = Channel::new(name, "id").is_ok();
        rules.hold(
            &key,
            lawful,
            "a namespace's name starts with a lower-case letter and has at most 32 of a-z 0-9 _ -",
        );
        rules.positive(&format!("{key}.log.age"), namespace.log.age);
        let captured = !namespace.capture_live || namespace.retain;
        rules.hold(
            &format!("{key}.capture_live"),
            captured,
            format!("needs {key}.retain = true: it stores the retained value"),
        );
        let terminal = namespace.terminal.iter().all(|kind| !kind.is_empty());
        rules.hold(&format!("{key}.terminal"), terminal, "an event type is not empty");
    }
}

fn limits(config: &Config, rules: &mut Rules<'_>) {
    let limits = &config.limits;
    let connections = limits.connections != Some(0);
    rules.hold(
        "limits.connections",
        connections,
        "0 would refuse everybody; leave it unset to follow the open-file limit",
    );
    rules.positive("limits.handshake", limits.handshake);
    rules.positive("limits.stall", limits.stall);
    rules.at_least_one("limits.message", limits.message);
    rules.at_least_one("limits.subscriptions", limits.subscriptions);
    rules.at_least_one("limits.messages_per_minute", limits.messages_per_minute as usize);
    rules.at_least_one("limits.ring_events", limits.ring_events);
    let ring = limits.ring_bytes >= limits.message;
    rules.hold("limits.ring_bytes", ring, "must be at least limits.message, or one event would not fit into a ring");
    let total = limits.total_ring_bytes >= limits.ring_bytes;
    rules.hold("limits.total_ring_bytes", total, "must be at least limits.ring_bytes");
    let level = (1..=9).contains(&config.compression.level);
    rules.hold(
        "compression.level",
        level,
        "must be 1 (fast) to 9 (small); compression.enabled = false switches it off",
    );
}

fn keys(config: &Config, rules: &mut Rules<'_>) {
    let auth = &config.auth;
    if let Some(secret) = &auth.hs256_secret {
        let length = secret.expose().len();
        let text = format!("has {length} bytes and needs {MIN_SECRET}: make one with `openssl rand -base64 48`");
        rules.hold("auth.hs256_secret", length >= MIN_SECRET, text);
    }
    if let Some(pem) = &auth.public_key {
        let private = pem.contains("PRIVATE KEY");
        rules.hold("auth.public_key", !private, "is a private key; the gateway only needs the public one");
        let public = pem.contains("-----BEGIN ") && pem.contains("PUBLIC KEY-----");
        rules.hold("auth.public_key", public || private, "must be PEM, beginning with -----BEGIN PUBLIC KEY-----");
    }
    rules.web_url("auth.jwks_url", auth.jwks_url.as_deref());

    let given = [auth.hs256_secret.is_some(), auth.public_key.is_some(), auth.jwks_url.is_some()];
    let several = given.iter().filter(|is_given| **is_given).count() > 1;
    rules.hold("auth", !several, "set only one of auth.hs256_secret, auth.public_key and auth.jwks_url");
    let fits = |family| match family {
        AlgorithmFamily::Hmac => auth.hs256_secret.is_some(),
        _ => auth.public_key.is_some() || auth.jwks_url.is_some(),
    };
    let misfit = auth.algorithms.iter().find(|algorithm| !fits(algorithm.family()));
    if let (Some(misfit), false) = (misfit, several) {
        let text = format!(
            "{misfit:?} does not fit the key: HS256, HS384 and HS512 go with auth.hs256_secret, all others with \
             auth.public_key or auth.jwks_url"
        );
        rules.hold("auth.algorithms", false, text);
    }
}

fn origins(config: &Config, rules: &mut Rules<'_>) {
    let lists = [
        ("cors.allowed_origins", &config.cors_allowed_origins),
        ("auth.allowed_origins", &config.auth.allowed_origins),
    ];
    for (key, origins) in lists {
        for origin in origins.iter().filter(|origin| !is_origin(origin)) {
            rules.hold(
                key,
                false,
                format!("{origin:?} is no origin; write https://host or https://host:port, without a path"),
            );
        }
    }
}

/// RFC 6454: scheme, host and port as a browser sends them in `Origin`. Browsers leave out default ports and
/// write everything in lower case.
fn is_origin(text: &str) -> bool {
    text == "*" || Url::parse(text).is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == text)
}

fn going_away(config: &Config, rules: &mut Rules<'_>) {
    rules.positive("ready.window", config.ready.window);
    rules.positive("drain.grace", config.drain.grace);
    let in_time = config.drain.spread < config.drain.grace;
    rules.hold("drain.spread", in_time, "must be shorter than drain.grace: the last sockets need time to close");
    rules.positive("tracking.session_ttl", config.tracking.session_ttl);
    rules.positive("forge.metrics_every", config.forge.metrics_every);
    rules.positive("forge.dashboard_every", config.forge.dashboard_every);
    if let Some(after) = config.mission.offline_after {
        rules.positive("mission.offline_after", after);
    }
}

fn telemetry(config: &Config, rules: &mut Rules<'_>) {
    rules.web_url("otel.endpoint", config.otel.endpoint.as_deref());
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.level);
    rules.hold("log.level", filter.is_ok(), "must be a level or a filter such as info or info,crewcast_gateway=debug");
}
