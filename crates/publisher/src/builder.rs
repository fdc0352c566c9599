//! Sets up a publisher.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crewcast_events::{Keys, Namespaces};
use crewcast_store::{
    AppendError, MAX_EVENT_BYTES, MAX_LEASE_TTL, MIN_LEASE_TTL, RedisClient, RedisSetupError, RedisTransport, Sharded,
    Tls, Transport, WaitReplicas,
};

use crate::{
    counters::Counters,
    lease_renewal::LeaseRenewals,
    priority::DropPolicy,
    publisher::{Parts, Publisher},
    queue::Queue,
    resend_buffer::{ResendBuffer, ResendWindow},
    spool::{self, Spool, SpoolError},
};

/// The connections' name in `CLIENT LIST`.
const CLIENT_NAME: &str = "crewcast-pub";

/// Why a publisher could not be set up. Never repeats a URL or a token.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL of Redis is invalid.
    #[error("the URL of Redis {0}")]
    Redis(#[from] RedisSetupError),
    /// Redis refuses the credentials.
    #[error("{0}")]
    Credentials(String),
    /// The gateway's URL or the token is invalid, or TLS could not be set up.
    #[error("{0}")]
    Http(&'static str),
    /// The spool could not be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// The settings of a publisher. Finish with [`Builder::connect`], [`Builder::connect_http`] or
/// [`Builder::with_transport`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    org: Option<String>,
    key_prefix: String,
    channel_prefix: String,
    namespaces: Namespaces,
    connections: usize,
    tls: Tls,
    sharded: Sharded,
    wait: Option<WaitReplicas>,
    queue_events: usize,
    queue_bytes: usize,
    drop_policy: DropPolicy,
    max_event_bytes: usize,
    spool: Option<PathBuf>,
    spool_bytes: u64,
    resend: ResendWindow,
    leases: Option<Duration>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            org: None,
            key_prefix: "crewcast".to_owned(),
            channel_prefix: String::new(),
            namespaces: Namespaces::default(),
            connections: 2,
            tls: Tls::default(),
            sharded: Sharded::default(),
            wait: None,
            queue_events: 10_000,
            queue_bytes: 32 << 20,
            drop_policy: DropPolicy::default(),
            max_event_bytes: MAX_EVENT_BYTES,
            spool: None,
            spool_bytes: spool::DEFAULT_BYTES,
            resend: ResendWindow::default(),
            leases: None,
        }
    }
}

impl Builder {
    /// The org. Emitters register crews, runs and streams for it before their first event, and drop the events of ids
    /// that another org owns. Default: nothing is registered.
    pub fn org(mut self, org: impl Into<String>) -> Self {
        self.org = Some(org.into());
        self
    }

    /// Prefix of Redis keys, as the gateways' `broker.key_prefix`. Default `crewcast`.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// Prefix of channel names in `PUBLISH`, as the gateways' `broker.channel_prefix`. Default none.
    pub fn channel_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.channel_prefix = prefix.into();
        self
    }

    /// The namespaces, as configured at the gateways: length and age of logs, what is retained. Over HTTP the gateway's
    /// settings apply, and these only say which types end a channel.
    pub fn namespaces(mut self, namespaces: Namespaces) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// Most connections to each server, at least 1. Default 2: one carries all appends, the other is its replacement.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Certificates for `rediss://`: a private authority, and a client certificate for servers that ask for one.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// When to publish through sharded pub/sub on a Cluster, as the gateways' `broker.sharded`. Default: where the
    /// servers support it.
    pub fn sharded(mut self, sharded: Sharded) -> Self {
        self.sharded = sharded;
        self
    }

    /// Counts an event as published only when this many replicas of its server have it (`WAIT`). Default: when the
    /// server has it. An append is retried until they have it, and is in the log once. A published event then survives
    /// the loss of its server if one of those replicas takes over. This is likely, and certain only without other
    /// replicas.
    pub fn wait_replicas(mut self, wait: WaitReplicas) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Most events in the queue, including those being sent. Default 10,000.
    pub fn queue_events(mut self, events: usize) -> Self {
        self.queue_events = events;
        self
    }

    /// Most bytes in the queue, including events being sent and some overhead per event. Default 32 MiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Which events a full queue drops. Default: the oldest of the lowest priority.
    pub fn drop_policy(mut self, policy: DropPolicy) -> Self {
        self.drop_policy = policy;
        self
    }

    /// Most bytes of one event, as the gateways' `limits.message`. Gateways drop larger events. Default 1 MiB.
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// Keeps events that find no room in the queue, and unsent events at the end, in files in `directory`. This
    /// publisher or the next one with the same directory sends them in order, as soon as possible. One publisher at a
    /// time can use a directory. The directory is created if missing; only its owner can read the files. Default: no
    /// spool. The crate's documentation says what is guaranteed.
    pub fn spool(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spool = Some(directory.into());
        self
    }

    /// Most bytes of the spool's files, including a few hundred bytes of bookkeeping per event. Events that find no
    /// room in it are dropped as without a spool. Default 256 MiB.
    pub fn spool_bytes(mut self, bytes: u64) -> Self {
        self.spool_bytes = bytes;
        self
    }

    /// How many confirmed events are kept, to send them again after a failover. Over HTTP none are kept: only the
    /// answers of Redis show such a loss.
    pub fn resend_window(mut self, window: ResendWindow) -> Self {
        self.resend = window;
        self
    }

    /// Holds a lease for each tool call and run. Gateways publish `stalled` and later `lost` when this process does not
    /// renew it for `ttl`: killed, hung or cut off. All leases are renewed together, every third of `ttl`. Clamped to 1
    /// s to one hour. Default: sessions only, 30 s. Over HTTP there are no leases.
    pub fn leases(mut self, ttl: Duration) -> Self {
        self.leases = Some(ttl.clamp(MIN_LEASE_TTL, MAX_LEASE_TTL));
        self
    }

    /// Publishes to the Redis at `url`: `redis://`, `rediss://` or `unix://` for one server,
    /// `redis+sentinel://host,host/<master>`, `redis+cluster://host,host`. Waits a few seconds at most for a first
    /// answer.
    ///
    /// # Errors
    /// [`ConnectError`] when the URL is invalid or the credentials are refused. A Redis that does not answer is not an
    /// error: events wait for it.
    pub async fn connect(self, url: &str) -> Result<Publisher, ConnectError> {
        let redis = RedisClient::new(url, &self.tls, self.connections, CLIENT_NAME)?;
        let keys = Keys::new(self.key_prefix.clone());
        let transport = RedisTransport::new(redis, keys, self.channel_prefix.clone(), self.namespaces.clone())
            .sharded(self.sharded)
            .wait_replicas(self.wait)
            .max_event_bytes(self.max_event_bytes);
        match transport.ping().await {
            Ok(()) => {}
            Err(AppendError::Refused(why)) => return Err(ConnectError::Credentials(why)),
            Err(error) => tracing::warn!(%error, "events wait for the broker"),
        }
        self.try_with_transport(Arc::new(transport))
    }

    /// Publishes through a gateway. `url` is its root; the `publish` claim of `token` must grant the channels. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`] when the URL or the token is invalid. A gateway that does not answer is not an error: events
    /// wait for it.
    #[cfg(feature = "http")]
    pub fn connect_http(mut self, url: &str, token: &str) -> Result<Publisher, ConnectError> {
        let transport = crate::http::HttpTransport::new(url, token)?;
        self.resend = ResendWindow::NONE;
        self.try_with_transport(Arc::new(transport))
    }

    /// Publishes through a custom transport. Needs a tokio runtime. When the spool cannot be opened, logs an error and
    /// keeps events in memory only; [`Builder::try_with_transport`] returns the error instead.
    pub fn with_transport(self, transport: Arc<dyn Transport>) -> Publisher {
        let counters = Arc::new(Counters::default());
        let queue = self.queue(&counters).unwrap_or_else(|error| {
            tracing::error!(%error, "publishing without a spool");
            Queue::new(self.queue_events, self.queue_bytes, self.drop_policy)
        });
        self.start(transport, queue, counters)
    }

    /// Publishes through a custom transport. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError::Spool`] when the spool cannot be opened.
    pub fn try_with_transport(self, transport: Arc<dyn Transport>) -> Result<Publisher, ConnectError> {
        let counters = Arc::new(Counters::default());
        let queue = self.queue(&counters)?;
        Ok(self.start(transport, queue, counters))
    }

    fn queue(&self, counters: &Arc<Counters>) -> Result<Queue, SpoolError> {
        let queue = Queue::new(self.queue_events, self.queue_bytes, self.drop_policy);
        let Some(directory) = &self.spool else { return Ok(queue) };
        let (spool, backlogs, last_ordinal) = Spool::open(directory, self.spool_bytes, counters.clone())?;
        Ok(queue.with_spool(spool, backlogs, last_ordinal))
    }

    fn start(self, transport: Arc<dyn Transport>, queue: Queue, counters: Arc<Counters>) -> Publisher {
        Publisher::start(Parts {
            transport,
            queue,
            counters,
            resend_buffer: ResendBuffer::new(self.resend),
            org: self.org,
            leases: LeaseRenewals::new(self.leases),
            namespaces: self.namespaces,
            max_event_bytes: self.max_event_bytes,
        })
    }
}
