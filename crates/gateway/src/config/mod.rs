//! The configuration as the gateway uses it: resolved and validated. [`load()`] makes it from file,
//! environment and flags; [`show()`] prints it.

mod check;
mod error;
mod form;
mod keys;
mod layers;
mod load;
mod raw;
mod resolve;
mod show;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, Problem, Source};
pub use layers::COMMAND_LINE_VARIABLES;
pub use load::{Loaded, Sources, load};
pub use show::{show, show_default};

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crewcast_events::Namespaces;
pub use crewcast_store::{Sharded, Tls};
use ipnet::IpNet;

use crate::transport::deflate;

/// Everything that can be set. [`Default`] is safe in production.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Sockets, SSE, HTTP publish, console.
    pub listen: Listen,
    /// `/livez`, `/readyz`, `/metrics`.
    pub admin: Admin,
    /// Where events come from.
    pub broker: BrokerConfig,
    /// Whose `X-Forwarded-For` and PROXY protocol headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins that HTTP and SSE answer with CORS headers, beside their own.
    pub cors_allowed_origins: Vec<String>,
    /// The namespaces, the built-in ones included.
    pub namespaces: Namespaces,
    /// Bounds.
    pub limits: Limits,
    /// Compression on sockets.
    pub compression: Compression,
    /// Who may connect.
    pub auth: AuthConfig,
    /// The `mission` endpoint.
    pub mission: Mission,
    /// The `agent-tracking` endpoint.
    pub tracking: Tracking,
    /// The `agents`, `tasks`, `knowledge`, `metrics` and `dashboard` endpoints.
    pub forge: Forge,
    /// When `/readyz` turns.
    pub ready: Ready,
    /// How this replica goes away.
    pub drain: Drain,
    /// Traces.
    pub otel: Otel,
    /// Log lines.
    pub log: Log,
}

/// The public listener.
#[derive(Clone, Debug)]
pub struct Listen(pub SocketAddr);

impl Default for Listen {
    fn default() -> Self {
        Self(SocketAddr::from(([0, 0, 0, 0], 8000)))
    }
}

/// The operator's listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Not meant for the public.
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9090)) }
    }
}

/// Which broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum BrokerKind {
    Redis,
    Memory,
}

/// The broker's settings.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `redis` or `memory`.
    pub kind: BrokerKind,
    /// What [`crewcast_store::Redis::new`] takes, possibly with a password.
    pub url: Secret,
    /// Certificates for `rediss://`.
    pub tls: Tls,
    /// Whether a Cluster's sharded pub/sub is used.
    pub sharded: Sharded,
    /// Prefix of keys.
    pub key_prefix: String,
    /// Prefix of channel names in Redis, empty by default.
    pub channel_prefix: String,
    /// How long sockets wait for a broker that is away.
    pub patience: Duration,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            kind: BrokerKind::Redis,
            url: Secret::new("redis://127.0.0.1:6379"),
            tls: Tls::default(),
            sharded: Sharded::default(),
            key_prefix: "crewcast".to_owned(),
            channel_prefix: String::new(),
            patience: Duration::from_secs(60),
        }
    }
}

/// Bounds. Each binds, and its overflow has a test.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sockets and SSE streams of this replica; `None`: from the open-file limit.
    pub connections: Option<usize>,
    /// Of one `sub`; 0: no bound.
    pub per_user: usize,
    /// Of one client address; 0: no bound.
    pub per_address: usize,
    /// From accept to the end of the request's head.
    pub handshake: Duration,
    /// Bytes of one client message, and of one published event.
    pub message: usize,
    /// Channels of one socket that a client asked for by name.
    pub subscriptions: usize,
    /// Client messages of one socket.
    pub messages_per_minute: u32,
    /// How long a reader may make no progress.
    pub stall: Duration,
    /// Events that one channel's ring holds at most.
    pub ring_events: usize,
    /// Bytes that one channel's ring holds at most.
    pub ring_bytes: usize,
    /// Bytes that all rings of this process hold at most.
    pub total_ring_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            per_user: 1000,
            per_address: 0,
            handshake: Duration::from_secs(10),
            message: 1 << 20,
            subscriptions: 256,
            messages_per_minute: 600,
            stall: Duration::from_secs(60),
            ring_events: 1024,
            ring_bytes: 4 << 20,
            total_ring_bytes: 512 << 20,
        }
    }
}

/// Compression on sockets whose clients offer it (permessage-deflate).
#[derive(Clone, Debug)]
pub struct Compression {
    /// Whether an offer is accepted.
    pub enabled: bool,
    /// Bytes below which an event is sent as it is.
    pub threshold: usize,
    /// 1 (fast) to 9 (small).
    pub level: u32,
}

impl Compression {
    /// How events are compressed, if at all.
    pub fn wanted(&self) -> Option<deflate::Compression> {
        let &Self { enabled, threshold, level } = self;
        enabled.then_some(deflate::Compression { threshold, level })
    }
}

/// Measured on the catalog's events: under 128 bytes a tenth is saved at most. Level 1 saves a fifth of events of 200 bytes,
/// every level from 2 on three tenths, in 6 us; level 5 is within two per cent of 9 in a third of its time where they are large.
impl Default for Compression {
    fn default() -> Self {
        Self { enabled: true, threshold: 128, level: 5 }
    }
}

/// A signature algorithm by its JWA name.
pub type Algorithm = jsonwebtoken::Algorithm;

/// Who may connect.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// At least 32 bytes.
    pub hs256_secret: Option<Secret>,
    /// PEM of an RSA, EC or Ed25519 public key.
    pub public_key: Option<String>,
    /// A JWKS document's URL.
    pub jwks_url: Option<String>,
    /// Pinned; when empty it follows from the one key: HS256, or what the public key's type says. With JWKS: RS256 and ES256.
    pub algorithms: Vec<Algorithm>,
    /// `iss` must be this.
    pub issuer: Option<String>,
    /// `aud` must contain one of these.
    pub audience: Vec<String>,
    /// Clock skew that is forgiven in `exp` and `nbf`.
    pub leeway: Duration,
    /// Whether `exp` may be missing.
    pub allow_no_expiry: bool,
    /// Claims of sockets that bring no token.
    pub anonymous: Option<serde_json::Map<String, serde_json::Value>>,
    /// The org of tokens without one.
    pub default_org: Option<String>,
    /// `/ws/runs/*` without a token.
    pub public_runs: bool,
    /// `?access_token=` is taken.
    pub query_token: bool,
    /// Origins that browsers may come from; empty: any with a token, same origin only without.
    pub allowed_origins: Vec<String>,
    /// Development: anonymous and token sockets alike only from the same origin or non-browsers.
    pub development: bool,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            hs256_secret: None,
            public_key: None,
            jwks_url: None,
            algorithms: Vec::new(),
            issuer: None,
            audience: Vec::new(),
            leeway: Duration::ZERO,
            allow_no_expiry: false,
            anonymous: None,
            default_org: None,
            public_runs: false,
            query_token: false,
            allowed_origins: Vec::new(),
            development: false,
        }
    }
}

/// The `mission` endpoint.
#[derive(Clone, Debug, Default)]
pub struct Mission {
    /// A crew whose producer has been silent for this long is told `offline`; `None`: never.
    pub offline_after: Option<Duration>,
}

/// The `agent-tracking` endpoint.
#[derive(Clone, Debug)]
pub struct Tracking {
    /// A session whose producer has been silent for this long leaves the list of active ones.
    pub session_ttl: Duration,
    /// Whether client ids must be `client_<digits>_<lower-case letters and digits>`.
    pub strict_client_id: bool,
}

impl Default for Tracking {
    fn default() -> Self {
        Self { session_ttl: Duration::from_secs(60), strict_client_id: false }
    }
}

/// What is sent at intervals on the endpoints of the dialect `forge`.
#[derive(Clone, Debug)]
pub struct Forge {
    /// Between two messages of `/ws/metrics`.
    pub metrics_every: Duration,
    /// Between two messages of `/ws/dashboard`.
    pub dashboard_every: Duration,
}

impl Default for Forge {
    fn default() -> Self {
        Self { metrics_every: Duration::from_secs(5), dashboard_every: Duration::from_secs(10) }
    }
}

/// When `/readyz` turns.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Probe every fifth of it; not ready after one window without a success, ready after two successes.
    pub window: Duration,
}

impl Default for Ready {
    fn default() -> Self {
        Self { window: Duration::from_secs(15) }
    }
}

/// How a replica goes away.
#[derive(Clone, Debug)]
pub struct Drain {
    /// The process is gone within this.
    pub grace: Duration,
    /// Sockets are closed at moments spread over this.
    pub spread: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace: Duration::from_secs(25), spread: Duration::from_secs(15) }
    }
}

/// Traces over OTLP.
#[derive(Clone, Debug, Default)]
pub struct Otel {
    /// `None`: off.
    pub endpoint: Option<String>,
}

/// The form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum LogFormat {
    Text,
    Json,
}

/// Log lines.
#[derive(Clone, Debug)]
pub struct Log {
    /// `None`: text on a terminal, JSON elsewhere.
    pub format: Option<LogFormat>,
    /// A `tracing` filter, for example `info,crewcast_gateway=debug`.
    pub level: String,
    /// Append here instead of standard error.
    pub file: Option<PathBuf>,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: None, level: "info".to_owned(), file: None }
    }
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: for use, never for output.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
