//! What the directory says, as this replica knows it: cached, told by the control channel, re-read for safety.
//!
//! Answers are at most [`FRESH`] old, however many control messages were lost. While the registry does not answer,
//! the last answer stands; what was never known is an error.

mod org_index;
mod owner_cache;

use std::{sync::Arc, time::Duration};

use crewcast_events::Kind;
use crewcast_store::Ownership;

use self::{org_index::OrgIndex, owner_cache::OwnerCache};
use super::change_signal::ChangeSignal;
use crate::broker::{BrokerError, Registry};

/// How old an answer may be before it is read again.
const FRESH: Duration = Duration::from_secs(30);
/// How long the last answer stands after the registry has failed, before it is asked again.
const RETRY: Duration = Duration::from_secs(5);
/// Ids of one question to the registry.
const BATCH: usize = 500;

/// A cached view of the directory.
pub(super) struct DirectoryCache {
    owner_cache: OwnerCache,
    org_index: OrgIndex,
}

impl DirectoryCache {
    /// `changes` counts each answer that turns out to be another than it was.
    pub(super) fn new(registry: Arc<dyn Registry>, changes: Arc<ChangeSignal>) -> Self {
        Self {
            owner_cache: OwnerCache::new(registry.clone(), changes.clone()),
            org_index: OrgIndex::new(registry, changes),
        }
    }

    /// To whom an id belongs; `None` when nobody claimed it.
    pub(super) async fn owner(&self, kind: Kind, id: &str) -> Result<Option<Ownership>, BrokerError> {
        Ok(self.owner_cache.of(kind, &[id.to_owned()]).await?.pop().flatten())
    }

    /// To whom each id belongs, in the order asked.
    pub(super) async fn owners(&self, kind: Kind, ids: &[String]) -> Result<Vec<Option<Ownership>>, BrokerError> {
        self.owner_cache.of(kind, ids).await
    }

    /// Every id of one kind that an org owns, sorted.
    pub(super) async fn ids_of_org(&self, org: &str, kind: Kind) -> Result<Vec<String>, BrokerError> {
        self.org_index.of(org, kind).await
    }

    /// A control message.
    pub(super) fn apply_control(&self, ownership: &Ownership, from: Option<&str>, removed: bool) {
        self.owner_cache.apply_control(ownership, removed);
        self.org_index.apply_control(ownership, from, removed);
    }

    /// Reads the rosters in use again.
    pub(super) async fn reread_rosters(&self) -> Result<(), BrokerError> {
        self.org_index.reread().await
    }

    /// Reads everything in use again, for after a time in which control messages may have been lost.
    pub(super) async fn reread_all(&self) -> Result<(), BrokerError> {
        self.owner_cache.reread().await?;
        self.org_index.reread().await
    }

    /// Forgets what nobody has asked for since the last call. Open sockets ask again in between: see `Auth::start`.
    pub(super) fn forget_unused(&self) {
        self.owner_cache.forget_unused();
        self.org_index.forget_unused();
    }
}
