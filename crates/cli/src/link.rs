//! The ways to where events are published: Redis, or a gateway over HTTP.

use crewcast_events::Keys;
use crewcast_gateway::{
    broker,
    config::{BrokerKind, Config},
};
use crewcast_publisher::{HttpTransport, RedisTransport, pool};

use crate::error::CliError;

/// The transport to the configured Redis. It connects when it is first used.
///
/// # Errors
/// [`CliError::Usage`] when the broker is no Redis, or its address none.
pub fn redis(config: &Config) -> Result<RedisTransport, CliError> {
    let broker = &config.broker;
    demand_redis(config)?;
    let pool = pool(broker.url.expose(), 1).map_err(|error| CliError::Usage(format!("broker.url: {error}")))?;
    Ok(RedisTransport::new(pool, keys(config), broker.channel_prefix.clone(), config.namespaces.clone()))
}

/// The registry in the configured Redis: the directory, revocations, tickets.
///
/// # Errors
/// [`CliError::Usage`] when the broker is no Redis, or its address none.
pub fn registry(config: &Config) -> Result<broker::redis::RedisRegistry, CliError> {
    demand_redis(config)?;
    let pool = broker::redis::pool(&config.broker.url).map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(broker::redis::RedisRegistry::new(pool, keys(config)))
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

fn demand_redis(config: &Config) -> Result<(), CliError> {
    match config.broker.kind {
        BrokerKind::Redis => Ok(()),
        BrokerKind::Memory => Err(CliError::Usage(
            "broker.kind is memory: such a broker lives inside its gateway and cannot be reached from outside. Publish with \
             --gateway, or configure a Redis (CREWCAST_REDIS_URL)"
                .to_owned(),
        )),
    }
}

fn keys(config: &Config) -> Keys {
    Keys::new(config.broker.key_prefix.clone())
}
