//! The transport to Redis: one script per append, plain `PUBLISH` for live messages.
//!
//! - `address.rs`: parses URLs
//! - `topology.rs`, `node.rs`, `slots.rs`: which server holds which keys
//! - `connection.rs`: sends each command to the right server
//! - `ownership.rs`: the directory of owners
//! - `renew.rs`: lease renewals
//! - `errors.rs`: which errors are worth a retry

mod address;
mod connection;
mod errors;
mod node;
mod ownership;
mod renew;
mod slots;
mod topology;

use std::{sync::LazyLock, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, EventId, Keys, Namespace, Namespaces, namespace::HEAD_BEYOND_LOG};
use redis::{Script, ScriptInvocation, Value};

use self::errors::append_error;
use crate::{
    append::{Append, AppendError, MAX_EVENT_BYTES, Once},
    lease::Renewal,
    ownership::{Ownership, OwnershipMode, OwnershipOutcome},
    scripts,
    transport::Transport,
};

pub use address::{RedisSetupError, Tls};
pub use connection::Connection;
pub use node::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, Server, connection_config, require_master, supports_sharded_pubsub};
#[allow(deprecated)]
pub use node::{be_master, knows_sharded};
pub use ownership::DIRECTORY_AGE;
pub use slots::slot_of;
pub use topology::{Node, RedisClient, Topology};

/// Least time that producers' numbers and idempotency keys are remembered.
pub const ONCE_AGE: Duration = Duration::from_secs(24 * 3600);

static PUBLISH: LazyLock<Script> = LazyLock::new(|| Script::new(scripts::PUBLISH));

/// Whether a Cluster publishes through sharded pub/sub (`SPUBLISH`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharded {
    /// Where the servers support it: Redis 7 and later. Gateways then listen to both kinds.
    #[default]
    Auto,
    /// Never: every message goes through every server of the Cluster.
    Never,
}

/// How many replicas must have an append before it counts as published (`WAIT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitReplicas {
    /// At least 1.
    pub replicas: u32,
    /// How long one attempt waits for them, rounded up to a millisecond.
    pub timeout: Duration,
}

/// The transport to Redis.
pub struct RedisTransport {
    redis: RedisClient,
    keys: Keys,
    channel_prefix: String,
    namespaces: Namespaces,
    sharded: Sharded,
    wait: Option<WaitReplicas>,
    max_event_bytes: usize,
}

impl RedisTransport {
    /// A transport over `redis`. `channel_prefix` stands before channel names in `PUBLISH` and nowhere else.
    pub fn new(redis: RedisClient, keys: Keys, channel_prefix: String, namespaces: Namespaces) -> Self {
        Self {
            redis,
            keys,
            channel_prefix,
            namespaces,
            sharded: Sharded::default(),
            wait: None,
            max_event_bytes: MAX_EVENT_BYTES,
        }
    }

    /// Most bytes of one event, as the gateways' `limits.message`. Default [`MAX_EVENT_BYTES`].
    #[must_use]
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// When to publish with `SPUBLISH`. Default [`Sharded::Auto`].
    #[must_use]
    pub fn sharded(mut self, sharded: Sharded) -> Self {
        self.sharded = sharded;
        self
    }

    /// Counts an append as published only when enough replicas have it. Default: when the master has it.
    #[must_use]
    pub fn wait_replicas(mut self, wait: Option<WaitReplicas>) -> Self {
        self.wait = wait;
        self
    }

    /// Sends a `PING`.
    ///
    /// # Errors
    /// [`AppendError`]; `Refused` when Redis does not accept the credentials.
    pub async fn ping(&self) -> Result<(), AppendError> {
        let answer = redis::cmd("PING").exec_async(&mut self.redis.shared()).await;
        answer.map_err(|error| {
            if errors::is_authentication(&error) {
                return AppendError::Refused("Redis does not accept the credentials".to_owned());
            }
            append_error(&error)
        })
    }

    async fn invoke<T: redis::FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, AppendError> {
        call.invoke_async(&mut self.redis.shared()).await.map_err(|error| append_error(&error))
    }

    async fn run<T: redis::FromRedisValue>(&self, pipeline: &redis::Pipeline) -> Result<T, AppendError> {
        pipeline.query_async(&mut self.redis.shared()).await.map_err(|error| append_error(&error))
    }

    /// `PUBLISH`, or `SPUBLISH` where every gateway receives it.
    async fn publish_command(&self, channel: &Channel, is_captured: bool) -> Result<&'static str, AppendError> {
        // A prefix puts the name into another slot than the channel's keys. Capturing replicas subscribe to patterns,
        // which sharded pub/sub does not have.
        let may =
            self.sharded == Sharded::Auto && self.redis.is_cluster() && self.channel_prefix.is_empty() && !is_captured;
        if !may {
            return Ok("PUBLISH");
        }
        let holder = self.redis.shared().holder(channel.as_str().as_bytes()).await;
        let holder = holder.map_err(|error| append_error(&error))?;
        Ok(if holder.has_sharded_pubsub().await { "SPUBLISH" } else { "PUBLISH" })
    }

    /// Waits until enough replicas have the append.
    async fn wait_for_replicas(&self, append: &Append) -> Result<(), AppendError> {
        let Some(WaitReplicas { replicas, timeout }) = self.wait else { return Ok(()) };
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut pipeline = redis::pipe();
        // WAIT counts the replicas that have this connection's last write. A retried append writes nothing, and neither
        // has a new connection. So every wait begins with a write: the log's age is set again.
        pipeline.cmd("EXPIRE").arg(self.keys.log(&append.channel)).arg(self.log_age(&append.channel)?).ignore();
        pipeline.cmd("WAIT").arg(replicas).arg(millis);
        let (reached,): (u32,) = self.run(&pipeline).await?;
        if reached >= replicas {
            return Ok(());
        }
        Err(AppendError::Unavailable(format!("{reached} of {replicas} replicas have it")))
    }

    fn log_age(&self, channel: &Channel) -> Result<u64, AppendError> {
        Ok(self.namespace(channel)?.log.age.as_secs().max(1))
    }

    fn namespace(&self, channel: &Channel) -> Result<&Namespace, AppendError> {
        self.namespaces
            .of(channel)
            .ok_or_else(|| AppendError::Refused(format!("the namespace {} is not configured", channel.namespace())))
    }

    /// Gateways do not deliver larger events, but a log would store them.
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

    fn append_call(&self, append: &Append, namespace: &Namespace, publish: &'static str) -> ScriptInvocation<'static> {
        let Append { channel, entries, once } = append;
        let age = namespace.log.age.as_secs().max(1);
        let (seen, key) = match once {
            Once::No => ("no".to_owned(), None),
            Once::Sequence { producer, first } => (first.to_string(), Some(self.keys.producer(channel, producer))),
            Once::Key { sub, key } => ("key".to_owned(), Some(self.keys.idempotency(channel, sub, key))),
        };
        // Most appends need three keys and one argument per entry. Fewer arguments make the script cheaper.
        let is_wide = namespace.retain || entries.iter().any(|entry| entry.state.is_some() || entry.lease.is_some());
        let mut call = PUBLISH.prepare_invoke();
        call.key(self.keys.log(channel)).key(self.keys.head(channel));
        if is_wide {
            call.key(self.keys.retained(channel)).key(self.keys.state(channel));
            call.key(self.keys.leases(channel)).key(self.keys.due(channel));
        }
        call.key(key);
        call.arg(self.published_name(channel)).arg(publish);
        call.arg(namespace.log.length).arg(age).arg(age + HEAD_BEYOND_LOG.as_secs());
        call.arg(u8::from(namespace.retain)).arg(seen).arg(age.max(ONCE_AGE.as_secs()));
        call.arg(entries.iter().flat_map(|entry| entry.random).collect::<Vec<u8>>());
        for entry in entries {
            call.arg(entry.body.tail());
            if is_wide {
                let (state, lease) = (&entry.state, entry.lease_step(channel));
                let key = state.as_ref().map_or("", |state| state.key.as_str());
                let value = state.as_ref().and_then(|state| state.value.as_ref()).map_or("", |value| value.get());
                call.arg(key).arg(value).arg(lease.map(|step| step.wire()).unwrap_or_default());
            }
        }
        call
    }
}

/// Reads `{'ok', id or nil, …}` or `{'gap', number}`.
fn read_answer(answer: &[Value], count: usize) -> Result<Vec<Option<EventId>>, AppendError> {
    // The append may have happened although its answer is not understood: worth a retry.
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
        append.validate(namespace)?;
        append.entries.iter().try_for_each(|entry| self.within_bound(entry.body.object().len()))?;
        let publish = self.publish_command(&append.channel, namespace.capture_live && namespace.retain).await?;
        let answer: Vec<Value> = self.invoke(&self.append_call(append, namespace, publish)).await?;
        let ids = read_answer(&answer, append.entries.len())?;
        self.wait_for_replicas(append).await?;
        Ok(ids)
    }

    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError> {
        let namespace = self.namespace(channel)?;
        self.within_bound(message.len())?;
        let mut pipeline = redis::pipe();
        let command = self.publish_command(channel, namespace.capture_live).await?;
        pipeline.cmd(command).arg(self.published_name(channel)).arg(&message[..]).ignore();
        self.run(&pipeline).await
    }

    async fn register(&self, ownership: &Ownership, mode: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        self.register_id(ownership, mode).await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<(), AppendError> {
        self.renew_leases(renewals).await
    }
}
