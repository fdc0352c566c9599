//! Usage counters by org. Each counting site keeps the counters of its org, so that counting an event needs no lookup.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crewcast_events::{Channel, Namespaces};
use dashmap::{DashMap, DashSet};
use parking_lot::Mutex;

use super::{UsageReport, org_of};

/// An endpoint's name. A thin pointer to a `String`, because it is half as large as a fat one and each connection
/// holds two.
pub(crate) type EndpointName = Arc<String>;

/// The counters of this replica. The counters of an org are kept forever: only the operator issues the keys to its
/// tokens, so the number of orgs is bounded.
pub(crate) struct UsageCounters {
    namespaces: Namespaces,
    /// `None`: connections without an org.
    orgs: DashMap<Option<Arc<str>>, Arc<OrgUsage>>,
    /// The names of the endpoints: each stored once, whatever the number of connections.
    endpoints: DashSet<EndpointName>,
    received: AtomicU64,
    rejected: AtomicU64,
}

/// The counters of one org.
#[derive(Debug, Default)]
pub(crate) struct OrgUsage {
    connections: Mutex<BTreeMap<EndpointName, u64>>,
    received: AtomicU64,
    delivered: AtomicU64,
    missed: AtomicU64,
}

impl OrgUsage {
    /// Counts events that were written to a connection.
    pub(crate) fn delivered(&self, events: u64) {
        self.delivered.fetch_add(events, Ordering::Relaxed);
    }

    /// Counts events that a connection was told it missed.
    pub(crate) fn missed(&self, events: u64) {
        self.missed.fetch_add(events, Ordering::Relaxed);
    }

    /// The current values.
    pub(crate) fn report(&self) -> UsageReport {
        let connections = self.connections.lock();
        let mut report = UsageReport {
            connections: connections.iter().map(|(endpoint, open)| (endpoint.to_string(), *open)).collect(),
            ..UsageReport::default()
        };
        report.events.received = self.received.load(Ordering::Relaxed);
        report.events.delivered = self.delivered.load(Ordering::Relaxed);
        report.dropped.missed = self.missed.load(Ordering::Relaxed);
        report
    }
}

/// Counts a connection until it is dropped.
pub(crate) struct UsageGuard {
    of: Arc<OrgUsage>,
    endpoint: EndpointName,
}

impl UsageGuard {
    /// The counters of the connection's org.
    pub(crate) fn of(&self) -> &Arc<OrgUsage> {
        &self.of
    }
}

impl Drop for UsageGuard {
    fn drop(&mut self) {
        let mut connections = self.of.connections.lock();
        if let Some(open) = connections.get_mut(&self.endpoint) {
            *open -= 1;
            if *open == 0 {
                connections.remove(&self.endpoint);
            }
        }
    }
}

impl UsageCounters {
    /// Starts at zero. `namespaces` determine which channels belong to an org.
    pub(crate) fn new(namespaces: Namespaces) -> Arc<Self> {
        let (received, rejected) = Default::default();
        Arc::new(Self { namespaces, orgs: DashMap::new(), endpoints: DashSet::new(), received, rejected })
    }

    /// An endpoint's name, shared by all its connections.
    pub(crate) fn endpoint(&self, path: &str) -> EndpointName {
        let path = path.to_owned();
        if let Some(known) = self.endpoints.get(&path) {
            return known.clone();
        }
        let path: EndpointName = path.into();
        self.endpoints.insert(path.clone());
        path
    }

    /// Counts an open connection of this org.
    pub(crate) fn enter(&self, org: Option<Arc<str>>, endpoint: EndpointName) -> UsageGuard {
        let of = self.orgs.entry(org).or_default().clone();
        *of.connections.lock().entry(endpoint.clone()).or_default() += 1;
        UsageGuard { of, endpoint }
    }

    /// The org of a channel, for [`UsageCounters::received`].
    pub(crate) fn org_of(&self, channel: &Channel) -> Option<Arc<str>> {
        org_of(&self.namespaces, channel).map(Arc::from)
    }

    /// Counts an event that arrived in a channel of this org.
    pub(crate) fn received(&self, org: &Option<Arc<str>>) {
        self.received.fetch_add(1, Ordering::Relaxed);
        // A channel is received only while a client reads it, and that client belongs to the channel's org.
        if org.is_some()
            && let Some(of) = self.orgs.get(org)
        {
            of.received.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a message that is not an event.
    pub(crate) fn rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// The total, and the counters of each org.
    pub(super) fn counted(&self) -> (UsageReport, BTreeMap<String, UsageReport>) {
        let (mut whole, mut orgs) = (UsageReport::default(), BTreeMap::new());
        for entry in &self.orgs {
            let report = entry.value().report();
            whole.add(&report);
            if let Some(org) = entry.key() {
                orgs.insert(org.to_string(), report);
            }
        }
        whole.events.received = self.received.load(Ordering::Relaxed);
        whole.dropped.rejected = self.rejected.load(Ordering::Relaxed);
        (whole, orgs)
    }
}
