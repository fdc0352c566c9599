//! Limits on connections and on message rates. Permits return what they hold when dropped.

mod slowdown;
pub(crate) mod transient;

use std::{
    hash::Hash,
    io,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

use self::{slowdown::Slowdown, transient::TransientLimits};
use crate::config;

pub(crate) use self::{
    slowdown::{ClientKey, CloseDelay},
    transient::BodyPermit,
};

/// The limit that refused a connection. Each closes with 4429 or answers HTTP 429, which means: back off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum LimitReached {
    /// `limits.connections`.
    #[error("this replica has no room for another connection")]
    Replica,
    /// `limits.per_user`.
    #[error("too many connections of this user")]
    User,
    /// `limits.per_address`.
    #[error("too many connections from this address")]
    Address,
}

impl LimitReached {
    /// The value of the `reason` label of `crewcast_handshakes_refused_total`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            LimitReached::Replica => "limit_replica",
            LimitReached::User => "limit_user",
            LimitReached::Address => "limit_address",
        }
    }
}

/// Counts the connections of one replica. All clones share the count.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimits {
    total: Arc<ReplicaCount>,
    addresses: Arc<PerKey<IpAddr>>,
    users: Arc<PerKey<Arc<str>>>,
    transient: TransientLimits,
    slowdown: Arc<Slowdown>,
}

impl ConnectionLimits {
    /// The configured limits. Without `limits.connections`, as many connections as `open_files` allows.
    pub(crate) fn new(limits: &config::Limits, open_files: u64) -> Self {
        let bound = limits.connections.unwrap_or_else(|| default_connections(open_files));
        Self {
            total: Arc::new(ReplicaCount { open: AtomicUsize::new(0), bound }),
            addresses: Arc::new(PerKey::new(limits.per_address)),
            users: Arc::new(PerKey::new(limits.per_user)),
            transient: TransientLimits::default(),
            slowdown: Arc::new(Slowdown::new(bound)),
        }
    }

    /// A permit for a connection from `address`, before its identity is known. An IPv6 client can choose from a whole
    /// /64 (RFC 6177), which counts as one address.
    ///
    /// # Errors
    /// [`LimitReached::Replica`] or [`LimitReached::Address`].
    pub(crate) fn connect(&self, address: IpAddr) -> Result<ConnectionPermit, LimitReached> {
        let Some(total) = ReplicaPermit::take(&self.total) else {
            self.slowdown.end_all();
            return Err(LimitReached::Replica);
        };
        let address = match self.addresses.bound {
            0 => None,
            _ => Some(KeyPermit::take(&self.addresses, subscriber_of(address)).ok_or(LimitReached::Address)?),
        };
        Ok(ConnectionPermit { _total: total, _address: address.map(Box::new) })
    }

    /// A permit for a connection of this `sub`.
    ///
    /// # Errors
    /// [`LimitReached::User`].
    pub(crate) fn identify(&self, sub: &Arc<str>) -> Result<UserPermit, LimitReached> {
        KeyPermit::take(&self.users, Arc::clone(sub)).map(UserPermit).ok_or(LimitReached::User)
    }

    /// The number of open connections.
    #[cfg(test)]
    pub(crate) fn open(&self) -> usize {
        self.total.open.load(Ordering::Relaxed)
    }

    /// The limit of this replica.
    #[cfg(test)]
    pub(crate) fn bound(&self) -> usize {
        self.total.bound
    }
}

/// Counts a connection of the replica and of the address until dropped.
#[derive(Debug)]
#[must_use = "dropping it returns the permit"]
pub(crate) struct ConnectionPermit {
    _total: ReplicaPermit,
    /// Usually there is no limit per address.
    _address: Option<Box<KeyPermit<IpAddr>>>,
}

/// Counts a connection of a user until dropped.
#[derive(Debug)]
#[must_use = "dropping it returns the permit"]
pub(crate) struct UserPermit(#[expect(dead_code, reason = "kept for its drop")] KeyPermit<Arc<str>>);

#[derive(Debug)]
struct ReplicaCount {
    open: AtomicUsize,
    bound: usize,
}

#[derive(Debug)]
struct ReplicaPermit(Arc<ReplicaCount>);

impl ReplicaPermit {
    fn take(total: &Arc<ReplicaCount>) -> Option<Self> {
        let one_more = |open| (open < total.bound).then_some(open + 1);
        total.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(Arc::clone(total)))
    }
}

impl Drop for ReplicaPermit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts by key. A key without open connections takes no memory.
#[derive(Debug)]
struct PerKey<K: Eq + Hash> {
    open: DashMap<K, usize>,
    bound: usize,
}

impl<K: Eq + Hash> PerKey<K> {
    fn new(bound: usize) -> Self {
        Self { open: DashMap::new(), bound }
    }
}

/// Counts one connection of a key; empty if there is no limit.
#[derive(Debug)]
struct KeyPermit<K: Eq + Hash>(Option<(Arc<PerKey<K>>, K)>);

impl<K: Eq + Hash + Clone> KeyPermit<K> {
    fn take(counts: &Arc<PerKey<K>>, key: K) -> Option<Self> {
        if counts.bound == 0 {
            return Some(Self(None));
        }
        // Checked and counted under the entry's lock, so that two connections cannot take the last permit.
        match counts.open.entry(key.clone()) {
            Entry::Occupied(open) if *open.get() >= counts.bound => return None,
            Entry::Occupied(mut open) => *open.get_mut() += 1,
            Entry::Vacant(none) => drop(none.insert(1)),
        }
        Some(Self(Some((Arc::clone(counts), key))))
    }
}

impl<K: Eq + Hash> Drop for KeyPermit<K> {
    fn drop(&mut self) {
        let Some((counts, key)) = &self.0 else { return };
        counts.open.remove_if_mut(key, |_, open| {
            *open -= 1;
            *open == 0
        });
    }
}

/// The address that counts as one client: an IPv4 address, or an IPv6 /64.
fn subscriber_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
    }
}

/// How often something may happen. All users of the rate share it; each keeps its own usage in a [`Bucket`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    between: Duration,
    ahead: Duration,
}

impl Rate {
    /// `count` per minute: that many at once after a quiet minute, then evenly spaced.
    pub(crate) fn per_minute(count: u32) -> Self {
        let minute = Duration::from_secs(60);
        let between = minute / count.max(1);
        Self { between, ahead: minute.saturating_sub(between) }
    }
}

/// A token bucket in 16 bytes (GCRA, ITU-T I.371): the moment until which its owner has used up its share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    used_until: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(now: Instant) -> Self {
        Self { used_until: now }
    }

    /// Takes one token; returns `false` if none is left. A refused call takes nothing.
    #[must_use]
    pub(crate) fn take(&mut self, rate: &Rate, now: Instant) -> bool {
        let used_until = self.used_until.max(now);
        if used_until.duration_since(now) > rate.ahead {
            return false;
        }
        self.used_until = used_until + rate.between;
        true
    }
}

/// Descriptors that a replica needs besides connections: listeners, Redis, logs, exporters, and sockets that are being
/// refused.
const MIN_RESERVE: u64 = 64;
/// Used if the system sets no limit: more than any replica has memory for.
const UNLIMITED: u64 = 1 << 20;

/// How many connections fit into this many open files. A twentieth, and at least 64, is reserved.
pub(crate) fn default_connections(open_files: u64) -> usize {
    let reserve = (open_files / 20).max(MIN_RESERVE);
    usize::try_from(open_files.saturating_sub(reserve).max(1)).unwrap_or(usize::MAX)
}

/// Raises the soft limit of open files to the hard one and returns the resulting limit. Distributions keep the soft
/// limit at 1024 for programs that use `select`; the gateway does not.
///
/// # Errors
/// If the system refuses; the soft limit then stays as it is.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(open_files())
}

/// The current soft limit of open files.
pub(crate) fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn limits(connections: usize, per_user: usize, per_address: usize) -> ConnectionLimits {
        let limits =
            config::Limits { connections: Some(connections), per_user, per_address, ..config::Limits::default() };
        ConnectionLimits::new(&limits, 0)
    }

    #[test]
    fn a_full_replica_refuses_connections_until_one_leaves() {
        let limits = limits(2, 0, 0);
        let first = limits.connect(HERE).expect("a permit is free");
        let _second = limits.connect(HERE).expect("a permit is free");
        assert_eq!(limits.connect(HERE).err(), Some(LimitReached::Replica));
        assert_eq!(limits.open(), 2);
        drop(first);
        let _third = limits.connect(HERE).expect("a permit is free again");
    }

    #[test]
    fn an_address_has_its_own_limit_and_a_refusal_takes_no_permit() {
        let limits = limits(10, 0, 1);
        let permit = limits.connect(HERE).expect("a permit is free");
        assert_eq!(limits.connect(HERE).err(), Some(LimitReached::Address));
        assert_eq!(limits.open(), 1, "the replica's permit was returned");
        let _other = limits.connect(IpAddr::from([10, 0, 0, 1])).expect("another address");
        drop(permit);
        let _again = limits.connect(HERE).expect("a permit is free again");
    }

    #[test]
    fn an_ipv6_prefix_counts_as_one_address() {
        let limits = limits(10, 0, 1);
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let _one = limits.connect(address("2001:db8::1")).expect("a permit is free");
        assert_eq!(limits.connect(address("2001:db8::ffff:2")).err(), Some(LimitReached::Address));
        let _next = limits.connect(address("2001:db8:0:1::1")).expect("another /64");
        let _v4 = limits.connect(address("10.0.0.1")).expect("a permit is free");
        assert_eq!(limits.connect(address("::ffff:10.0.0.1")).err(), Some(LimitReached::Address));
    }

    #[test]
    fn a_user_has_its_own_limit_and_keeps_no_memory_after_leaving() {
        let limits = limits(10, 2, 0);
        let (anna, ben): (Arc<str>, Arc<str>) = ("anna".into(), "ben".into());
        let permits =
            [limits.identify(&anna).expect("a permit is free"), limits.identify(&anna).expect("a permit is free")];
        assert_eq!(limits.identify(&anna).err(), Some(LimitReached::User));
        let of_ben = limits.identify(&ben).expect("a permit is free");
        drop(permits);
        assert!(!limits.users.open.contains_key(&anna));
        drop(of_ben);
        assert!(limits.users.open.is_empty());
    }

    #[test]
    fn zero_means_no_limit() {
        let limits = limits(100, 0, 0);
        let permits: Vec<_> = (0..100).map(|_| limits.connect(HERE).expect("a permit is free")).collect();
        let users: Vec<_> = (0..5000).map(|_| limits.identify(&"anna".into()).expect("no limit")).collect();
        assert!(limits.users.open.is_empty() && limits.addresses.open.is_empty());
        drop((permits, users));
    }

    #[test]
    fn many_threads_never_exceed_a_limit_and_leave_nothing_behind() {
        let limits = limits(64, 3, 5);
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let sub: Arc<str> = "anna".into();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let Ok(permit) = limits.connect(HERE) else { continue };
                        if let Ok(user) = limits.identify(&sub) {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            std::thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(user);
                        }
                        drop(permit);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
        assert_eq!(limits.open(), 0);
        assert!(limits.users.open.is_empty() && limits.addresses.open.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_allows_a_minutes_worth_at_once_and_then_evenly() {
        let rate = Rate::per_minute(600);
        let mut bucket = Bucket::new(Instant::now());
        let mut take = || bucket.take(&rate, Instant::now());
        assert_eq!((0..1000).filter(|_| take()).count(), 600);
        tokio::time::advance(Duration::from_millis(99)).await;
        assert!(!take());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(take() && !take());
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!((0..1000).filter(|_| take()).count(), 600, "an idle hour saves up no more than a minute's worth");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_of_one_per_minute_allows_one_per_minute() {
        let rate = Rate::per_minute(1);
        let mut bucket = Bucket::new(Instant::now());
        assert!(bucket.take(&rate, Instant::now()) && !bucket.take(&rate, Instant::now()));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(bucket.take(&rate, Instant::now()));
    }

    #[test]
    fn a_bucket_takes_sixteen_bytes() {
        assert!(size_of::<Bucket>() <= 16);
    }

    #[test]
    fn the_limit_of_connections_follows_from_open_files() {
        assert_eq!(default_connections(20_000), 19_000);
        assert_eq!(default_connections(1024), 960);
        assert_eq!(default_connections(10), 1);
        let unset = ConnectionLimits::new(&config::Limits::default(), 1024);
        assert_eq!(unset.bound(), 960);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let before = getrlimit(Resource::Nofile);
        let lowered = Rlimit { current: before.maximum.map(|maximum| maximum / 2), maximum: before.maximum };
        setrlimit(Resource::Nofile, lowered).expect("lowering is allowed");
        let raised = raise_open_files().expect("raising to the hard limit is allowed");
        assert_eq!(Some(raised), before.maximum.or(Some(UNLIMITED)));
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
