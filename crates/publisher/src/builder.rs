//! Sets up a publisher.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crewcast_events::{Keys, Namespaces};
use crewcast_store::{
    AppendError, MAX_EVENT_BYTES, MAX_LEASE_TTL, MIN_LEASE_TTL, Redis, RedisSetupError, RedisTransport, Sharded, Tls,
    Transport, WaitReplicas,
};

use crate::{
    publisher::{Parts, Publisher},
    queue::Queue,
    rank::DropPolicy,
    renew::Leases,
    spool::{self, Spool, SpoolError},
    tally::Tally,
    window::{ResendWindow, Window},
};

/// What a publisher's connections are called in `CLIENT LIST`.
const CLIENT_NAME: &str = "crewcast-pub";

/// Why a publisher could not be set up. Never repeats a URL or a token.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL of Redis makes no sense.
    #[error("the URL of Redis {0}")]
    Redis(#[from] RedisSetupError),
    /// Redis refuses the credentials.
    #[error("{0}")]
    Credentials(String),
    /// The gateway's URL or the token makes no sense, or TLS could not be set up.
    #[error("{0}")]
    Http(&'static str),
    /// The spool could not be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Everything about a publisher that is not the default. Ends with [`Builder::connect`],
/// [`Builder::connect_http`] or [`Builder::with_transport`].
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
    /// The tenant. Crews, runs and streams are then registered for it before their first event through an emitter; the
    /// events of one that belongs to another org are dropped. Without, nothing is registered.
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

    /// The namespaces, as the gateways have them: length and age of logs, what is retained. Over HTTP the
    /// gateway's count, and these only say which types end a channel.
    pub fn namespaces(mut self, namespaces: Namespaces) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// Most connections to each server, at least 1. Default 2: all appends pipeline on one, another stands in for it.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Certificates for `rediss://`: an authority of one's own, and this client's where the server asks for it.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// When to publish through sharded pub/sub, on a Cluster: as the gateways' `broker.sharded`. Default: where the
    /// servers know it.
    pub fn sharded(mut self, sharded: Sharded) -> Self {
        self.sharded = sharded;
        self
    }

    /// Takes an event as published only when so many replicas of its server have it (`WAIT`). Default: when the
    /// server has it. An append is repeated until they have; it stands in the log once. What this buys: an event
    /// that was published survives the death of its server if one of those replicas takes its place, which is
    /// likely, and certain only if there are no others.
    pub fn wait_replicas(mut self, wait: WaitReplicas) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Most events in the queue, those on their way included. Default 10,000.
    pub fn queue_events(mut self, events: usize) -> Self {
        self.queue_events = events;
        self
    }

    /// Most bytes in the queue, those on their way and some overhead per event included. Default 32 MiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// What gives way in a full queue. Default: the oldest of what matters least.
    pub fn drop_policy(mut self, policy: DropPolicy) -> Self {
        self.drop_policy = policy;
        self
    }

    /// Most bytes of one event, as the gateways' `limits.message`: they drop what is larger. Default 1 MiB.
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// Keeps events in files in `directory` that find no room in the queue, and what is unsent at the end; they are
    /// sent, in order, as soon as it is possible, by this publisher or the next one with the same directory. One
    /// publisher at a time has a directory. It is made where there is none; its files are readable by their owner
    /// only. Default: none. See the crate's documentation for what this holds and what it does not.
    pub fn spool(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spool = Some(directory.into());
        self
    }

    /// Most bytes of the spool's files, some hundred bytes of bookkeeping per event included. What finds no room in
    /// it either gives way as without a spool. Default 256 MiB.
    pub fn spool_bytes(mut self, bytes: u64) -> Self {
        self.spool_bytes = bytes;
        self
    }

    /// How much of what was confirmed is kept, to be sent again when a failover has lost it. Over HTTP nothing is: that
    /// a failover has lost something shows in Redis' answers only.
    pub fn resend_window(mut self, window: ResendWindow) -> Self {
        self.resend = window;
        self
    }

    /// Holds a lease for each tool call and run, so that gateways tell `stalled` and later `lost` where this process has
    /// been silent for `ttl`: killed, hung, cut off. It renews every third of `ttl`, all leases together. 1 s to an hour;
    /// what lies outside is brought inside. Default: sessions only, 30 s. Over HTTP there are no leases.
    pub fn leases(mut self, ttl: Duration) -> Self {
        self.leases = Some(ttl.clamp(MIN_LEASE_TTL, MAX_LEASE_TTL));
        self
    }

    /// Publishes to the Redis at `url`: `redis://`, `rediss://` or `unix://` for one server,
    /// `redis+sentinel://host,host/<master>`, `redis+cluster://host,host`. Waits for a first sign of life, some
    /// seconds at most.
    ///
    /// # Errors
    /// [`ConnectError`] when the URL makes no sense or the credentials are refused. A Redis that does not
    /// answer is none: events wait for it.
    pub async fn connect(self, url: &str) -> Result<Publisher, ConnectError> {
        let redis = Redis::new(url, &self.tls, self.connections, CLIENT_NAME)?;
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

    /// Publishes through a gateway: `url` is its root, `token` one whose `publish` claim grants the channels.
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`] when the URL or the token makes no sense. A gateway that does not answer is none:
    /// events wait for it.
    #[cfg(feature = "http")]
    pub fn connect_http(mut self, url: &str, token: &str) -> Result<Publisher, ConnectError> {
        let transport = crate::http::HttpTransport::new(url, token)?;
        self.resend = ResendWindow::NONE;
        self.try_with_transport(Arc::new(transport))
    }

    /// Publishes through a transport of one's own. Needs a tokio runtime. A spool that cannot be opened is told in the
    /// log as an error, and events are kept in memory only; [`Builder::try_with_transport`] makes it an error.
    pub fn with_transport(self, transport: Arc<dyn Transport>) -> Publisher {
        let tally = Arc::new(Tally::default());
        let queue = self.queue(&tally).unwrap_or_else(|error| {
            tracing::error!(%error, "publishing without a spool");
            Queue::new(self.queue_events, self.queue_bytes, self.drop_policy)
        });
        self.start(transport, queue, tally)
    }

    /// Publishes through a transport of one's own. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError::Spool`] when the spool cannot be opened.
    pub fn try_with_transport(self, transport: Arc<dyn Transport>) -> Result<Publisher, ConnectError> {
        let tally = Arc::new(Tally::default());
        let queue = self.queue(&tally)?;
        Ok(self.start(transport, queue, tally))
    }

    fn queue(&self, tally: &Arc<Tally>) -> Result<Queue, SpoolError> {
        let queue = Queue::new(self.queue_events, self.queue_bytes, self.drop_policy);
        let Some(directory) = &self.spool else { return Ok(queue) };
        let (spool, backlogs, last_ordinal) = Spool::open(directory, self.spool_bytes, tally.clone())?;
        Ok(queue.with_spool(spool, backlogs, last_ordinal))
    }

    fn start(self, transport: Arc<dyn Transport>, queue: Queue, tally: Arc<Tally>) -> Publisher {
        Publisher::start(Parts {
            transport,
            queue,
            tally,
            window: Window::new(self.resend),
            org: self.org,
            leases: Leases::new(self.leases),
            namespaces: self.namespaces,
            max_event_bytes: self.max_event_bytes,
        })
    }
}
