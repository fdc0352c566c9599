//! The servers behind a URL, and who of them serves what.

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
    slots::{SLOTS, Share, read_slots},
};

/// How long one server may think about who serves before another is asked as well.
const HEDGE: Duration = Duration::from_millis(300);
/// Those who meet an error all doubt; so often they look.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often Sentinels are asked although nothing has failed.
const LOOK_FOR_MASTER_EVERY: Duration = Duration::from_secs(1);

/// One server, the master of a Sentinel group, or a Cluster. Cheap to clone; connects when it is first used.
///
/// A command is never sent again by itself after its connection was lost: whether it happened is known to nobody, and
/// only the caller knows whether it may happen twice. `MOVED` and `ASK` are followed, since those did not happen.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    address: Address,
    pool: PoolSettings,
    known: Mutex<Option<Arc<Topology>>>,
    /// The servers may be others than those that are known.
    doubted: AtomicBool,
    /// Held while somebody looks.
    looking: tokio::sync::Mutex<()>,
    /// When somebody looked last.
    looked: Mutex<Option<Instant>>,
    is_looking_again: AtomicBool,
    closed: AtomicBool,
}

/// Who serves, as far as is known.
pub struct Topology {
    nodes: Vec<Node>,
}

/// A server and what it holds.
pub struct Node {
    /// The server.
    pub server: Arc<Server>,
    /// Its slots. A server that is alone holds all.
    pub slots: Vec<RangeInclusive<u16>>,
}

impl Node {
    /// Whether it holds this slot.
    pub fn holds(&self, slot: u16) -> bool {
        self.slots.iter().any(|slots| slots.contains(&slot))
    }
}

impl Topology {
    /// The masters, by name.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The server that holds this slot.
    pub fn holder(&self, slot: u16) -> Option<&Arc<Server>> {
        self.nodes.iter().find(|node| node.holds(slot)).map(|node| &node.server)
    }

    /// Whether somebody holds each slot.
    pub fn is_whole(&self) -> bool {
        let slots = self.nodes.iter().flat_map(|node| &node.slots);
        slots.map(|slots| slots.len()).sum::<usize>() >= usize::from(SLOTS)
    }

    /// Whether the same servers hold the same slots.
    pub fn is_like(&self, other: &Topology) -> bool {
        let same = |(a, b): (&Node, &Node)| a.server.name() == b.server.name() && a.slots == b.slots;
        self.nodes.len() == other.nodes.len() && self.nodes.iter().zip(&other.nodes).all(same)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Server>> {
        self.nodes.iter().map(|node| &node.server).find(|server| server.name() == name)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("pool", &self.inner.pool).finish_non_exhaustive()
    }
}

impl Redis {
    /// The Redis that `url` names, over at most `connections` to each of its servers, which `CLIENT LIST` calls
    /// `client_name`. Nothing is connected yet.
    ///
    /// # Errors
    /// [`RedisSetupError`] when the URL, the certificates or the number makes no sense.
    pub fn new(url: &str, tls: &Tls, connections: usize, client_name: &'static str) -> Result<Self, RedisSetupError> {
        if connections == 0 {
            return Err(RedisSetupError::Size);
        }
        // TLS needs one provider for the process; whoever was first is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = Address::parse(url, tls)?;
        let masters_only = matches!(address, Address::Sentinel { .. });
        Ok(Self {
            inner: Arc::new(Inner {
                address,
                pool: PoolSettings { size: connections, client_name, masters_only },
                known: Mutex::default(),
                doubted: AtomicBool::new(false),
                looking: tokio::sync::Mutex::default(),
                looked: Mutex::default(),
                is_looking_again: AtomicBool::new(false),
                closed: AtomicBool::new(false),
            }),
        })
    }

    /// Whether it is a Cluster: its keys lie on several servers, and only those of one slot are atomic together.
    pub fn is_cluster(&self) -> bool {
        matches!(self.inner.address, Address::Cluster { .. })
    }

    /// Whether other servers may come to serve.
    pub fn may_change(&self) -> bool {
        !matches!(self.inner.address, Address::One(_))
    }

    /// Whether a server must say that it is a master before it is believed.
    pub fn masters_only(&self) -> bool {
        self.inner.pool.masters_only
    }

    /// Commands pipeline with those of all others on one connection to each server.
    pub fn shared(&self) -> Connection {
        Connection::new(self.clone(), false)
    }

    /// Each command has a connection to itself: a large answer holds up nobody.
    pub fn pooled(&self) -> Connection {
        Connection::new(self.clone(), true)
    }

    /// Who serves; looked up when it is not known or in doubt.
    ///
    /// # Errors
    /// When nobody can be asked.
    pub async fn topology(&self) -> RedisResult<Arc<Topology>> {
        let Some(known) = self.known() else { return self.look(self.inner.looking.lock().await, false).await };
        if !self.inner.doubted.load(Ordering::Acquire) {
            self.look_again_sometimes();
            return Ok(known);
        }
        match self.inner.looking.try_lock() {
            Ok(looking) if self.inner.looked.lock().is_none_or(|last| last.elapsed() >= LOOK_EVERY) => {
                self.look(looking, false).await
            }
            // Somebody looks, or has just looked: what is known serves until then.
            _ => Ok(known),
        }
    }

    /// Who serves, looked up now.
    ///
    /// # Errors
    /// When nobody can be asked.
    pub async fn look_up(&self) -> RedisResult<Arc<Topology>> {
        self.look(self.inner.looking.lock().await, true).await
    }

    /// Nobody gets a connection any more.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        if let Some(known) = self.inner.known.lock().take() {
            known.nodes.iter().for_each(|node| node.server.close());
        }
    }

    pub(super) fn known(&self) -> Option<Arc<Topology>> {
        self.inner.known.lock().clone()
    }

    /// A master that was deposed while it hung believes in itself for a while when it wakes up: what is written
    /// there is lost. So the Sentinels are asked from time to time, beside the commands.
    fn look_again_sometimes(&self) {
        let is_due = || self.inner.looked.lock().is_none_or(|last| last.elapsed() >= LOOK_FOR_MASTER_EVERY);
        if self.masters_only() && is_due() && !self.inner.is_looking_again.swap(true, Ordering::AcqRel) {
            let redis = self.clone();
            tokio::spawn(async move {
                // Who cannot be asked now is asked again.
                let _ = redis.look_up().await;
                redis.inner.is_looking_again.store(false, Ordering::Release);
            });
        }
    }

    /// The next command looks who serves.
    pub(super) fn doubt(&self) {
        self.inner.doubted.store(true, Ordering::Release);
    }

    async fn look(&self, _looking: MutexGuard<'_, ()>, anew: bool) -> RedisResult<Arc<Topology>> {
        if self.inner.closed.load(Ordering::Acquire) {
            return Err((ErrorKind::Client, "the connections to Redis are closed").into());
        }
        let known = self.known();
        let doubted = self.inner.doubted.swap(false, Ordering::AcqRel);
        if let Some(known) = known.as_ref().filter(|_| !doubted && !anew) {
            // Somebody else has looked meanwhile.
            return Ok(known.clone());
        }
        let looked = self.inner.look(known.as_deref()).await;
        *self.inner.looked.lock() = Some(Instant::now());
        let nodes = looked.inspect_err(|_| self.doubt())?;
        let topology = Arc::new(Topology { nodes });
        *self.inner.known.lock() = Some(topology.clone());
        Ok(topology)
    }
}

impl Inner {
    async fn look(&self, known: Option<&Topology>) -> RedisResult<Vec<Node>> {
        match &self.address {
            Address::One(info) => self.alone(info.clone(), known),
            Address::Sentinel { sentinels, master, node } => {
                let (host, port) = first_answer(sentinels, |asked| ask_sentinel(asked, master)).await?;
                self.alone(node.at(&host, port), known)
            }
            Address::Cluster { seeds, node } => {
                let servers = known.iter().flat_map(|known| &known.nodes).map(|node| node.server.info());
                let asked: Vec<_> = servers.chain(seeds).cloned().collect();
                let shares = first_answer(&asked, ask_cluster).await?;
                let nodes = shares.into_iter().map(|Share { host, port, slots }| {
                    Ok(Node { server: self.server(node.at(&host, port), known)?, slots })
                });
                nodes.collect()
            }
        }
    }

    fn alone(&self, info: ConnectionInfo, known: Option<&Topology>) -> RedisResult<Vec<Node>> {
        Ok(vec![Node { server: self.server(info, known)?, slots: vec![0..=SLOTS - 1] }])
    }

    /// The server as it is known, with its connections, or another.
    fn server(&self, info: ConnectionInfo, known: Option<&Topology>) -> RedisResult<Arc<Server>> {
        match known.and_then(|known| known.named(&name_of(&info))) {
            Some(server) => Ok(server.clone()),
            None => Ok(Arc::new(Server::new(info, &self.pool)?)),
        }
    }
}

/// Asks in random order, the next one as soon as the one before fails or takes long, until somebody answers.
async fn first_answer<T, F: Future<Output = RedisResult<T>>>(
    servers: &[ConnectionInfo],
    ask: impl Fn(ConnectionInfo) -> F,
) -> RedisResult<T> {
    let mut last = RedisError::from((ErrorKind::InvalidClientConfig, "nobody to ask"));
    let mut servers: Vec<_> = servers.iter().collect();
    fastrand::shuffle(&mut servers);
    let mut servers = servers.into_iter();
    let mut asked = FuturesUnordered::new();
    loop {
        let next = servers.next();
        let is_last = next.is_none();
        asked.extend(next.map(|server| timeout(CONNECT_TIMEOUT, ask(server.clone()))));
        let patience = if is_last { CONNECT_TIMEOUT } else { HEDGE };
        match timeout(patience, asked.next()).await {
            Ok(Some(Ok(Ok(answer)))) => return Ok(answer),
            Ok(Some(Ok(Err(error)))) => last = error,
            Ok(Some(Err(_))) => last = io::Error::from(io::ErrorKind::TimedOut).into(),
            Ok(None) => return Err(last),
            Err(_) => {}
        }
    }
}

async fn ask_sentinel(sentinel: ConnectionInfo, master: &str) -> RedisResult<(String, u16)> {
    let mut connection =
        Client::open(sentinel)?.get_multiplexed_async_connection_with_config(&connection_config()).await?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let answer: Option<(String, u16)> = question.query_async(&mut connection).await?;
    answer.ok_or_else(|| (ErrorKind::MasterNameNotFoundBySentinel, "the Sentinels know no master of this name").into())
}

async fn ask_cluster(server: ConnectionInfo) -> RedisResult<Vec<Share>> {
    let asked = match server.addr() {
        redis::ConnectionAddr::Tcp(host, _) | redis::ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    };
    let mut connection =
        Client::open(server)?.get_multiplexed_async_connection_with_config(&connection_config()).await?;
    let answer: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    match read_slots(answer, &asked) {
        Some(shares) if !shares.is_empty() => Ok(shares),
        _ => Err((ErrorKind::Server(ServerErrorKind::ClusterDown), "nobody holds a slot").into()),
    }
}
