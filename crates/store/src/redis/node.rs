//! One server: a pool of connections for those who need one to themselves, and one that all others pipeline on.

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

/// How long a connection may take to come up, the greeting included, and how long a caller waits for a free one.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long Redis may take to answer. Longer than any script of ours runs; short enough to notice a server
/// that hangs.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);

/// Sharded pub/sub came with this version.
const SHARDED_SINCE: u32 = 7;

/// What all connections have in common.
pub fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
}

/// How a pool is made.
#[derive(Clone, Debug)]
pub(super) struct PoolSettings {
    /// Connections to one server, at most.
    pub(super) size: usize,
    /// What they are called in `CLIENT LIST`.
    pub(super) client_name: &'static str,
    /// Whether a server must say that it is a master before it is believed: what a Sentinel said may be old.
    pub(super) masters_only: bool,
}

/// One server.
pub struct Server {
    name: String,
    info: ConnectionInfo,
    pool: Pool,
    /// The connection that works, shared by all who pipeline on it. Dropped at the first doubt.
    shared: Mutex<Option<MultiplexedConnection>>,
    /// Whether it knows sharded pub/sub, once asked. In doubt another version may run there by now.
    sharded: Mutex<Option<bool>>,
}

impl Server {
    /// # Errors
    /// When the runtime has no timers, which tokio's has.
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

    /// `host:port`, or the path of its socket.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is connected to. Holds credentials.
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// One command to this very server.
    ///
    /// # Errors
    /// What Redis answers.
    pub async fn query<T: FromRedisValue>(&self, cmd: &Cmd) -> RedisResult<T> {
        Ok(redis::from_redis_value(self.run(cmd, false).await?)?)
    }

    /// Whether it knows sharded pub/sub (Redis 7), for one who publishes: whoever listens hears the classic kind as
    /// well, so a server that cannot say does not.
    pub(super) async fn is_sharded(&self) -> bool {
        let known = *self.sharded.lock();
        if let Some(known) = known {
            return known;
        }
        let Ok(mut connection) = self.shared().await else { return false };
        let Ok(answer) = self.observe(knows_sharded(&mut connection).await) else { return false };
        *self.sharded.lock() = Some(answer);
        answer
    }

    /// One command, on a connection of the pool or on the shared one.
    pub(super) async fn run(&self, cmd: &Cmd, pooled: bool) -> RedisResult<Value> {
        let answer = if pooled {
            self.pooled().await?.req_packed_command(cmd).await
        } else {
            self.shared().await?.req_packed_command(cmd).await
        };
        self.observe(answer.and_then(Value::extract_error))
    }

    /// A pipeline; errors of single commands stand among the answers.
    pub(super) async fn run_all(&self, pipeline: &Pipeline, pooled: bool) -> RedisResult<Vec<Value>> {
        self.run_part(pipeline, 0, pipeline.len(), pooled).await
    }

    /// A pipeline of which `offset` answers are passed over and `count` wanted, as [`ConnectionLike`] has it.
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
        // The pool's own timeouts hold for each connection that it tries: a server that hangs would hold a caller
        // once for every idle one.
        match timeout(CONNECT_TIMEOUT, self.pool.get()).await {
            Ok(connection) => connection.map_err(of_pool),
            Err(_) => Err(timed_out()),
        }
    }

    async fn shared(&self) -> RedisResult<MultiplexedConnection> {
        if let Some(connection) = self.shared.lock().clone() {
            return Ok(connection);
        }
        // Taken out of the pool: nobody else's large answer shall stand before ours.
        let connection = deadpool_redis::Connection::take(self.pooled().await?);
        Ok(self.shared.lock().insert(connection).clone())
    }

    /// After an error that a new connection may mend the next who shares one asks the pool.
    fn observe<T>(&self, answer: RedisResult<T>) -> RedisResult<T> {
        if answer.as_ref().is_err_and(is_doubtful) {
            *self.shared.lock() = None;
            *self.sharded.lock() = None;
        }
        answer
    }

    /// Nobody gets a connection any more.
    pub(super) fn close(&self) {
        self.shared.lock().take();
        self.pool.close();
    }
}

async fn greet(connection: &mut MultiplexedConnection, name: &str, masters_only: bool) -> RedisResult<()> {
    // Only a name: a connection that cannot take it fails at its first command, which says why.
    let _ = redis::cmd("CLIENT").arg("SETNAME").arg(name).exec_async(connection).await;
    if masters_only { be_master(connection).await } else { Ok(()) }
}

/// Demands that the server on the other end is a master.
///
/// # Errors
/// `READONLY` when it says that it is not, and what Redis answers.
pub async fn be_master(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let role: Vec<Value> = redis::cmd("ROLE").query_async(connection).await?;
    match role.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        _ => Err((ErrorKind::Server(ServerErrorKind::ReadOnly), "the server is no master").into()),
    }
}

/// Whether the server on the other end knows sharded pub/sub (Redis 7). To be asked of every connection on which one
/// listens: after an upgrade another version answers there.
///
/// # Errors
/// What Redis answers, for example to a user who may not ask.
pub async fn knows_sharded(connection: &mut MultiplexedConnection) -> RedisResult<bool> {
    let info: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    Ok(major_version(&info).is_some_and(|major| major >= SHARDED_SINCE))
}

/// Whether the server, or its address, may be another one by now.
pub(super) fn is_doubtful(error: &RedisError) -> bool {
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

fn of_pool(error: PoolError) -> RedisError {
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
