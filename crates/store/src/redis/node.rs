//! One server: a pool of connections for single use, and one shared connection that pipelines commands.

use std::{io, time::Duration};

use deadpool_redis::{Hook, HookError, Manager, Pool, PoolError, Runtime};
use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult,
    ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::time::timeout;

use super::address::name_of;

/// Time limit for a new connection, including its first commands, and for a free one from the pool.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit for an answer of Redis. Longer than any of our scripts runs, and short enough to notice a server that
/// hangs.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);

/// The first version with sharded pub/sub.
const SHARDED_SINCE: u32 = 7;

/// The settings of every connection.
pub fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
}

/// The settings of a pool.
#[derive(Clone, Debug)]
pub(super) struct PoolSettings {
    /// Most connections to one server.
    pub(super) size: usize,
    /// The connections' name in `CLIENT LIST`.
    pub(super) client_name: &'static str,
    /// Whether a new connection must lead to a master: a Sentinel's answer may be out of date.
    pub(super) masters_only: bool,
}

/// One server.
pub struct Server {
    name: String,
    info: ConnectionInfo,
    pool: Pool,
    /// The connection that callers pipeline on. Dropped after an error that a new connection may fix.
    shared: Mutex<Option<MultiplexedConnection>>,
    /// Whether the server supports sharded pub/sub, once asked. Dropped with the connection: another version may run
    /// there by then.
    sharded: Mutex<Option<bool>>,
}

impl Server {
    /// # Errors
    /// The runtime has no timers; tokio's has them.
    pub(super) fn new(info: ConnectionInfo, settings: &PoolSettings) -> RedisResult<Self> {
        let manager = Manager::new_with_config(info.clone(), connection_config())?;
        let (client_name, masters_only) = (settings.client_name, settings.masters_only);
        let greet = Hook::async_fn(move |connection: &mut MultiplexedConnection, _| {
            Box::pin(async move { greet(connection, client_name, masters_only).await.map_err(HookError::Backend) })
        });
        let pool = Pool::builder(manager)
            .max_size(settings.size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECT_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(CONNECT_TIMEOUT))
            .post_create(greet)
            .build()
            .map_err(|_| (ErrorKind::InvalidClientConfig, "the connection pool cannot be built"))?;
        Ok(Self { name: name_of(&info), info, pool, shared: Mutex::default(), sharded: Mutex::default() })
    }

    /// `host:port`, or the path of the socket.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address and the credentials.
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Sends one command to this server.
    ///
    /// # Errors
    /// The error that Redis answers.
    pub async fn query<T: FromRedisValue>(&self, cmd: &Cmd) -> RedisResult<T> {
        Ok(redis::from_redis_value(self.run(cmd, false).await?)?)
    }

    /// Whether publishers may use sharded pub/sub here (Redis 7). Gateways listen to the classic kind as well, so a
    /// server that does not answer counts as without.
    pub(super) async fn has_sharded_pubsub(&self) -> bool {
        let known = *self.sharded.lock();
        if let Some(known) = known {
            return known;
        }
        let Ok(mut connection) = self.shared().await else { return false };
        let Ok(answer) = self.observe(supports_sharded_pubsub(&mut connection).await) else { return false };
        *self.sharded.lock() = Some(answer);
        answer
    }

    /// Runs one command, on a connection of the pool or on the shared one.
    pub(super) async fn run(&self, cmd: &Cmd, pooled: bool) -> RedisResult<Value> {
        let answer = if pooled {
            self.pooled().await?.req_packed_command(cmd).await
        } else {
            self.shared().await?.req_packed_command(cmd).await
        };
        self.observe(answer.and_then(Value::extract_error))
    }

    /// Runs a pipeline. Errors of single commands are among the answers.
    pub(super) async fn run_all(&self, pipeline: &Pipeline, pooled: bool) -> RedisResult<Vec<Value>> {
        self.run_part(pipeline, 0, pipeline.len(), pooled).await
    }

    /// Runs a pipeline, skips `offset` answers and returns `count`, as [`ConnectionLike`] defines it.
    pub(super) async fn run_part(
        &self,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
        pooled: bool,
    ) -> RedisResult<Vec<Value>> {
        let answers = if pooled {
            self.pooled().await?.req_packed_commands(pipeline, offset, count).await
        } else {
            self.shared().await?.req_packed_commands(pipeline, offset, count).await
        };
        self.observe(answers)
    }

    async fn pooled(&self) -> RedisResult<deadpool_redis::Connection> {
        // The pool's own timeouts apply to each idle connection that it tries. A server that hangs would delay a caller
        // once for each of them.
        match timeout(CONNECT_TIMEOUT, self.pool.get()).await {
            Ok(connection) => connection.map_err(pool_error),
            Err(_) => Err(timed_out()),
        }
    }

    async fn shared(&self) -> RedisResult<MultiplexedConnection> {
        if let Some(connection) = self.shared.lock().clone() {
            return Ok(connection);
        }
        // Taken out of the pool, so that no large answer of another caller delays this one.
        let connection = deadpool_redis::Connection::take(self.pooled().await?);
        Ok(self.shared.lock().insert(connection).clone())
    }

    /// Drops the shared connection after an error that a new connection may fix.
    fn observe<T>(&self, answer: RedisResult<T>) -> RedisResult<T> {
        if answer.as_ref().is_err_and(needs_discovery) {
            *self.shared.lock() = None;
            *self.sharded.lock() = None;
        }
        answer
    }

    /// Closes the connections; no new ones are made.
    pub(super) fn close(&self) {
        self.shared.lock().take();
        self.pool.close();
    }
}

async fn greet(connection: &mut MultiplexedConnection, name: &str, masters_only: bool) -> RedisResult<()> {
    // Only a name. A broken connection fails at its first real command, which says why.
    let _ = redis::cmd("CLIENT").arg("SETNAME").arg(name).exec_async(connection).await;
    if masters_only { require_master(connection).await } else { Ok(()) }
}

/// Checks that the server is a master.
///
/// # Errors
/// `READONLY` when the server is not a master, and any error that Redis answers.
pub async fn require_master(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let role: Vec<Value> = redis::cmd("ROLE").query_async(connection).await?;
    match role.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        _ => Err((ErrorKind::Server(ServerErrorKind::ReadOnly), "the server is no master").into()),
    }
}

/// Whether the server supports sharded pub/sub (Redis 7). Ask on every new subscribing connection: after an upgrade
/// another version answers.
///
/// # Errors
/// The error that Redis answers, for example when the user lacks the permission.
pub async fn supports_sharded_pubsub(connection: &mut MultiplexedConnection) -> RedisResult<bool> {
    let info: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    Ok(major_version(&info).is_some_and(|major| major >= SHARDED_SINCE))
}

/// The former name of [`require_master`].
///
/// # Errors
/// As [`require_master`].
#[deprecated(note = "renamed to `require_master`")]
pub async fn be_master(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    require_master(connection).await
}

/// The former name of [`supports_sharded_pubsub`].
///
/// # Errors
/// As [`supports_sharded_pubsub`].
#[deprecated(note = "renamed to `supports_sharded_pubsub`")]
pub async fn knows_sharded(connection: &mut MultiplexedConnection) -> RedisResult<bool> {
    supports_sharded_pubsub(connection).await
}

/// Whether the error suggests that another server has taken over.
pub(super) fn needs_discovery(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::Moved
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::BusyLoading
        ),
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed => true,
        _ => error.code().is_some_and(|code| matches!(code, "NOAUTH" | "WRONGPASS")),
    }
}

fn pool_error(error: PoolError) -> RedisError {
    match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => error,
        PoolError::Timeout(_) => timed_out(),
        PoolError::Closed => (ErrorKind::Client, "the connections to Redis are closed").into(),
        PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(HookError::Message(_)) => {
            (ErrorKind::InvalidClientConfig, "the connection pool is set up wrongly").into()
        }
    }
}

fn timed_out() -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, "no connection to Redis in time").into()
}

fn major_version(info: &str) -> Option<u32> {
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"))?;
    version.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version() {
        assert_eq!(major_version("# Server\r\nredis_version:7.0.15\r\nx:1\r\n"), Some(7));
        assert_eq!(major_version("redis_version:255.255.255"), Some(255));
        assert_eq!(major_version("nothing"), None);
    }
}
