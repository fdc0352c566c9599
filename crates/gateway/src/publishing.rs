//! What clients publish over their sockets: whether they may, and whose the channel's id becomes.

use std::sync::Arc;

use bytes::Bytes;
use crewcast_events::{Body, Channel, Event, EventId, Namespaces};
use crewcast_store::{Append, AppendError, Entry, Once, OwnershipMode, OwnershipOutcome};

use crate::{
    auth::{Auth, Identity},
    broker::{Broker, BrokerError},
    dialect::NotPublished,
};

/// Publishes one event at a time.
pub struct Publishing {
    auth: Arc<Auth>,
    broker: Arc<dyn Broker>,
    namespaces: Namespaces,
    max_event: usize,
}

impl Publishing {
    /// Publishes through this broker what `auth` lets; at most `max_event` bytes an event.
    pub fn new(auth: Arc<Auth>, broker: Arc<dyn Broker>, namespaces: Namespaces, max_event: usize) -> Arc<Self> {
        Arc::new(Self { auth, broker, namespaces, max_event })
    }

    /// Publishes an event into its channel's log, or live where the namespace keeps none. The id of a logged one.
    ///
    /// # Errors
    /// [`NotPublished`].
    pub async fn publish(
        &self,
        identity: &Identity,
        channel: &Channel,
        event: Bytes,
    ) -> Result<Option<EventId>, NotPublished> {
        let (bytes, most) = (event.len(), self.max_event);
        if bytes > most {
            return Err(NotPublished::Bad(format!("an event has at most {most} bytes, this one has {bytes}")));
        }
        self.admit(identity, channel).await?;
        if self.namespaces.of(channel).is_some_and(|namespace| namespace.log.length == 0) {
            let event = Event::parse(event).map_err(|why| NotPublished::Bad(why.to_string()))?;
            self.broker.publish_live(channel, event.raw().clone()).await?;
            return Ok(None);
        }
        let body = Body::parse(event).map_err(|why| NotPublished::Bad(why.to_string()))?;
        let append = Append { channel: channel.clone(), entries: vec![Entry::new(body)], once: Once::No };
        Ok(self.broker.append(&append).await?.pop().flatten())
    }

    /// What nobody owns yet becomes the org's before anything is published there: the first owner stays.
    async fn admit(&self, identity: &Identity, channel: &Channel) -> Result<(), NotPublished> {
        if !self.auth.may_publish(identity, channel).await? {
            return Err(NotPublished::Forbidden);
        }
        let Some(ownership) = self.auth.required_claim(identity, channel).await? else { return Ok(()) };
        match self.broker.register(&ownership, OwnershipMode::Keep).await? {
            OwnershipOutcome::Done => Ok(()),
            OwnershipOutcome::OwnedBy(_) => Err(NotPublished::Forbidden),
        }
    }
}

impl From<BrokerError> for NotPublished {
    fn from(_: BrokerError) -> Self {
        NotPublished::Unavailable
    }
}

impl From<AppendError> for NotPublished {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Refused(why) => NotPublished::Bad(why),
            AppendError::Unavailable(_) | AppendError::Gap { .. } => NotPublished::Unavailable,
        }
    }
}
