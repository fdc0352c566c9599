//! Access to Redis, and to a gateway over HTTP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crewcast_events::Keys;
use crewcast_gateway::{
    RedisRegistry,
    config::{BrokerKind, Config},
    connect,
};
use crewcast_publisher::{HttpTransport, RedisClient, RedisTransport};

use crate::error::CliError;

/// A transport to the configured Redis. It connects on first use.
///
/// # Errors
/// [`CliError::Usage`] when the broker is not a Redis or its address is invalid.
pub(crate) fn redis(config: &Config) -> Result<RedisTransport, CliError> {
    let prefix = config.broker.channel_prefix.clone();
    Ok(RedisTransport::new(servers(config)?, keys(config), prefix, config.namespaces.clone())
        .sharded(config.broker.sharded)
        .max_event_bytes(config.limits.message.0))
}

/// The registry in the configured Redis: directory, revocations and tickets.
///
/// # Errors
/// [`CliError::Usage`] when the broker is not a Redis or its address is invalid.
pub(crate) fn registry(config: &Config) -> Result<RedisRegistry, CliError> {
    Ok(RedisRegistry::new(servers(config)?, keys(config)))
}

/// The configured Redis, with one connection to each server.
///
/// # Errors
/// [`CliError::Usage`] when the broker is not a Redis or its address is invalid.
pub(crate) fn servers(config: &Config) -> Result<RedisClient, CliError> {
    if config.broker.kind == BrokerKind::Memory {
        return Err(CliError::Usage(
            "broker.kind is memory: a memory broker exists only inside its gateway. Publish with --gateway, or set \
             broker.kind to redis and broker.url (CREWCAST_REDIS_URL) to its address"
                .to_owned(),
        ));
    }
    connect(&config.broker, 1).map_err(|error| CliError::Usage(error.to_string()))
}

/// A transport through a gateway.
///
/// # Errors
/// [`CliError::Usage`] when the address or the token is missing or invalid.
pub(crate) fn http(gateway: &str, token: Option<&str>) -> Result<HttpTransport, CliError> {
    let Some(token) = token else {
        return Err(CliError::Usage(
            "no token: publishing through a gateway needs one whose claim `publish` lists the channel. Set --token or \
             CREWCAST_TOKEN"
                .to_owned(),
        ));
    };
    HttpTransport::new(gateway, token.trim()).map_err(|error| CliError::Usage(error.to_string()))
}

fn keys(config: &Config) -> Keys {
    Keys::new(config.broker.key_prefix.clone())
}

/// The address at which a program on this machine reaches a listener.
pub(crate) fn browsable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Host and port of the configured Redis, without user and password.
pub(crate) fn host_and_port(config: &Config) -> Option<(String, u16)> {
    let url = config.broker.url.expose().split_once("://")?.1;
    let authority = url.split(['/', '?']).next()?.rsplit('@').next()?;
    match authority.rsplit_once(':') {
        Some((host, port)) => Some((host.to_owned(), port.parse().ok()?)),
        None => Some((authority.to_owned(), 6379)),
    }
}
