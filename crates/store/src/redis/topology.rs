//! The servers behind a URL, and the slots that each of them holds.

use std::{
    fmt, io,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use redis::{Client, ConnectionInfo, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::{
    sync::MutexGuard,
    time::{Instant, timeout},
};

use super::{
    Connection,
    address::{Address, RedisSetupError, Tls, name_of},
    node::{CONNECT_TIMEOUT, PoolSettings, Server, connection_config},
    slots::{SLOTS, SlotOwner, read_slots},
};

/// Time after which a second server is asked as well.
const HEDGE_AFTER: Duration = Duration::from_millis(300);
/// Shortest time between two refreshes: one error may reach many callers.
const REFRESH_EVERY: Duration = Duration::from_millis(100);
/// How often Sentinels are asked without an error.
const CHECK_MASTER_EVERY: Duration = Duration::from_secs(1);

/// A client for one server, the master of a Sentinel group, or a Cluster. Cheap to clone; connects on first use.
///
/// A command is never retried after its connection was lost: it may have run, and only the caller knows whether it may
/// run twice. `MOVED` and `ASK` are followed, because a redirected command did not run.
#[derive(Clone)]
pub struct RedisClient {
    inner: Arc<ClientInner>,
}

struct ClientInner {
    address: Address,
    pool: PoolSettings,
    known: Mutex<Option<Arc<Topology>>>,
    /// Other servers may have taken over.
    stale: AtomicBool,
    /// Held during a refresh.
    refreshing: tokio::sync::Mutex<()>,
    /// When the last refresh ended.
    refreshed_at: Mutex<Option<Instant>>,
    is_checking: AtomicBool,
    closed: AtomicBool,
}

/// The servers and their slots, as far as known.
pub struct Topology {
    nodes: Vec<Node>,
}

/// A server and its slots.
pub struct Node {
    /// The server.
    pub server: Arc<Server>,
    /// The slots. A single server holds all of them.
    pub slots: Vec<RangeInclusive<u16>>,
}

impl Node {
    /// Whether the server holds this slot.
    pub fn holds(&self, slot: u16) -> bool {
        self.slots.iter().any(|slots| slots.contains(&slot))
    }
}

impl Topology {
    /// The masters, ordered by name.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The server that holds this slot.
    pub fn holder(&self, slot: u16) -> Option<&Arc<Server>> {
        self.nodes.iter().find(|node| node.holds(slot)).map(|node| &node.server)
    }

    /// Whether every slot has a server.
    pub fn is_whole(&self) -> bool {
        let slots = self.nodes.iter().flat_map(|node| &node.slots);
        slots.map(|slots| slots.len()).sum::<usize>() >= usize::from(SLOTS)
    }

    /// Whether the same servers hold the same slots.
    pub fn is_like(&self, other: &Topology) -> bool {
        let same = |(a, b): (&Node, &Node)| a.server.name() == b.server.name() && a.slots == b.slots;
        self.nodes.len() == other.nodes.len() && self.nodes.iter().zip(&other.nodes).all(same)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<Server>> {
        self.nodes.iter().map(|node| &node.server).find(|server| server.name() == name)
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisClient").field("pool", &self.inner.pool).finish_non_exhaustive()
    }
}

impl RedisClient {
    /// A client for the Redis at `url`. It uses at most `connections` to each server, named `client_name` in `CLIENT
    /// LIST`. Does not connect yet.
    ///
    /// # Errors
    /// [`RedisSetupError`] when the URL, the certificates or the number of connections is invalid.
    pub fn new(url: &str, tls: &Tls, connections: usize, client_name: &'static str) -> Result<Self, RedisSetupError> {
        if connections == 0 {
            return Err(RedisSetupError::Size);
        }
        // TLS needs one provider for the process. An error means that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = Address::parse(url, tls)?;
        let masters_only = matches!(address, Address::Sentinel { .. });
        Ok(Self {
            inner: Arc::new(ClientInner {
                address,
                pool: PoolSettings { size: connections, client_name, masters_only },
                known: Mutex::default(),
                stale: AtomicBool::new(false),
                refreshing: tokio::sync::Mutex::default(),
                refreshed_at: Mutex::default(),
                is_checking: AtomicBool::new(false),
                closed: AtomicBool::new(false),
            }),
        })
    }

    /// Whether this is a Cluster: only keys of one slot can change in one atomic step.
    pub fn is_cluster(&self) -> bool {
        matches!(self.inner.address, Address::Cluster { .. })
    }

    /// Whether other servers may take over.
    pub fn may_change(&self) -> bool {
        !matches!(self.inner.address, Address::One(_))
    }

    /// Whether new connections must lead to a master.
    pub fn masters_only(&self) -> bool {
        self.inner.pool.masters_only
    }

    /// Commands share one pipelined connection to each server.
    pub fn shared(&self) -> Connection {
        Connection::new(self.clone(), false)
    }

    /// Each command has its own connection: a large answer delays no other command.
    pub fn pooled(&self) -> Connection {
        Connection::new(self.clone(), true)
    }

    /// The topology, discovered when it is unknown or stale.
    ///
    /// # Errors
    /// No server can be asked.
    pub async fn topology(&self) -> RedisResult<Arc<Topology>> {
        let Some(known) = self.known() else { return self.refresh(self.inner.refreshing.lock().await, false).await };
        if !self.inner.stale.load(Ordering::Acquire) {
            self.check_master();
            return Ok(known);
        }
        match self.inner.refreshing.try_lock() {
            Ok(refreshing) if self.inner.refreshed_at.lock().is_none_or(|last| last.elapsed() >= REFRESH_EVERY) => {
                self.refresh(refreshing, false).await
            }
            // A refresh is running or has just ended: the known topology is used until then.
            _ => Ok(known),
        }
    }

    /// Discovers the topology now.
    ///
    /// # Errors
    /// No server can be asked.
    pub async fn discover(&self) -> RedisResult<Arc<Topology>> {
        self.refresh(self.inner.refreshing.lock().await, true).await
    }

    /// The former name of [`RedisClient::discover`].
    ///
    /// # Errors
    /// As [`RedisClient::discover`].
    #[deprecated(note = "renamed to `discover`")]
    pub async fn look_up(&self) -> RedisResult<Arc<Topology>> {
        self.discover().await
    }

    /// Closes all connections; no new ones are made.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        if let Some(known) = self.inner.known.lock().take() {
            known.nodes.iter().for_each(|node| node.server.close());
        }
    }

    pub(super) fn known(&self) -> Option<Arc<Topology>> {
        self.inner.known.lock().clone()
    }

    /// A master that was replaced while it hung accepts writes for a while after it wakes up, and those are lost. So
    /// the Sentinels are asked from time to time, in the background.
    fn check_master(&self) {
        let is_due = || self.inner.refreshed_at.lock().is_none_or(|last| last.elapsed() >= CHECK_MASTER_EVERY);
        if self.masters_only() && is_due() && !self.inner.is_checking.swap(true, Ordering::AcqRel) {
            let redis = self.clone();
            tokio::spawn(async move {
                // After an error the next check asks again.
                let _ = redis.discover().await;
                redis.inner.is_checking.store(false, Ordering::Release);
            });
        }
    }

    /// The next command refreshes the topology.
    pub(super) fn mark_stale(&self) {
        self.inner.stale.store(true, Ordering::Release);
    }

    async fn refresh(&self, _refreshing: MutexGuard<'_, ()>, is_forced: bool) -> RedisResult<Arc<Topology>> {
        if self.inner.closed.load(Ordering::Acquire) {
            return Err((ErrorKind::Client, "the connections to Redis are closed").into());
        }
        let known = self.known();
        let stale = self.inner.stale.swap(false, Ordering::AcqRel);
        if let Some(known) = known.as_ref().filter(|_| !stale && !is_forced) {
            // Another caller has refreshed it meanwhile.
            return Ok(known.clone());
        }
        let nodes = self.inner.query_nodes(known.as_deref()).await;
        *self.inner.refreshed_at.lock() = Some(Instant::now());
        let nodes = nodes.inspect_err(|_| self.mark_stale())?;
        let topology = Arc::new(Topology { nodes });
        *self.inner.known.lock() = Some(topology.clone());
        Ok(topology)
    }
}

impl ClientInner {
    async fn query_nodes(&self, known: Option<&Topology>) -> RedisResult<Vec<Node>> {
        match &self.address {
            Address::One(info) => self.single_node(info.clone(), known),
            Address::Sentinel { sentinels, master, node } => {
                let (host, port) = first_reply(sentinels, |asked| query_sentinel(asked, master)).await?;
                self.single_node(node.at(&host, port), known)
            }
            Address::Cluster { seeds, node } => {
                let servers = known.iter().flat_map(|known| &known.nodes).map(|node| node.server.info());
                let asked: Vec<_> = servers.chain(seeds).cloned().collect();
                let owners = first_reply(&asked, query_cluster).await?;
                let nodes = owners.into_iter().map(|SlotOwner { host, port, slots }| {
                    Ok(Node { server: self.server(node.at(&host, port), known)?, slots })
                });
                nodes.collect()
            }
        }
    }

    fn single_node(&self, info: ConnectionInfo, known: Option<&Topology>) -> RedisResult<Vec<Node>> {
        Ok(vec![Node { server: self.server(info, known)?, slots: vec![0..=SLOTS - 1] }])
    }

    /// The known server with its connections, or a new one.
    fn server(&self, info: ConnectionInfo, known: Option<&Topology>) -> RedisResult<Arc<Server>> {
        match known.and_then(|known| known.by_name(&name_of(&info))) {
            Some(server) => Ok(server.clone()),
            None => Ok(Arc::new(Server::new(info, &self.pool)?)),
        }
    }
}

/// Asks the servers in random order until one answers. The next one is asked when the one before fails or takes long.
async fn first_reply<T, F: Future<Output = RedisResult<T>>>(
    servers: &[ConnectionInfo],
    ask: impl Fn(ConnectionInfo) -> F,
) -> RedisResult<T> {
    let mut last = RedisError::from((ErrorKind::InvalidClientConfig, "no server to ask"));
    let mut servers: Vec<_> = servers.iter().collect();
    fastrand::shuffle(&mut servers);
    let mut servers = servers.into_iter();
    let mut asked = FuturesUnordered::new();
    loop {
        let next = servers.next();
        let is_last = next.is_none();
        asked.extend(next.map(|server| timeout(CONNECT_TIMEOUT, ask(server.clone()))));
        let patience = if is_last { CONNECT_TIMEOUT } else { HEDGE_AFTER };
        match timeout(patience, asked.next()).await {
            Ok(Some(Ok(Ok(answer)))) => return Ok(answer),
            Ok(Some(Ok(Err(error)))) => last = error,
            Ok(Some(Err(_))) => last = io::Error::from(io::ErrorKind::TimedOut).into(),
            Ok(None) => return Err(last),
            Err(_) => {}
        }
    }
}

async fn query_sentinel(sentinel: ConnectionInfo, master: &str) -> RedisResult<(String, u16)> {
    let mut connection =
        Client::open(sentinel)?.get_multiplexed_async_connection_with_config(&connection_config()).await?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let answer: Option<(String, u16)> = question.query_async(&mut connection).await?;
    answer.ok_or_else(|| (ErrorKind::MasterNameNotFoundBySentinel, "the Sentinels know no master of this name").into())
}

async fn query_cluster(server: ConnectionInfo) -> RedisResult<Vec<SlotOwner>> {
    let asked = match server.addr() {
        redis::ConnectionAddr::Tcp(host, _) | redis::ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    };
    let mut connection =
        Client::open(server)?.get_multiplexed_async_connection_with_config(&connection_config()).await?;
    let answer: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    match read_slots(answer, &asked) {
        Some(owners) if !owners.is_empty() => Ok(owners),
        _ => Err((ErrorKind::Server(ServerErrorKind::ClusterDown), "no server holds a slot").into()),
    }
}
