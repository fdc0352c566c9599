//! From what is written to what is used: secrets read from their files, lists unwrapped.

use std::path::{Path, PathBuf};

use crewcast_events::{LogPolicy, Namespace, Namespaces};

use super::{
    Admin, AuthConfig, BrokerConfig, Compression, Config, Drain, Forge, Limits, Listen, Log, Mission, Otel, Ready,
    Secret, Tls, Tracking,
    error::{ConfigError, Source},
    form::Given,
    load::Sources,
    raw::{Raw, RawAuth, RawBroker, RawLimits, RawNamespace},
};

pub(super) fn resolve(raw: &Raw, sources: &Sources) -> Result<Config, ConfigError> {
    let raw = raw.clone();
    Ok(Config {
        listen: Listen(raw.listen.0),
        admin: Admin { listen: raw.admin.listen.0 },
        broker: broker(raw.broker, sources)?,
        trusted_proxies: raw.trusted_proxies.0,
        cors_allowed_origins: raw.cors.allowed_origins.0,
        namespaces: Namespaces(raw.namespaces.into_iter().map(|(name, rules)| (name, namespace(rules))).collect()),
        limits: limits(&raw.limits),
        compression: Compression {
            enabled: raw.compression.enabled.0,
            threshold: raw.compression.threshold.0.0,
            level: raw.compression.level.0,
        },
        auth: auth(raw.auth, sources)?,
        mission: Mission { offline_after: given(raw.mission.offline_after) },
        tracking: Tracking {
            session_ttl: raw.tracking.session_ttl.0,
            strict_client_id: raw.tracking.strict_client_id.0,
        },
        forge: Forge { metrics_every: raw.forge.metrics_every.0, dashboard_every: raw.forge.dashboard_every.0 },
        ready: Ready { window: raw.ready.window.0 },
        drain: Drain { grace: raw.drain.grace.0, spread: raw.drain.spread.0 },
        otel: Otel { endpoint: given(raw.otel.endpoint) },
        log: Log { format: given(raw.log.format), level: raw.log.level.0, file: given(raw.log.file) },
    })
}

fn broker(raw: RawBroker, sources: &Sources) -> Result<BrokerConfig, ConfigError> {
    let url = one_of("broker.url", given(raw.url), given(raw.url_file), sources, Secret::new)?;
    let identity = match (given(raw.tls_cert_file), given(raw.tls_key_file)) {
        (Some(cert), Some(key)) => Some((pem(&cert, "broker.tls_cert_file")?, pem(&key, "broker.tls_key_file")?)),
        (None, None) => None,
        (one, _) => {
            let key = if one.is_some() { "broker.tls_cert_file" } else { "broker.tls_key_file" };
            let text = "broker.tls_cert_file and broker.tls_key_file belong together: set both or neither";
            return Err(ConfigError::Problems(vec![sources.problem(key, text)]));
        }
    };
    let ca = given(raw.tls_ca_file).map(|path| pem(&path, "broker.tls_ca_file")).transpose()?;
    Ok(BrokerConfig {
        kind: raw.kind.0,
        url: url.unwrap_or(BrokerConfig::default().url),
        tls: Tls { ca, identity },
        sharded: raw.sharded.0,
        key_prefix: raw.key_prefix.0,
        channel_prefix: raw.channel_prefix.0,
        patience: raw.patience.0,
    })
}

fn auth(raw: RawAuth, sources: &Sources) -> Result<AuthConfig, ConfigError> {
    let secret = (given(raw.hs256_secret), given(raw.hs256_secret_file));
    let public_key = (given(raw.public_key), given(raw.public_key_file));
    Ok(AuthConfig {
        hs256_secret: one_of("auth.hs256_secret", secret.0, secret.1, sources, Secret::new)?,
        public_key: one_of("auth.public_key", public_key.0, public_key.1, sources, |pem| pem)?,
        jwks_url: given(raw.jwks_url),
        algorithms: raw.algorithms.0,
        issuer: given(raw.issuer),
        audience: raw.audience.0,
        leeway: raw.leeway.0,
        allow_no_expiry: raw.allow_no_expiry.0,
        anonymous: raw.anonymous.map(|claims| claims.0),
        default_org: given(raw.default_org),
        public_runs: raw.public_runs.0,
        query_token: raw.query_token.0,
        allowed_origins: raw.allowed_origins.0,
        development: raw.development.0,
    })
}

fn limits(raw: &RawLimits) -> Limits {
    Limits {
        connections: raw.connections.as_ref().map(|connections| connections.0),
        per_user: raw.per_user.0,
        per_address: raw.per_address.0,
        handshake: raw.handshake.0,
        message: raw.message.0.0,
        subscriptions: raw.subscriptions.0,
        messages_per_minute: raw.messages_per_minute.0,
        stall: raw.stall.0,
        ring_events: raw.ring_events.0,
        ring_bytes: raw.ring_bytes.0.0,
        total_ring_bytes: raw.total_ring_bytes.0.0,
    }
}

fn namespace(raw: RawNamespace) -> Namespace {
    let defaults = Namespace::default();
    Namespace {
        log: LogPolicy {
            length: given(raw.log.length).unwrap_or(defaults.log.length),
            age: given(raw.log.age).unwrap_or(defaults.log.age),
        },
        retain: given(raw.retain).unwrap_or(defaults.retain),
        capture_live: given(raw.capture_live).unwrap_or(defaults.capture_live),
        terminal: raw.terminal.map_or(defaults.terminal, |terminal| terminal.0),
        owner: given(raw.owner).map_or(defaults.owner, |owner| owner.0),
        lost_after: given(raw.lost_after).unwrap_or(defaults.lost_after),
        skip_progress: given(raw.skip_progress).unwrap_or(defaults.skip_progress),
    }
}

fn given<T>(value: Option<Given<T>>) -> Option<T> {
    value.map(|given| given.0)
}

/// A value that is written either directly or in a file (`<key>_file`). When both are, the later layer wins;
/// in one layer they contradict each other.
fn one_of<T>(
    key: &str,
    direct: Option<T>,
    file: Option<PathBuf>,
    sources: &Sources,
    wrap: impl Fn(String) -> T,
) -> Result<Option<T>, ConfigError> {
    let file_key = format!("{key}_file");
    let Some(path) = file else { return Ok(direct) };
    if direct.is_some() {
        let (of_direct, of_file) = (rank(sources.of(key)), rank(sources.of(&file_key)));
        if of_direct == of_file {
            let text = format!("{key} is set in the same place; remove one of them");
            return Err(ConfigError::Problems(vec![sources.problem(&file_key, text)]));
        }
        if of_direct > of_file {
            return Ok(direct);
        }
    }
    let content = content(&path, &file_key)?;
    if content.is_empty() {
        let text = format!("{} is empty", path.display());
        return Err(ConfigError::Problems(vec![sources.problem(&file_key, text)]));
    }
    Ok(Some(wrap(content)))
}

/// The place of a source among the layers.
fn rank(source: &Source) -> u8 {
    match source {
        Source::Default => 0,
        Source::File(_) => 1,
        Source::Variable(_) => 2,
        Source::Flag => 3,
    }
}

fn pem(path: &Path, key: &str) -> Result<Vec<u8>, ConfigError> {
    content(path, key).map(String::into_bytes)
}

/// A file's text without the line end that editors and `echo` leave.
fn content(path: &Path, key: &str) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        named_by: key.to_owned(),
        error,
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
