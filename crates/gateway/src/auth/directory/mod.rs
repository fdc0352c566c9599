//! What the directory says, as this replica knows it: cached, told by the control channel, re-read for safety.
//!
//! Answers are at most [`FRESH`] old, however many control messages were lost. While the registry does not answer,
//! the last answer stands; what was never known is an error.

mod owners;
mod rosters;

use std::{sync::Arc, time::Duration};

use crewcast_events::Kind;
use crewcast_publisher::Claim;

use self::{owners::Owners, rosters::Rosters};
use super::changes::Changes;
use crate::broker::{BrokerError, Registry};

/// How old an answer may be before it is read again.
const FRESH: Duration = Duration::from_secs(30);
/// How long the last answer stands after the registry has failed, before it is asked again.
const RETRY: Duration = Duration::from_secs(5);
/// Ids of one question to the registry.
const BATCH: usize = 500;

/// A cached view of the directory.
pub(super) struct Directory {
    owners: Owners,
    rosters: Rosters,
}

impl Directory {
    /// `changes` counts each answer that turns out to be another than it was.
    pub(super) fn new(registry: Arc<dyn Registry>, changes: Arc<Changes>) -> Self {
        Self { owners: Owners::new(registry.clone(), changes.clone()), rosters: Rosters::new(registry, changes) }
    }

    /// To whom an id belongs; `None` when nobody claimed it.
    pub(super) async fn owner(&self, kind: Kind, id: &str) -> Result<Option<Claim>, BrokerError> {
        Ok(self.owners.of(kind, &[id.to_owned()]).await?.pop().flatten())
    }

    /// To whom each id belongs, in the order asked.
    pub(super) async fn owners(&self, kind: Kind, ids: &[String]) -> Result<Vec<Option<Claim>>, BrokerError> {
        self.owners.of(kind, ids).await
    }

    /// Every id of one kind that an org owns, sorted.
    pub(super) async fn owned(&self, org: &str, kind: Kind) -> Result<Vec<String>, BrokerError> {
        self.rosters.of(org, kind).await
    }

    /// A control message.
    pub(super) fn told(&self, claim: &Claim, from: Option<&str>, removed: bool) {
        self.owners.told(claim, removed);
        self.rosters.told(claim, from, removed);
    }

    /// Reads the rosters in use again.
    pub(super) async fn reread_rosters(&self) -> Result<(), BrokerError> {
        self.rosters.reread().await
    }

    /// Reads everything in use again, for after a time in which control messages may have been lost.
    pub(super) async fn reread_all(&self) -> Result<(), BrokerError> {
        self.owners.reread().await?;
        self.rosters.reread().await
    }

    /// Forgets what nobody has asked for since the last call. Open sockets ask again in between: see `Auth::start`.
    pub(super) fn forget_unused(&self) {
        self.owners.forget_unused();
        self.rosters.forget_unused();
    }
}
