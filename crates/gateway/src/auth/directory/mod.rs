//! The directory as this replica knows it: cached, updated by control messages, and re-read for safety.
//!
//! Answers are at most [`FRESH`] old, even if control messages were lost. While the registry does not answer, the last
//! answer remains valid; an unknown id is an error.

mod org_index;
mod owner_cache;

use std::{sync::Arc, time::Duration};

use crewcast_events::Kind;
use crewcast_store::Ownership;

use self::{org_index::OrgIndex, owner_cache::OwnerCache};
use super::change_signal::ChangeSignal;
use crate::registry::{BrokerError, Directory};

/// How old an answer may get before it is read again.
const FRESH: Duration = Duration::from_secs(30);
/// How long the last answer remains valid after a failed read, before the next try.
const RETRY: Duration = Duration::from_secs(5);
/// Ids per question to the registry.
const BATCH: usize = 500;

/// A cached view of the directory.
pub(super) struct DirectoryCache {
    owner_cache: OwnerCache,
    org_index: OrgIndex,
}

impl DirectoryCache {
    /// `changes` counts every answer that differs from the previous one.
    pub(super) fn new(directory: Arc<dyn Directory>, changes: Arc<ChangeSignal>) -> Self {
        Self {
            owner_cache: OwnerCache::new(directory.clone(), changes.clone()),
            org_index: OrgIndex::new(directory, changes),
        }
    }

    /// The owner of an id; `None` if no org owns it.
    pub(super) async fn owner(&self, kind: Kind, id: &str) -> Result<Option<Ownership>, BrokerError> {
        Ok(self.owner_cache.of(kind, &[id.to_owned()]).await?.pop().flatten())
    }

    /// The owner of each id, in the order of `ids`.
    pub(super) async fn owners(&self, kind: Kind, ids: &[String]) -> Result<Vec<Option<Ownership>>, BrokerError> {
        self.owner_cache.of(kind, ids).await
    }

    /// Every id of one kind that an org owns, sorted.
    pub(super) async fn ids_of_org(&self, org: &str, kind: Kind) -> Result<Vec<String>, BrokerError> {
        self.org_index.of(org, kind).await
    }

    /// Applies a control message.
    pub(super) fn apply_control(&self, ownership: &Ownership, from: Option<&str>, removed: bool) {
        self.owner_cache.apply_control(ownership, removed);
        self.org_index.apply_control(ownership, from, removed);
    }

    /// Reads the lists in use again.
    pub(super) async fn reread_rosters(&self) -> Result<(), BrokerError> {
        self.org_index.reread().await
    }

    /// Reads everything in use again, after a time in which control messages may have been lost.
    pub(super) async fn reread_all(&self) -> Result<(), BrokerError> {
        self.owner_cache.reread().await?;
        self.org_index.reread().await
    }

    /// Drops entries that were not used since the last call. Open sockets use theirs in between: see `Auth::start`.
    pub(super) fn forget_unused(&self) {
        self.owner_cache.forget_unused();
        self.org_index.forget_unused();
    }
}
