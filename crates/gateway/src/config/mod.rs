//! The configuration: one struct per table. [`load()`] merges file, environment and flags; [`show()`] prints it.

mod auth;
mod broker;
mod files;
mod form;
mod keys;
mod layers;
mod limits;
mod load;
mod namespaces;
mod origins;
mod profile;
mod replica;
mod rules;
mod secret;
mod show;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use axum::http::HeaderName;
use crewcast_events::Namespaces;
pub use crewcast_store::{Sharded, Tls};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use self::form::tables;
pub(crate) use self::origins::is_same_host;
pub use self::{
    auth::{Algorithm, AuthConfig, DirectoryConfig, MIN_SECRET},
    broker::{BrokerConfig, BrokerKind},
    form::{Size, parse_duration},
    layers::COMMAND_LINE_VARIABLES,
    limits::{Compression, Limits},
    load::{ConfigError, Loaded, Source, Sources, load},
    origins::{AllowedOrigin, OriginList},
    profile::Profile,
    replica::{Drain, Forge, Log, LogFormat, Mission, Otel, Ready, Stream, SubscribeMode, Tracking},
    secret::Secret,
    show::{show, show_json},
};

/// All tables, under the names that the file uses. [`Default`] is safe in production.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Config {
    /// The system whose settings stand below all others that are set.
    #[serde(with = "form")]
    pub profile: Option<Profile>,
    pub listen: Listen,
    /// Networks whose `X-Forwarded-For` and PROXY protocol headers are believed.
    #[serde(with = "form")]
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may open sockets and use HTTP, in addition to the gateway's own.
    #[serde(with = "form")]
    pub allowed_origins: Vec<AllowedOrigin>,
    pub admin: Admin,
    pub broker: BrokerConfig,
    pub cors: Cors,
    #[serde(with = "namespaces")]
    pub namespaces: Namespaces,
    pub limits: Limits,
    pub compression: Compression,
    pub auth: AuthConfig,
    pub directory: DirectoryConfig,
    pub mission: Mission,
    pub stream: Stream,
    pub tracking: Tracking,
    pub forge: Forge,
    pub ready: Ready,
    pub drain: Drain,
    pub otel: Otel,
    pub log: Log,
}

/// Address of sockets, event streams, HTTP publish and the console.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listen(#[serde(with = "form")] pub SocketAddr);

impl Default for Listen {
    fn default() -> Self {
        Self(SocketAddr::from(([0, 0, 0, 0], 8000)))
    }
}

tables! {
    /// The operator's listener: `/livez`, `/readyz`, `/metrics`.
    Admin {
        /// Not for the public.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9090)),
    }

    /// Pages of other origins that may use HTTP and event streams.
    Cors {
        /// Replaces [`Config::allowed_origins`] for HTTP and event streams.
        allowed_origins: Option<Vec<AllowedOrigin>> = None,
        /// Request headers that pages may send, in addition to those that Crewcast and tracing libraries use.
        allowed_headers: Vec<HeaderName> = Vec::new(),
    }
}
