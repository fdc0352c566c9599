//! What carries appends, live messages, ownership and renewals.

use bytes::Bytes;
use crewcast_events::{Channel, EventId};

use crate::{
    append::{Append, AppendError},
    lease::Renewal,
    ownership::{Claim, ClaimMode, Claimed},
};

/// Carries what a publisher emits. Implementations: Redis, HTTP, and a gateway's memory broker.
#[async_trait::async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Appends to a channel's log and publishes, in one atomic step. Answers the ids in order; `None` for
    /// an entry that was accepted before and whose id is no longer known, and for one that tells of a lease what has
    /// been told already ([`LeaseStep::Tell`]).
    ///
    /// # Errors
    /// [`AppendError`].
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError>;

    /// Publishes without a log: whoever is connected hears it.
    ///
    /// # Errors
    /// [`AppendError`], never `Gap`.
    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError>;

    /// Claims an id for an org in the directory and tells every gateway.
    ///
    /// # Errors
    /// [`AppendError`], never `Gap`.
    async fn claim(&self, claim: &Claim, mode: ClaimMode) -> Result<Claimed, AppendError>;

    /// Renews leases, all together. One that does not stand (any more) is passed over: only an event makes a lease.
    /// A transport without leases does nothing.
    ///
    /// # Errors
    /// [`AppendError`], never `Gap`.
    async fn renew(&self, renewals: &[Renewal]) -> Result<(), AppendError> {
        let _ = renewals;
        Ok(())
    }
}
