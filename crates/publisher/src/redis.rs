//! The transport to Redis: one script per append, plain `PUBLISH` for live messages.

mod claim;
mod errors;

use std::{sync::LazyLock, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, EventId, Keys, Namespace, Namespaces, namespace::HEAD_BEYOND_LOG};
use deadpool_redis::{Pool, PoolError, Runtime};
use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, Script, ScriptInvocation, Value, aio::MultiplexedConnection};

use crate::append::{
    Append, AppendError, Claim, ClaimMode, Claimed, Entry, MAX_ENTRIES, MAX_EVENT_BYTES, Once, Transport,
};
use errors::append_error;

pub use claim::DIRECTORY_AGE;

/// How long a connection may take to come up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long Redis may take to answer. Longer than any script of ours runs; short enough to notice a server
/// that hangs.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a caller waits for a free connection of the pool.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long producers' numbers and idempotency keys are remembered at least.
pub const ONCE_AGE: Duration = Duration::from_secs(24 * 3600);
/// Longest key of a state document, in characters.
pub const MAX_STATE_KEY: usize = 128;

static PUBLISH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("publish.lua")));

/// Why a pool could not be made of a URL. Never repeats the URL: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolSetupError {
    /// The URL is not one that Redis clients understand.
    #[error("the URL is not of the form redis://[user:password@]host[:port][/database] or rediss://…")]
    Url,
    /// There is no room for a connection.
    #[error("a pool has at least one connection")]
    Size,
}

/// A pool of at most `size` connections to the Redis at `url` (`redis://` or `rediss://`). It connects when it
/// is first used; no wait in it is longer than 5 s.
///
/// # Errors
/// [`PoolSetupError`] when the URL or the size makes no sense.
pub fn pool(url: &str, size: usize) -> Result<Pool, PoolSetupError> {
    if size == 0 {
        return Err(PoolSetupError::Size);
    }
    // TLS needs one provider for the process; whoever was first is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    let manager = deadpool_redis::Manager::new_with_config(url, config).map_err(|_| PoolSetupError::Url)?;
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT_TIMEOUT))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .recycle_timeout(Some(CONNECT_TIMEOUT))
        .build()
        .map_err(|_| PoolSetupError::Size)
}

/// Appends, publishes and claims through one Redis server.
pub struct RedisTransport {
    pool: Pool,
    /// The connection that works, shared by all operations in flight: they pipeline on it, and none pays for
    /// the round trip with which the pool checks a connection. Dropped at the first doubt.
    current: Mutex<Option<MultiplexedConnection>>,
    keys: Keys,
    channel_prefix: String,
    namespaces: Namespaces,
    publish_command: &'static str,
    max_event_bytes: usize,
}

impl RedisTransport {
    /// A transport over `pool`. `channel_prefix` stands before channel names in `PUBLISH` and nowhere else.
    pub fn new(pool: Pool, keys: Keys, channel_prefix: String, namespaces: Namespaces) -> Self {
        Self {
            pool,
            current: Mutex::default(),
            keys,
            channel_prefix,
            namespaces,
            publish_command: "PUBLISH",
            max_event_bytes: MAX_EVENT_BYTES,
        }
    }

    /// Most bytes of one event, as the gateways' `limits.message`. Default [`MAX_EVENT_BYTES`].
    #[must_use]
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// Publishes with `SPUBLISH`, for a Cluster whose gateways listen with `SSUBSCRIBE`.
    #[must_use]
    pub fn sharded(mut self, sharded: bool) -> Self {
        self.publish_command = if sharded { "SPUBLISH" } else { "PUBLISH" };
        self
    }

    /// Asks Redis for a sign of life.
    ///
    /// # Errors
    /// [`AppendError`]; `Refused` when Redis does not accept the credentials.
    pub async fn ping(&self) -> Result<(), AppendError> {
        let refused = |error: &redis::RedisError| {
            errors::is_authentication(error)
                .then(|| AppendError::Refused("Redis does not accept the credentials".to_owned()))
        };
        let mut connection = self.connection().await.map_err(|error| match &error {
            PoolError::Backend(inner) => refused(inner).unwrap_or_else(|| errors::of_pool(&error)),
            _ => errors::of_pool(&error),
        })?;
        let answer = redis::cmd("PING").exec_async(&mut connection).await;
        answer.map_err(|error| refused(&error).unwrap_or_else(|| self.doubt(&error)))
    }

    async fn connection(&self) -> Result<MultiplexedConnection, PoolError> {
        if let Some(connection) = self.current.lock().clone() {
            return Ok(connection);
        }
        let connection: MultiplexedConnection = (*self.pool.get().await?).clone();
        Ok(self.current.lock().insert(connection).clone())
    }

    /// The error for the caller. After one that a new connection may mend the next operation asks the pool.
    fn doubt(&self, error: &redis::RedisError) -> AppendError {
        let error = append_error(error);
        if matches!(error, AppendError::Unavailable(_)) {
            *self.current.lock() = None;
        }
        error
    }

    async fn invoke<T: redis::FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, AppendError> {
        let mut connection = self.connection().await.map_err(|error| errors::of_pool(&error))?;
        call.invoke_async(&mut connection).await.map_err(|error| self.doubt(&error))
    }

    async fn run<T: redis::FromRedisValue>(&self, pipeline: &redis::Pipeline) -> Result<T, AppendError> {
        let mut connection = self.connection().await.map_err(|error| errors::of_pool(&error))?;
        pipeline.query_async(&mut connection).await.map_err(|error| self.doubt(&error))
    }

    fn namespace(&self, channel: &Channel) -> Result<&Namespace, AppendError> {
        self.namespaces
            .of(channel)
            .ok_or_else(|| AppendError::Refused(format!("the namespace {} is not configured", channel.namespace())))
    }

    /// Gateways deliver nothing larger, and a log would keep it all the same.
    fn within_bound(&self, bytes: usize) -> Result<(), AppendError> {
        let most = self.max_event_bytes;
        if bytes <= most {
            return Ok(());
        }
        Err(AppendError::Refused(format!("an event has at most {most} bytes, this one has {bytes}")))
    }

    fn published_name(&self, channel: &Channel) -> String {
        format!("{}{channel}", self.channel_prefix)
    }

    fn append_call(&self, append: &Append, namespace: &Namespace) -> ScriptInvocation<'static> {
        let Append { channel, entries, once } = append;
        let age = namespace.log.age.as_secs().max(1);
        let (kind, first, key) = match once {
            Once::No => ("no", 0, None),
            Once::Sequence { producer, first } => ("sequence", *first, Some(self.keys.producer(channel, producer))),
            Once::Key { sub, key } => ("key", 0, Some(self.keys.idempotency(channel, sub, key))),
        };
        let mut call = PUBLISH.prepare_invoke();
        call.key(self.keys.log(channel)).key(self.keys.head(channel));
        call.key(self.keys.retained(channel)).key(self.keys.state(channel)).key(key);
        call.arg(self.published_name(channel)).arg(self.publish_command);
        call.arg(namespace.log.length).arg(age).arg(HEAD_BEYOND_LOG.as_secs());
        call.arg(u8::from(namespace.retain)).arg(kind).arg(first).arg(age.max(ONCE_AGE.as_secs()));
        for Entry { body, random, state } in entries {
            call.arg(&random[..]).arg(body.tail());
            let (key, value) = state
                .as_ref()
                .map_or(("", ""), |state| (state.key.as_str(), state.value.as_ref().map_or("", |value| value.get())));
            call.arg(key).arg(value);
        }
        call
    }
}

/// What no log would accept, found before it is asked.
fn check(append: &Append, namespace: &Namespace) -> Result<(), AppendError> {
    let refused = |why: String| Err(AppendError::Refused(why));
    let count = append.entries.len();
    if namespace.log.length == 0 {
        return refused(format!(
            "the namespace {} is live only (its log has length 0): publish live",
            append.channel.namespace()
        ));
    }
    if count == 0 || count > MAX_ENTRIES {
        return refused(format!("an append has 1 to {MAX_ENTRIES} entries, not {count}"));
    }
    if matches!(append.once, Once::Key { .. }) && count > 1 {
        return refused("an idempotency key names one event".to_owned());
    }
    if matches!(append.once, Once::Sequence { first: 0, .. }) {
        return refused("a producer's numbers count from 1".to_owned());
    }
    for state in append.entries.iter().filter_map(|entry| entry.state.as_ref()) {
        let length = state.key.chars().count();
        if length == 0 || length > MAX_STATE_KEY {
            return refused(format!("a state key has 1 to {MAX_STATE_KEY} characters, not {length}"));
        }
    }
    Ok(())
}

/// Reads `{'ok', id or nil, …}` or `{'gap', number}`.
fn read_answer(answer: &[Value], count: usize) -> Result<Vec<Option<EventId>>, AppendError> {
    // An answer that is not understood may still mean that the append happened: repeat it.
    let unreadable = || AppendError::Unavailable("the script's answer is not understood".to_owned());
    let texts: Option<Vec<Option<&str>>> = answer
        .iter()
        .map(|value| match value {
            Value::Nil => Some(None),
            Value::BulkString(text) => std::str::from_utf8(text).ok().map(Some),
            _ => None,
        })
        .collect();
    match texts.ok_or_else(unreadable)?.as_slice() {
        [Some("gap"), Some(expected)] => {
            Err(AppendError::Gap { expected: expected.parse().map_err(|_| unreadable())? })
        }
        [Some("ok"), ids @ ..] if ids.len() == count => {
            ids.iter().map(|id| id.map(|id| id.parse().map_err(|_| unreadable())).transpose()).collect()
        }
        _ => Err(unreadable()),
    }
}

#[async_trait::async_trait]
impl Transport for RedisTransport {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        let namespace = self.namespace(&append.channel)?;
        check(append, namespace)?;
        append.entries.iter().try_for_each(|entry| self.within_bound(entry.body.object().len()))?;
        let answer: Vec<Value> = self.invoke(&self.append_call(append, namespace)).await?;
        read_answer(&answer, append.entries.len())
    }

    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError> {
        self.namespace(channel)?;
        self.within_bound(message.len())?;
        let mut pipeline = redis::pipe();
        pipeline.cmd(self.publish_command).arg(self.published_name(channel)).arg(&message[..]).ignore();
        self.run(&pipeline).await
    }

    async fn claim(&self, claim: &Claim, mode: ClaimMode) -> Result<Claimed, AppendError> {
        self.claim_id(claim, mode).await
    }
}
