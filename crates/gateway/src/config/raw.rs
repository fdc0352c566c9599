//! The configuration as it is written: every key, with its default or unset. Unknown keys are refused.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use crewcast_events::{LogPolicy, Namespace};
use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Map;

use super::{
    Algorithm, BrokerKind, Config, LogFormat, Secret, Sharded,
    form::{Given, List, OwnerOrNone, Size},
};

/// All keys. Secrets serialise masked, the URL of the broker too.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    pub listen: Given<SocketAddr>,
    pub trusted_proxies: List<IpNet>,
    pub admin: RawAdmin,
    pub broker: RawBroker,
    pub cors: RawCors,
    pub namespaces: BTreeMap<String, RawNamespace>,
    pub limits: RawLimits,
    pub compression: RawCompression,
    pub auth: RawAuth,
    pub mission: RawMission,
    pub tracking: RawTracking,
    pub forge: RawForge,
    pub ready: RawReady,
    pub drain: RawDrain,
    pub otel: RawOtel,
    pub log: RawLog,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAdmin {
    pub listen: Given<SocketAddr>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBroker {
    pub kind: Given<BrokerKind>,
    pub url: Option<Given<Secret>>,
    pub url_file: Option<Given<PathBuf>>,
    pub key_prefix: Given<String>,
    pub channel_prefix: Given<String>,
    pub sharded: Given<Sharded>,
    pub tls_ca_file: Option<Given<PathBuf>>,
    pub tls_cert_file: Option<Given<PathBuf>>,
    pub tls_key_file: Option<Given<PathBuf>>,
    pub patience: Given<Duration>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCors {
    pub allowed_origins: List<String>,
}

/// What is unset is taken from [`Namespace::default`]; the built-in namespaces are complete.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawNamespace {
    pub log: RawLogPolicy,
    pub retain: Option<Given<bool>>,
    pub capture_live: Option<Given<bool>>,
    pub terminal: Option<List<String>>,
    pub owner: Option<Given<OwnerOrNone>>,
    pub lost_after: Option<Given<Duration>>,
    pub skip_progress: Option<Given<bool>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLogPolicy {
    pub length: Option<Given<u32>>,
    pub age: Option<Given<Duration>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    pub connections: Option<Given<usize>>,
    pub per_user: Given<usize>,
    pub per_address: Given<usize>,
    pub handshake: Given<Duration>,
    pub message: Given<Size>,
    pub subscriptions: Given<usize>,
    pub messages_per_minute: Given<u32>,
    pub stall: Given<Duration>,
    pub ring_events: Given<usize>,
    pub ring_bytes: Given<Size>,
    pub total_ring_bytes: Given<Size>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCompression {
    pub enabled: Given<bool>,
    pub threshold: Given<Size>,
    pub level: Given<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAuth {
    pub hs256_secret: Option<Given<Secret>>,
    pub hs256_secret_file: Option<Given<PathBuf>>,
    pub public_key: Option<Given<String>>,
    pub public_key_file: Option<Given<PathBuf>>,
    pub jwks_url: Option<Given<String>>,
    pub algorithms: List<Algorithm>,
    pub issuer: Option<Given<String>>,
    pub audience: List<String>,
    pub leeway: Given<Duration>,
    pub allow_no_expiry: Given<bool>,
    pub anonymous: Option<Claims>,
    pub default_org: Option<Given<String>>,
    pub public_runs: Given<bool>,
    pub query_token: Given<bool>,
    pub allowed_origins: List<String>,
    pub development: Given<bool>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMission {
    pub offline_after: Option<Given<Duration>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTracking {
    pub session_ttl: Given<Duration>,
    pub strict_client_id: Given<bool>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawForge {
    pub metrics_every: Given<Duration>,
    pub dashboard_every: Given<Duration>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReady {
    pub window: Given<Duration>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDrain {
    pub grace: Given<Duration>,
    pub spread: Given<Duration>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOtel {
    pub endpoint: Option<Given<String>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLog {
    pub format: Option<Given<LogFormat>>,
    pub level: Given<String>,
    pub file: Option<Given<PathBuf>>,
}

/// A table of claims, or the same as a JSON text.
#[derive(Clone, Debug, Serialize)]
pub struct Claims(pub Map<String, serde_json::Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ClaimsVisitor;

        impl<'de> Visitor<'de> for ClaimsVisitor {
            type Value = Claims;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a table of claims, or a JSON object in a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Claims, E> {
                serde_json::from_str(text)
                    .map(Claims)
                    .map_err(|error| E::custom(format_args!("no JSON object: {error}")))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Claims, A::Error> {
                Map::deserialize(MapAccessDeserializer::new(map)).map(Claims)
            }
        }

        deserializer.deserialize_any(ClaimsVisitor)
    }
}

impl RawNamespace {
    /// Fills what is unset.
    pub fn complete(self) -> Self {
        let defaults = RawNamespace::from(&Namespace::default());
        Self {
            log: RawLogPolicy {
                length: self.log.length.or(defaults.log.length),
                age: self.log.age.or(defaults.log.age),
            },
            retain: self.retain.or(defaults.retain),
            capture_live: self.capture_live.or(defaults.capture_live),
            terminal: self.terminal.or(defaults.terminal),
            owner: self.owner.or(defaults.owner),
            lost_after: self.lost_after.or(defaults.lost_after),
            skip_progress: self.skip_progress.or(defaults.skip_progress),
        }
    }
}

impl From<&Namespace> for RawNamespace {
    fn from(namespace: &Namespace) -> Self {
        let LogPolicy { length, age } = namespace.log;
        Self {
            log: RawLogPolicy { length: Some(Given(length)), age: Some(Given(age)) },
            retain: Some(Given(namespace.retain)),
            capture_live: Some(Given(namespace.capture_live)),
            terminal: Some(List(namespace.terminal.clone())),
            owner: Some(Given(OwnerOrNone(namespace.owner))),
            lost_after: Some(Given(namespace.lost_after)),
            skip_progress: Some(Given(namespace.skip_progress)),
        }
    }
}

/// The layer below all others. The broker's URL stays unset here, so that what is set beside it (`url_file`)
/// counts; [`super::resolve`] gives it its default.
impl Default for Raw {
    fn default() -> Self {
        let Config {
            listen,
            admin,
            broker,
            namespaces,
            mission,
            tracking,
            forge,
            ready,
            drain,
            otel,
            log,
            limits,
            compression,
            auth,
            ..
        } = Config::default();
        Self {
            listen: Given(listen.0),
            trusted_proxies: List(Vec::new()),
            admin: RawAdmin { listen: Given(admin.listen) },
            broker: RawBroker {
                kind: Given(broker.kind),
                url: None,
                url_file: None,
                key_prefix: Given(broker.key_prefix),
                channel_prefix: Given(broker.channel_prefix),
                sharded: Given(broker.sharded),
                tls_ca_file: None,
                tls_cert_file: None,
                tls_key_file: None,
                patience: Given(broker.patience),
            },
            cors: RawCors { allowed_origins: List(Vec::new()) },
            namespaces: namespaces.0.iter().map(|(name, rules)| (name.clone(), rules.into())).collect(),
            limits: limits.into(),
            compression: RawCompression {
                enabled: Given(compression.enabled),
                threshold: Given(Size(compression.threshold)),
                level: Given(compression.level),
            },
            auth: auth.into(),
            mission: RawMission { offline_after: mission.offline_after.map(Given) },
            tracking: RawTracking {
                session_ttl: Given(tracking.session_ttl),
                strict_client_id: Given(tracking.strict_client_id),
            },
            forge: RawForge {
                metrics_every: Given(forge.metrics_every),
                dashboard_every: Given(forge.dashboard_every),
            },
            ready: RawReady { window: Given(ready.window) },
            drain: RawDrain { grace: Given(drain.grace), spread: Given(drain.spread) },
            otel: RawOtel { endpoint: otel.endpoint.map(Given) },
            log: RawLog { format: log.format.map(Given), level: Given(log.level), file: log.file.map(Given) },
        }
    }
}

impl From<super::Limits> for RawLimits {
    fn from(limits: super::Limits) -> Self {
        Self {
            connections: limits.connections.map(Given),
            per_user: Given(limits.per_user),
            per_address: Given(limits.per_address),
            handshake: Given(limits.handshake),
            message: Given(Size(limits.message)),
            subscriptions: Given(limits.subscriptions),
            messages_per_minute: Given(limits.messages_per_minute),
            stall: Given(limits.stall),
            ring_events: Given(limits.ring_events),
            ring_bytes: Given(Size(limits.ring_bytes)),
            total_ring_bytes: Given(Size(limits.total_ring_bytes)),
        }
    }
}

impl From<super::AuthConfig> for RawAuth {
    fn from(auth: super::AuthConfig) -> Self {
        Self {
            hs256_secret: auth.hs256_secret.map(Given),
            hs256_secret_file: None,
            public_key: auth.public_key.map(Given),
            public_key_file: None,
            jwks_url: auth.jwks_url.map(Given),
            algorithms: List(auth.algorithms),
            issuer: auth.issuer.map(Given),
            audience: List(auth.audience),
            leeway: Given(auth.leeway),
            allow_no_expiry: Given(auth.allow_no_expiry),
            anonymous: auth.anonymous.map(Claims),
            default_org: auth.default_org.map(Given),
            public_runs: Given(auth.public_runs),
            query_token: Given(auth.query_token),
            allowed_origins: List(auth.allowed_origins),
            development: Given(auth.development),
        }
    }
}
