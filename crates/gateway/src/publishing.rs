//! Publishing by clients, over HTTP and over connections: who may publish to a channel, and who comes to own its id.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use crewcast_events::{Body, Channel, Event, EventId, Namespaces, Owner};
use crewcast_store::{Append, AppendError, Entry, Once, Ownership, OwnershipMode, OwnershipOutcome, Transport};
use futures_util::{TryStreamExt as _, stream};

use crate::{
    auth::{Auth, Identity},
    dialect::NotPublished,
    registry::BrokerError,
};

/// Ids of one request that are registered at the same time.
const AT_ONCE: usize = 16;

/// Why an identity may not publish.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAdmitted {
    /// The token's claim `publish` does not grant the channel.
    #[error("the token does not grant publishing to channel {index} of the request")]
    NotGranted {
        /// Which of the channels that were asked for.
        index: usize,
    },
    /// The channel's id belongs to another org.
    #[error("the id of channel {index} of the request belongs to another org")]
    OwnedByAnother {
        /// Which of the channels that were asked for.
        index: usize,
        /// The ownership that was asked for.
        ownership: Ownership,
    },
    /// The grants could not be looked up.
    #[error(transparent)]
    Directory(#[from] BrokerError),
    /// The owner could not be registered.
    #[error(transparent)]
    Registration(#[from] AppendError),
}

/// Admits what clients publish, and publishes single events.
pub(crate) struct Publishing {
    auth: Arc<Auth>,
    transport: Arc<dyn Transport>,
    namespaces: Namespaces,
    max_event: usize,
}

impl Publishing {
    /// Publishes through this transport what `auth` allows, with at most `max_event` bytes per event.
    pub(crate) fn new(
        auth: Arc<Auth>,
        transport: Arc<dyn Transport>,
        namespaces: Namespaces,
        max_event: usize,
    ) -> Arc<Self> {
        Arc::new(Self { auth, transport, namespaces, max_event })
    }

    /// Publishes an event into its channel's log, or live if its namespace keeps none. Returns the id of a logged
    /// event.
    ///
    /// # Errors
    /// [`NotPublished`].
    pub(crate) async fn publish(
        &self,
        identity: &Identity,
        channel: &Channel,
        event: Bytes,
    ) -> Result<Option<EventId>, NotPublished> {
        let (bytes, most) = (event.len(), self.max_event);
        if bytes > most {
            return Err(NotPublished::Bad(format!("an event has at most {most} bytes, this one has {bytes}")));
        }
        self.admit(identity, &[channel]).await?;
        if self.namespaces.of(channel).is_some_and(|namespace| namespace.log.length == 0) {
            let event = Event::parse(event).map_err(|why| NotPublished::Bad(why.to_string()))?;
            self.transport.publish_live(channel, event.raw().clone()).await?;
            return Ok(None);
        }
        let body = Body::parse(event).map_err(|why| NotPublished::Bad(why.to_string()))?;
        let append = Append { channel: channel.clone(), entries: vec![Entry::new(body)], once: Once::No };
        Ok(self.transport.append(&append).await?.pop().flatten())
    }

    /// Admits an identity to publish to these channels: asks for all grants first, then registers the owners.
    ///
    /// An id without an owner becomes the identity's org's. Of two orgs that publish to the same new id, the first
    /// keeps it.
    ///
    /// # Errors
    /// [`NotAdmitted`], with the index of the first channel that is refused.
    pub(crate) async fn admit(&self, identity: &Identity, channels: &[&Channel]) -> Result<(), NotAdmitted> {
        self.check_grants(identity, channels).await?;
        self.register_owners(identity, channels).await
    }

    /// Asks for each channel once.
    async fn check_grants(&self, identity: &Identity, channels: &[&Channel]) -> Result<(), NotAdmitted> {
        let mut asked: HashSet<&Channel> = HashSet::new();
        for (index, channel) in channels.iter().enumerate() {
            if asked.insert(channel) && !self.auth.may_publish(identity, channel).await? {
                return Err(NotAdmitted::NotGranted { index });
            }
        }
        Ok(())
    }

    /// Registers each id once.
    async fn register_owners(&self, identity: &Identity, channels: &[&Channel]) -> Result<(), NotAdmitted> {
        let mut asked: HashSet<(Option<Owner>, &str)> = HashSet::new();
        let owner = |channel: &Channel| self.namespaces.of(channel).and_then(|rules| rules.owner);
        let ids = channels.iter().copied().enumerate();
        let ids: Vec<(usize, &Channel)> = ids.filter(|(_, id)| asked.insert((owner(id), id.id()))).collect();
        let registered = stream::iter(ids.into_iter().map(Ok))
            .try_for_each_concurrent(AT_ONCE, |(index, channel)| self.register_owner(identity, index, channel));
        registered.await
    }

    async fn register_owner(&self, identity: &Identity, index: usize, channel: &Channel) -> Result<(), NotAdmitted> {
        let Some(ownership) = self.auth.required_claim(identity, channel).await? else { return Ok(()) };
        match self.transport.register(&ownership, OwnershipMode::Keep).await? {
            OwnershipOutcome::Done => Ok(()),
            OwnershipOutcome::OwnedBy(_) => Err(NotAdmitted::OwnedByAnother { index, ownership }),
        }
    }
}

impl From<NotAdmitted> for NotPublished {
    fn from(error: NotAdmitted) -> Self {
        match error {
            NotAdmitted::NotGranted { .. } | NotAdmitted::OwnedByAnother { .. } => NotPublished::Forbidden,
            NotAdmitted::Directory(_) => NotPublished::Unavailable,
            NotAdmitted::Registration(error) => error.into(),
        }
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
