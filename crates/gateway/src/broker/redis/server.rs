//! One Redis server: how it is reached, and the pool of connections for commands.

use std::time::Duration;

use deadpool_redis::{Hook, Manager, Pool, Runtime};
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion};

use tokio::time::timeout;

use super::errors;
use crate::{broker::BrokerError, config::Secret};

/// How long a connection may take to come up, the greeting included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long Redis may take to answer; the library's own default is half a second, which a large page of a log
/// may exceed.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections for commands. Each serves one operation at a time.
pub(super) const POOL_SIZE: usize = 16;
/// What the pool's connections are called in `CLIENT LIST`.
const POOL_NAME: &str = "crewcast-cmd";

/// A pool of at most `size` connections to the Redis at `url`. It connects when it is first used.
///
/// # Errors
/// [`BrokerError::Protocol`] when the URL is none. The error does not repeat it: it may hold a password.
pub fn pool(url: &Secret, size: usize) -> Result<Pool, BrokerError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    install_tls();
    let manager = Manager::new_with_config(url.expose(), config).map_err(|_| bad_url())?;
    let named = Hook::async_fn(|connection, _| {
        Box::pin(async move {
            // Only a name: a connection that cannot take it fails at its first command, which says why.
            let _ = redis::cmd("CLIENT").arg("SETNAME").arg(POOL_NAME).exec_async(connection).await;
            Ok(())
        })
    });
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(CONNECT_TIMEOUT))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .recycle_timeout(Some(CONNECT_TIMEOUT))
        .post_create(named)
        .build()
        .map_err(|_| BrokerError::Protocol("the connection pool cannot be built".to_owned()))
}

/// A client for the subscribing connection, which speaks RESP3 whatever the URL says: only there do
/// messages and answers share a connection.
pub(super) fn subscriber(url: &Secret) -> Result<Client, BrokerError> {
    install_tls();
    let info = url.expose().into_connection_info().map_err(|_| bad_url())?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Client::open(info.set_redis_settings(settings)).map_err(|_| bad_url())
}

pub(super) async fn connection(pool: &Pool) -> Result<deadpool_redis::Connection, BrokerError> {
    // The pool's own timeouts hold for each connection that it tries: a server that hangs would hold a caller
    // once for every idle one.
    match timeout(CONNECT_TIMEOUT, pool.get()).await {
        Ok(connection) => connection.map_err(|error| errors::of_pool(&error)),
        Err(_) => Err(BrokerError::Unavailable("no connection to Redis in time".to_owned())),
    }
}

fn bad_url() -> BrokerError {
    BrokerError::Protocol(
        "broker.url is not of the form redis://[user:password@]host[:port][/database] or rediss://…".to_owned(),
    )
}

/// TLS needs one provider for the process; whoever was first is as good.
fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
