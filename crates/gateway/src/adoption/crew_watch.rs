//! Has the channels of an org's crews read on this replica while a socket of the org waits for a run.
//!
//! An event of a crew may name the run.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use crewcast_events::{Channel, Kind, Namespaces};
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    auth::Auth,
    hub::{ChannelHold, Hub},
};

/// Crews of one org whose channels are read. The runs of further crews have to be registered.
const MAX_CREWS: usize = 10_000;
/// How soon the crews are listed again after a failure, and at the latest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The watches of this replica, one for each org.
pub(crate) struct CrewWatches {
    hub: Arc<Hub>,
    auth: Arc<Auth>,
    namespaces: Namespaces,
    orgs: Mutex<HashMap<Arc<str>, Weak<OrgWatch>>>,
}

/// Keeps the watch of an org going. Cheap to clone; the last one ends the watch.
#[derive(Clone)]
pub(crate) struct CrewWatch(#[expect(dead_code, reason = "held for its drop")] Arc<OrgWatch>);

struct OrgWatch {
    _stop: DropGuard,
}

impl CrewWatches {
    pub(crate) fn new(hub: Arc<Hub>, auth: Arc<Auth>, namespaces: Namespaces) -> Arc<Self> {
        Arc::new(Self { hub, auth, namespaces, orgs: Mutex::default() })
    }

    /// Watches the crews of an org until the answer is dropped.
    pub(crate) fn watch(self: &Arc<Self>, org: &Arc<str>) -> CrewWatch {
        let mut orgs = self.orgs.lock();
        if let Some(watch) = orgs.get(org).and_then(Weak::upgrade) {
            return CrewWatch(watch);
        }
        orgs.retain(|_, watch| watch.strong_count() > 0);
        let stop = CancellationToken::new();
        let watch = Arc::new(OrgWatch { _stop: stop.clone().drop_guard() });
        orgs.insert(org.clone(), Arc::downgrade(&watch));
        tokio::spawn(stop.run_until_cancelled_owned(self.clone().hold_channels(org.clone())));
        CrewWatch(watch)
    }

    async fn hold_channels(self: Arc<Self>, org: Arc<str>) {
        let mut changes = self.auth.changes();
        let mut held: HashMap<Channel, ChannelHold> = HashMap::new();
        loop {
            changes.mark_unchanged();
            let again = match self.auth.ids_of_org(&org, Kind::Crew).await {
                Ok(crews) => {
                    self.hold(&crews, &mut held);
                    AGAIN.1
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot list an org's crews; trying again");
                    AGAIN.0
                }
            };
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    fn hold(&self, crews: &[String], held: &mut HashMap<Channel, ChannelHold>) {
        let crews = crews.iter().take(MAX_CREWS);
        let wanted: HashSet<Channel> = crews.flat_map(|crew| self.namespaces.channels_of(Kind::Crew, crew)).collect();
        held.retain(|channel, _| wanted.contains(channel));
        for channel in wanted {
            held.entry(channel).or_insert_with_key(|channel| self.hub.hold(channel));
        }
    }
}
