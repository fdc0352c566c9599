//! Refused credentials that come back are answered ever more slowly.
//!
//! The handshake of a refused socket succeeds, so that a browser sees the close code. To a page that resets its backoff
//! in `onopen`, the refusal looks like success, and it would come back at once, for ever. The close frame therefore
//! waits: not for the first refusal, but longer with each further one.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{ConnectionLimits, ConnectionPermit, subscriber_of};

/// The wait of the second refusal. Each further one waits twice as long.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);
/// A refusal is forgotten after this time, or twice this time, without another one.
const QUIET: Duration = Duration::from_secs(300);
/// The refusals that are remembered. Beyond that the oldest are forgotten.
const MAX_REMEMBERED: usize = 1 << 14;
/// The share of the replica's connections that may wait: one in this number. Others are closed at once.
const SHARE: usize = 4;

/// A client's address and endpoint, as a keyed hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ClientKey(u64);

/// How often each credential of each client was refused, and the sockets that wait for their close.
#[derive(Debug)]
pub(super) struct Slowdown {
    hasher: RandomState,
    refusals: Mutex<Refusals>,
    waiting: Arc<Semaphore>,
    crowded: Arc<Notify>,
}

/// Counts by the hash of client and credential. No token is kept. What is not counted again during one generation goes
/// with the next, which bounds both age and size without a search.
#[derive(Debug)]
struct Refusals {
    current: HashMap<u64, u32>,
    previous: HashMap<u64, u32>,
    since: Instant,
}

/// A refused socket's wait for its close.
#[derive(Debug)]
#[must_use = "the close comes after the wait"]
pub(crate) struct CloseDelay {
    lasts: Duration,
    crowded: Arc<Notify>,
    _share: OwnedSemaphorePermit,
}

impl Slowdown {
    /// For a replica with at most this many connections.
    pub(super) fn new(connections: usize) -> Self {
        let refusals = Refusals { current: HashMap::new(), previous: HashMap::new(), since: Instant::now() };
        Self {
            hasher: RandomState::new(),
            refusals: Mutex::new(refusals),
            waiting: Arc::new(Semaphore::new((connections / SHARE).clamp(1, Semaphore::MAX_PERMITS))),
            crowded: Arc::default(),
        }
    }

    /// Ends all waits: the replica needs their connections.
    pub(super) fn end_all(&self) {
        self.crowded.notify_waiters();
    }
}

impl ConnectionLimits {
    /// The key of a client, which reconnects from the same address to the same endpoint.
    pub(crate) fn client_key(&self, address: IpAddr, endpoint: &str) -> ClientKey {
        ClientKey(self.slowdown.hasher.hash_one((subscriber_of(address), endpoint)))
    }

    /// Counts a refusal of the client's credential. `None`: close the socket at once.
    pub(crate) fn count_refusal(&self, client: ClientKey, credential: &str) -> Option<CloseDelay> {
        let slowdown = &self.slowdown;
        let refused = slowdown.hasher.hash_one((client.0, credential));
        let before = slowdown.refusals.lock().count(refused, Instant::now());
        let share = (before > 0).then(|| slowdown.waiting.clone().try_acquire_owned().ok()).flatten()?;
        Some(CloseDelay { lasts: delay(before), crowded: slowdown.crowded.clone(), _share: share })
    }
}

impl ConnectionPermit {
    /// Returns what the connection holds of the limit of its address: a client with a good token may need it.
    pub(crate) fn release_address(&mut self) {
        self._address = None;
    }
}

impl CloseDelay {
    /// Returns when the socket is to be closed: in time, or as soon as the replica is full.
    pub(crate) async fn wait(self) {
        let _ = tokio::time::timeout(self.lasts, self.crowded.notified()).await;
    }
}

impl Refusals {
    /// Counts a refusal; returns how many came before it.
    fn count(&mut self, refused: u64, now: Instant) -> u32 {
        let age = now.saturating_duration_since(self.since);
        if age >= QUIET || self.current.len() >= MAX_REMEMBERED / 2 {
            self.previous = std::mem::take(&mut self.current);
            if age >= 2 * QUIET {
                self.previous = HashMap::new();
            }
            self.since = now;
        }
        let before = self.current.get(&refused).copied().or_else(|| self.previous.remove(&refused)).unwrap_or_default();
        self.current.insert(refused, before.saturating_add(1));
        before
    }
}

/// How long a refusal waits for its close, after this many others.
fn delay(before: u32) -> Duration {
    match before {
        0 => Duration::ZERO,
        before => FIRST.saturating_mul(1 << (before - 1).min(16)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::config;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn limits(connections: usize) -> ConnectionLimits {
        let limits = config::Limits { connections: Some(connections), ..config::Limits::default() };
        ConnectionLimits::new(&limits, 0)
    }

    /// Refuses the credential, waits, and returns how long that took.
    async fn refuse(limits: &ConnectionLimits, client: ClientKey, credential: &str) -> Duration {
        let start = Instant::now();
        if let Some(delay) = limits.count_refusal(client, credential) {
            delay.wait().await;
        }
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn each_refusal_waits_longer_up_to_thirty_seconds() {
        let limits = limits(100);
        let client = limits.client_key(HERE, "/ws/mission");
        let mut waits = Vec::new();
        for _ in 0..11 {
            waits.push(refuse(&limits, client, "bad").await.as_millis());
        }
        assert_eq!(waits, [0, 250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        // A client that comes back at once is refused less than 30 times in its first ten minutes.
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn other_tokens_addresses_and_endpoints_are_not_slowed_down() {
        let limits = limits(100);
        let client = limits.client_key(HERE, "/ws/mission");
        for _ in 0..5 {
            refuse(&limits, client, "bad").await;
        }
        let elsewhere = limits.client_key(IpAddr::from([10, 0, 0, 1]), "/ws/mission");
        let graph = limits.client_key(HERE, "/ws/graph");
        for (client, credential) in [(client, "other"), (client, ""), (elsewhere, "bad"), (graph, "bad")] {
            assert_eq!(refuse(&limits, client, credential).await, Duration::ZERO);
        }
        let prefix = |text: &str| limits.client_key(text.parse().expect("an address"), "/ws");
        assert_eq!(prefix("2001:db8::1"), prefix("2001:db8::2"), "an IPv6 /64 is one client");
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_forgotten_after_quiet_minutes_and_not_before() {
        let limits = limits(100);
        let client = limits.client_key(HERE, "/ws");
        for _ in 0..4 {
            refuse(&limits, client, "bad").await;
        }
        tokio::time::advance(QUIET - Duration::from_secs(1)).await;
        assert_eq!(refuse(&limits, client, "bad").await, Duration::from_secs(2));
        tokio::time::advance(2 * QUIET).await;
        assert_eq!(refuse(&limits, client, "bad").await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded() {
        let limits = limits(100);
        let client = limits.client_key(HERE, "/ws");
        for n in 0..3 * MAX_REMEMBERED {
            assert!(limits.count_refusal(client, &n.to_string()).is_none());
            // One that keeps coming back is remembered whatever others do.
            assert_eq!(limits.count_refusal(client, "regular").is_some(), n > 0);
        }
        let refusals = limits.slowdown.refusals.lock();
        assert!(refusals.current.len() + refusals.previous.len() <= MAX_REMEMBERED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quarter_of_the_connections_may_wait_and_a_full_replica_ends_their_wait() {
        let limits = limits(8);
        let client = limits.client_key(HERE, "/ws");
        for _ in 0..9 {
            refuse(&limits, client, "bad").await;
        }
        let mut waiting: Vec<_> =
            (0..2).map(|_| limits.count_refusal(client, "bad").expect("a share is free")).collect();
        assert!(limits.count_refusal(client, "bad").is_none(), "closed at once");
        let first = waiting.remove(0);
        let mut first = std::pin::pin!(first.wait());
        assert!(first.as_mut().now_or_never().is_none(), "it waits");
        let _permits: Vec<_> = (0..8).map(|_| limits.connect(HERE).expect("a permit is free")).collect();
        let start = Instant::now();
        assert!(limits.connect(HERE).is_err());
        first.await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(limits.count_refusal(client, "bad").is_some(), "its share is free again");
    }

    #[tokio::test]
    async fn a_waiting_socket_holds_no_place_of_its_address() {
        let config = config::Limits { connections: Some(8), per_address: 1, ..config::Limits::default() };
        let limits = ConnectionLimits::new(&config, 0);
        let mut refused = limits.connect(HERE).expect("a permit is free");
        assert!(limits.connect(HERE).is_err());
        refused.release_address();
        let _good = limits.connect(HERE).expect("the address has its place back");
        assert_eq!(limits.open(), 2, "the replica counts both");
    }
}
