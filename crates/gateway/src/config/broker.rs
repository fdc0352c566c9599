//! `broker.*`: where events come from.

use std::{path::PathBuf, time::Duration};

use crewcast_store::{RedisClient, RedisSetupError, Sharded, Tls};
use serde::{Deserialize, Serialize};

use super::{Secret, form::tables, rules::Rules};

/// Which broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum BrokerKind {
    Redis,
    Memory,
}

tables! {
    /// Where events come from.
    BrokerConfig {
        /// `redis` or `memory`.
        kind: BrokerKind = BrokerKind::Redis,
        /// What [`crewcast_store::RedisClient::new`] takes, possibly with a password.
        url: Secret = Secret::new("redis://127.0.0.1:6379"),
        /// A file that holds `url`.
        url_file: Option<PathBuf> = None,
        /// Prefix of keys.
        key_prefix: String = "crewcast".to_owned(),
        /// Prefix of channel names in Redis.
        channel_prefix: String = String::new(),
        /// Whether a Cluster's sharded pub/sub is used.
        sharded: Sharded = Sharded::Auto,
        /// PEM of the authority that signed the servers' certificates; `None`: Mozilla's authorities.
        tls_ca_file: Option<PathBuf> = None,
        /// PEM of this client's certificate.
        tls_cert_file: Option<PathBuf> = None,
        /// PEM of its key.
        tls_key_file: Option<PathBuf> = None,
        /// Not a key: the contents of the three files.
        #[serde(skip)]
        tls: Tls = Tls::default(),
        /// How long sockets wait for a broker that is away.
        patience: Duration = Duration::from_secs(60),
    }
}

impl BrokerConfig {
    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        if self.kind == BrokerKind::Redis
            && let Err(error) = RedisClient::new(self.url.expose(), &self.tls, 1, "crewcast-check")
        {
            let url_key = if self.url_file.is_some() { "broker.url_file" } else { "broker.url" };
            let key = if error == RedisSetupError::Tls { "broker.tls_ca_file" } else { url_key };
            // The error never repeats the URL: it may hold a password.
            rules.hold(key, false, error.to_string());
        }
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
        let key_prefix = !self.key_prefix.is_empty() && plain(&self.key_prefix);
        rules.hold("broker.key_prefix", key_prefix, "must be one or more of A-Z a-z 0-9 . _ : -");
        rules.hold("broker.channel_prefix", plain(&self.channel_prefix), "may consist of A-Z a-z 0-9 . _ : - only");
        rules.positive("broker.patience", self.patience);
    }
}
