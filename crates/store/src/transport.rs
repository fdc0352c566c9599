//! What carries appends, live messages, ownership and renewals.

use bytes::Bytes;
use crewcast_events::{Channel, EventId};

use crate::{
    append::{Append, AppendError},
    lease::Renewal,
    ownership::{Ownership, OwnershipMode, OwnershipOutcome},
};

/// Carries what a publisher emits. Implementations: Redis, HTTP, and the gateway's memory broker.
#[async_trait::async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Appends to a channel's log and publishes, in one atomic step. Answers the ids in order. An id is `None` for an
    /// entry that was accepted before and whose id is no longer known, and for a lease expiry that was published before
    /// ([`LeaseStep::Expire`](crate::LeaseStep::Expire)).
    ///
    /// # Errors
    /// [`AppendError`].
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError>;

    /// Publishes without a log, to the readers that are connected.
    ///
    /// # Errors
    /// [`AppendError`], never `Gap`.
    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError>;

    /// Changes the owner of an id in the directory and tells every gateway.
    ///
    /// # Errors
    /// [`AppendError`], never `Gap`.
    async fn register(&self, ownership: &Ownership, mode: OwnershipMode) -> Result<OwnershipOutcome, AppendError>;

    /// The former name of [`Transport::register`].
    ///
    /// # Errors
    /// As [`Transport::register`].
    #[deprecated(note = "renamed to `register`")]
    async fn claim(&self, ownership: &Ownership, mode: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        self.register(ownership, mode).await
    }

    /// Renews leases. Names without a lease are skipped: only an event makes a lease. A transport without leases does
    /// nothing.
    ///
    /// # Errors
    /// [`AppendError`], never `Gap`.
    async fn renew(&self, renewals: &[Renewal]) -> Result<(), AppendError> {
        let _ = renewals;
        Ok(())
    }
}
