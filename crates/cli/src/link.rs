//! The ways to where events are published: Redis, or a gateway over HTTP.

use crewcast_events::Keys;
use crewcast_gateway::{
    broker::redis::{RedisRegistry, connect},
    config::{BrokerKind, Config},
};
use crewcast_publisher::{HttpTransport, RedisClient, RedisTransport};

use crate::error::CliError;

/// The transport to the configured Redis. It connects when it is first used.
///
/// # Errors
/// [`CliError::Usage`] when the broker is no Redis, or its address none.
pub fn redis(config: &Config) -> Result<RedisTransport, CliError> {
    let prefix = config.broker.channel_prefix.clone();
    Ok(RedisTransport::new(servers(config)?, keys(config), prefix, config.namespaces.clone())
        .sharded(config.broker.sharded)
        .max_event_bytes(config.limits.message))
}

/// The registry in the configured Redis: the directory, revocations, tickets.
///
/// # Errors
/// [`CliError::Usage`] when the broker is no Redis, or its address none.
pub fn registry(config: &Config) -> Result<RedisRegistry, CliError> {
    Ok(RedisRegistry::new(servers(config)?, keys(config)))
}

/// The configured Redis, over one connection to each of its servers.
///
/// # Errors
/// [`CliError::Usage`] when the broker is no Redis, or its address none.
pub fn servers(config: &Config) -> Result<RedisClient, CliError> {
    if config.broker.kind == BrokerKind::Memory {
        return Err(CliError::Usage(
            "broker.kind is memory: such a broker lives inside its gateway and cannot be reached from outside. Publish with \
             --gateway, or configure a Redis (CREWCAST_REDIS_URL)"
                .to_owned(),
        ));
    }
    connect(&config.broker, 1).map_err(|error| CliError::Usage(error.to_string()))
}

/// The transport through a gateway.
///
/// # Errors
/// [`CliError::Usage`] when the address or the token makes no sense.
pub fn http(gateway: &str, token: Option<&str>) -> Result<HttpTransport, CliError> {
    let Some(token) = token else {
        return Err(CliError::Usage(
            "publishing through a gateway needs a token whose claim `publish` lists the channel: --token or CREWCAST_TOKEN"
                .to_owned(),
        ));
    };
    HttpTransport::new(gateway, token.trim()).map_err(|error| CliError::Usage(error.to_string()))
}

fn keys(config: &Config) -> Keys {
    Keys::new(config.broker.key_prefix.clone())
}
