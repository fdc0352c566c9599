//! Transports that misbehave.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bytes::Bytes;
use crewcast_events::{Channel, EventId};
use crewcast_publisher::{Append, AppendError, Ownership, OwnershipMode, OwnershipOutcome, Renewal, Transport};
use parking_lot::Mutex;

type Hook = dyn Fn(&Append) -> Option<AppendError> + Send + Sync;

/// Calls one hook before and one after passing an append on, and records the appends.
pub(crate) struct Meddling {
    inner: Arc<dyn Transport>,
    before: Box<Hook>,
    after: Box<Hook>,
    pub appends: Mutex<Vec<Append>>,
}

impl Meddling {
    pub(crate) fn recording(inner: impl Transport) -> Self {
        Self {
            inner: Arc::new(inner),
            before: Box::new(|_| None),
            after: Box::new(|_| None),
            appends: Mutex::default(),
        }
    }

    pub(crate) fn before(self, hook: impl Fn(&Append) -> Option<AppendError> + Send + Sync + 'static) -> Self {
        Self { before: Box::new(hook), ..self }
    }

    /// Does not answer while `away` is set.
    pub(crate) fn while_away(self, away: &Arc<AtomicBool>) -> Self {
        let away = away.clone();
        self.before(move |_| away.load(Ordering::SeqCst).then(|| AppendError::Unavailable("away".to_owned())))
    }

    pub(crate) fn after(self, hook: impl Fn(&Append) -> Option<AppendError> + Send + Sync + 'static) -> Self {
        Self { after: Box::new(hook), ..self }
    }
}

#[async_trait::async_trait]
impl Transport for Meddling {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        self.appends.lock().push(append.clone());
        if let Some(error) = (self.before)(append) {
            return Err(error);
        }
        let ids = self.inner.append(append).await?;
        (self.after)(append).map_or(Ok(ids), Err)
    }

    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError> {
        self.inner.publish_live(channel, message).await
    }

    async fn register(&self, ownership: &Ownership, mode: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        self.inner.register(ownership, mode).await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<(), AppendError> {
        self.inner.renew(renewals).await
    }
}

/// Records everything; answers only errors while it is away.
#[derive(Default)]
pub(crate) struct Fake {
    pub away: AtomicBool,
    /// The org that owns every id, if it is not the caller's.
    pub owner: Mutex<Option<String>>,
    /// `append <channel> <type>`, `live <channel>`, `register <kind> <id> <crew>`,
    /// `renew <channel> <leases>, …`, in order.
    pub seen: Mutex<Vec<String>>,
    pub attempts: AtomicUsize,
}

impl Fake {
    pub(crate) fn away() -> Self {
        let fake = Self::default();
        fake.set_away(true);
        fake
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }

    fn answer(&self) -> Result<(), AppendError> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(AppendError::Unavailable("away".to_owned()));
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Transport for Fake {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        self.answer()?;
        for entry in &append.entries {
            self.seen.lock().push(format!("append {} {}", append.channel, entry.body.kind()));
        }
        Ok(append.entries.iter().map(|_| None).collect())
    }

    async fn publish_live(&self, channel: &Channel, _: Bytes) -> Result<(), AppendError> {
        self.answer()?;
        self.seen.lock().push(format!("live {channel}"));
        Ok(())
    }

    async fn register(&self, ownership: &Ownership, _: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        self.answer()?;
        if let Some(owner) = self.owner.lock().clone().filter(|owner| *owner != ownership.org) {
            return Ok(OwnershipOutcome::OwnedBy(owner));
        }
        let crew = ownership.crew.as_deref().unwrap_or("-");
        self.seen.lock().push(format!("register {} {} {crew}", ownership.kind.as_str(), ownership.id));
        Ok(OwnershipOutcome::Done)
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<(), AppendError> {
        self.answer()?;
        let mut each: Vec<String> =
            renewals.iter().map(|renewal| format!("{} {}", renewal.channel, renewal.names.len())).collect();
        each.sort();
        self.seen.lock().push(format!("renew {}", each.join(", ")));
        Ok(())
    }
}
