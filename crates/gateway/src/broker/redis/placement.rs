//! Assigns each channel to a node subscription.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use crewcast_events::Channel;
use crewcast_store::Topology;
use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::{delivery::Names, node_subscription::NodeSubscription};

/// Where each channel is.
#[derive(Default)]
pub(super) struct Placement {
    pub(super) channels: HashSet<Channel>,
    /// Wanted, but not placed: their server gave them up, or no server held their slots.
    pub(super) unplaced: HashSet<Channel>,
    pub(super) topology: Option<Arc<Topology>>,
    pub(super) links: BTreeMap<String, Running>,
}

/// A node subscription and its task, which ends with it.
pub(super) struct Running {
    pub(super) link: Arc<NodeSubscription>,
    task: JoinHandle<()>,
}

impl Running {
    pub(super) fn start(link: Arc<NodeSubscription>) -> Self {
        Self { task: tokio::spawn(link.clone().run()), link }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        self.link.end();
    }
}

/// Channels grouped by node subscription.
type ByLink = Vec<(Arc<NodeSubscription>, Vec<Channel>)>;

/// Changes of the subscriptions' wanted sets that wait for confirmation.
pub(super) type PendingChanges = Vec<(Arc<NodeSubscription>, u64)>;

/// Waits until each change is confirmed or its node subscription has ended. Returns whether all are confirmed.
pub(super) async fn all_served(changes: &[(Arc<NodeSubscription>, u64)]) -> bool {
    join_all(changes.iter().map(|(link, change)| link.served(*change))).await.into_iter().all(|served| served)
}

impl Placement {
    /// Wants channels on the nodes where they belong; `None` while that is not known of all.
    pub(super) fn add(&mut self, channels: &[Channel], names: &Names) -> Option<PendingChanges> {
        self.channels.extend(channels.iter().cloned());
        let (placed, unplaced) = self.by_link(channels.iter().cloned(), names);
        let complete = unplaced.is_empty();
        self.unplaced.extend(unplaced);
        let changes = placed.into_iter().map(|(link, channels)| {
            let change = link.add(&channels);
            (link, change)
        });
        let changes = changes.collect();
        complete.then_some(changes)
    }

    pub(super) fn remove(&mut self, channels: &[Channel], names: &Names) -> PendingChanges {
        for channel in channels {
            self.channels.remove(channel);
            self.unplaced.remove(channel);
        }
        let (placed, _) = self.by_link(channels.iter().cloned(), names);
        let changes = placed.into_iter().map(|(link, channels)| {
            let change = link.remove(&channels);
            (link, change)
        });
        changes.collect()
    }

    /// Groups channels by the node that holds them, and returns those that no node holds.
    pub(super) fn by_link(&self, channels: impl Iterator<Item = Channel>, names: &Names) -> (ByLink, Vec<Channel>) {
        let mut placed: BTreeMap<&str, Vec<Channel>> = BTreeMap::new();
        let mut unplaced = Vec::new();
        for channel in channels {
            let holder = self.topology.as_ref().and_then(|topology| topology.holder(names.slot_of(&channel)));
            match holder {
                Some(server) => placed.entry(server.name()).or_default().push(channel),
                None => unplaced.push(channel),
            }
        }
        let mut by_link = Vec::with_capacity(placed.len());
        for (name, channels) in placed {
            match self.links.get(name) {
                Some(running) => by_link.push((running.link.clone(), channels)),
                None => unplaced.extend(channels),
            }
        }
        (by_link, unplaced)
    }

    /// Takes channels from nodes where they no longer belong, and returns them. `self.topology` is the old one.
    pub(super) fn displace(&mut self, topology: &Topology, names: &Names) -> HashSet<Channel> {
        let Some(old) = self.topology.clone() else { return self.channels.clone() };
        if old.is_like(topology) {
            return HashSet::new();
        }
        let name = |topology: &Topology, slot| topology.holder(slot).map(|server| server.name().to_owned());
        // By slot: many channels share few holders.
        let mut stays: HashMap<u16, bool> = HashMap::new();
        let mut is_displaced = |channel: &&Channel| {
            let slot = names.slot_of(channel);
            !*stays.entry(slot).or_insert_with(|| name(&old, slot) == name(topology, slot))
        };
        let displaced: HashSet<Channel> =
            self.channels.iter().filter(|channel| is_displaced(channel)).cloned().collect();
        let (placed, _) = self.by_link(displaced.iter().cloned(), names);
        placed.into_iter().for_each(|(link, channels)| {
            link.remove(&channels);
        });
        displaced
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crewcast_store::{RedisClient, Tls};
    use tokio::time::timeout;

    use super::*;
    use crate::broker::redis::{delivery::Delivery, node_subscription::Role};

    fn names() -> Names {
        Names::new(&crewcast_events::Keys::default(), "", "r")
    }

    async fn topology(port: u16) -> Arc<Topology> {
        let redis = RedisClient::new(&format!("redis://127.0.0.1:{port}"), &Tls::default(), 1, "test").unwrap();
        redis.discover().await.unwrap()
    }

    /// A node subscription to a server that accepts connections and never answers.
    async fn unresponsive() -> (tokio::net::TcpListener, Placement, Arc<Delivery>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let topology = topology(listener.local_addr().unwrap().port()).await;
        let delivery = Arc::new(Delivery::new(names(), None));
        let server = topology.nodes()[0].server.clone();
        let name = server.name().to_owned();
        let link =
            NodeSubscription::new(server, Role::default(), "r", "p".to_owned(), delivery.clone(), Arc::default());
        let links = BTreeMap::from([(name, Running::start(link))]);
        (listener, Placement { topology: Some(topology), links, ..Placement::default() }, delivery)
    }

    #[tokio::test]
    async fn waiting_for_a_subscription_that_ends_returns_false() {
        let (_listener, mut placement, _) = unresponsive().await;
        let changes = placement.add(&["run:a".parse().unwrap()], &names()).unwrap();
        let served = tokio::spawn(async move { all_served(&changes).await });
        tokio::task::yield_now().await;
        placement.links.clear();
        let served = timeout(Duration::from_secs(5), served).await.expect("an answer");
        assert!(!served.unwrap(), "it was not subscribed");
    }

    #[tokio::test]
    async fn a_subscription_that_ends_while_connecting_leaves_no_connection() {
        let (listener, mut placement, delivery) = unresponsive().await;
        let _accepted = timeout(Duration::from_secs(5), listener.accept()).await.expect("the subscription connects");
        assert_eq!(delivery.open_connections(), 1);
        placement.links.clear();
        let ended = async {
            while delivery.open_connections() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), ended).await.expect("the connection no longer counts");
    }

    #[test]
    fn channels_without_a_holder_are_kept_once() {
        let mut placement = Placement::default();
        let channels: [Channel; 2] = ["run:a", "run:b"].map(|name| name.parse().unwrap());
        for _ in 0..100 {
            assert!(placement.add(&channels, &names()).is_none());
        }
        assert_eq!(placement.unplaced.len(), 2);
        placement.remove(&channels[..1], &names());
        assert_eq!(placement.unplaced, HashSet::from([channels[1].clone()]));
    }
}
