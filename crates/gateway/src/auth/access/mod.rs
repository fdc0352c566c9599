//! What an identity may read and publish: its grants, checked against the directory.

use std::sync::{Arc, OnceLock};

use crewcast_events::{Channel, Kind, Namespaces, Owner};
use crewcast_store::Ownership;

use super::{Identity, Ids, directory::DirectoryCache};
use crate::registry::BrokerError;

/// The answer to a request to read a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Grant {
    /// The identity may read the channel.
    Granted,
    /// No org owns the channel's id yet, and the identity may read it if its own org comes to own the id.
    Pending,
    /// The identity may not read the channel.
    Denied,
}

impl Grant {
    fn of(is_granted: bool) -> Self {
        if is_granted { Grant::Granted } else { Grant::Denied }
    }
}

/// Decides by the rules of the spec, "Who may read".
pub(super) struct Access {
    namespaces: Namespaces,
    directory: Arc<DirectoryCache>,
    /// The org that reads ids without an owner.
    adopter: OnceLock<String>,
}

impl Access {
    pub(super) fn new(namespaces: Namespaces, directory: Arc<DirectoryCache>) -> Self {
        Self { namespaces, directory, adopter: OnceLock::new() }
    }

    pub(super) fn set_adopter(&self, adopter: Option<String>) {
        adopter.into_iter().for_each(|adopter| _ = self.adopter.set(adopter));
    }

    pub(super) fn has_adopter(&self) -> bool {
        self.adopter.get().is_some()
    }

    fn is_adopters(&self, identity: &Identity) -> bool {
        self.adopter.get().is_some_and(|adopter| identity.org.as_deref() == Some(adopter))
    }

    pub(super) async fn grant(&self, identity: &Identity, channel: &Channel) -> Result<Grant, BrokerError> {
        let Some(namespace) = self.namespaces.of(channel) else { return Ok(Grant::Denied) };
        let id = channel.id();
        match namespace.owner {
            None => Ok(Grant::of(identity.grants.channels.contain(channel))),
            Some(Owner::Org) => Ok(Grant::of(identity.org.as_deref() == Some(id))),
            Some(Owner::Crew) => self.granted_by(identity, &identity.grants.crews, Kind::Crew, id).await,
            Some(Owner::Stream) => self.granted_by(identity, &identity.grants.streams, Kind::Stream, id).await,
            Some(Owner::Session) => self.grant_of_session(identity, id).await,
            Some(Owner::Run) => self.grant_of_run(identity, id).await,
        }
    }

    /// Checks a claim that lists ids of one kind. An id that the claim names needs no owner.
    async fn granted_by(&self, identity: &Identity, ids: &Ids, kind: Kind, id: &str) -> Result<Grant, BrokerError> {
        match ids {
            Ids::Listed(ids) if !ids.iter().any(|listed| listed == id) => Ok(Grant::Denied),
            Ids::All if identity.org.is_none() => Ok(Grant::Denied),
            Ids::Listed(_) => Ok(Grant::of(not_anothers(identity, self.directory.owner(kind, id).await?.as_ref()))),
            Ids::All => Ok(match self.directory.owner(kind, id).await? {
                None if self.is_adopters(identity) => Grant::Granted,
                None => Grant::Pending,
                owner => Grant::of(is_own(identity, owner.as_ref())),
            }),
        }
    }

    /// A run is readable through `runs`, or by everyone who may read the crew that the directory names for it.
    async fn grant_of_run(&self, identity: &Identity, id: &str) -> Result<Grant, BrokerError> {
        let by_runs = self.granted_by(identity, &identity.grants.runs, Kind::Run, id).await?;
        if by_runs != Grant::Denied {
            return Ok(by_runs);
        }
        let (grants, run) = (&identity.grants, self.directory.owner(Kind::Run, id).await?);
        // It may become a run of a granted crew. A token that lists runs means those only.
        let may_become_crews = identity.org.is_some() && grants.crews.grant_any() && !grants.runs.grant_any();
        match (run.as_ref(), run.as_ref().and_then(|run| run.crew.as_deref())) {
            (None, _) if may_become_crews => Ok(Grant::Pending),
            (Some(_), Some(crew)) if is_own(identity, run.as_ref()) => {
                self.granted_by(identity, &grants.crews, Kind::Crew, crew).await
            }
            // Adopted with an event of its own: an event of its crew may follow.
            (Some(_), None) if may_become_crews && self.is_adopters(identity) && is_own(identity, run.as_ref()) => {
                Ok(Grant::Pending)
            }
            _ => Ok(Grant::Denied),
        }
    }

    /// A session is readable through `sessions`, or by every token of the org that owns it (the spec, dialect
    /// `tracking`).
    async fn grant_of_session(&self, identity: &Identity, id: &str) -> Result<Grant, BrokerError> {
        match self.granted_by(identity, &identity.grants.sessions, Kind::Session, id).await? {
            Grant::Granted => Ok(Grant::Granted),
            _ => self.granted_by(identity, &Ids::All, Kind::Session, id).await,
        }
    }

    /// Every readable channel of a namespace that can be listed in advance. Not included: runs that are readable only
    /// through their crew, and channels that `channels` grants by `namespace:*`.
    pub(super) async fn granted(&self, identity: &Identity, namespace: &str) -> Result<Vec<Channel>, BrokerError> {
        let Some(rules) = self.namespaces.0.get(namespace) else { return Ok(Vec::new()) };
        let grants = &identity.grants;
        let ids = match rules.owner {
            None => {
                let named = grants.channels.0.iter().filter_map(|pattern| pattern.parse::<Channel>().ok());
                return Ok(named.filter(|channel| channel.namespace() == namespace).collect());
            }
            Some(Owner::Org) => identity.org.iter().map(|org| org.to_string()).collect(),
            Some(Owner::Crew) => self.ids(identity, &grants.crews, Kind::Crew).await?,
            Some(Owner::Run) => self.ids(identity, &grants.runs, Kind::Run).await?,
            Some(Owner::Stream) => self.ids(identity, &grants.streams, Kind::Stream).await?,
            Some(Owner::Session) => self.session_ids(identity).await?,
        };
        Ok(ids.iter().filter_map(|id| Channel::new(namespace, id).ok()).collect())
    }

    async fn ids(&self, identity: &Identity, ids: &Ids, kind: Kind) -> Result<Vec<String>, BrokerError> {
        match (ids, &identity.org) {
            (Ids::All, None) => Ok(Vec::new()),
            (Ids::All, Some(org)) => self.directory.ids_of_org(org, kind).await,
            (Ids::Listed(ids), _) => {
                let owners = self.directory.owners(kind, ids).await?;
                let good = ids.iter().zip(owners).filter(|(_, owner)| not_anothers(identity, owner.as_ref()));
                Ok(good.map(|(id, _)| id.clone()).collect())
            }
        }
    }

    async fn session_ids(&self, identity: &Identity) -> Result<Vec<String>, BrokerError> {
        let mut ids = self.ids(identity, &Ids::All, Kind::Session).await?;
        if let listed @ Ids::Listed(_) = &identity.grants.sessions {
            ids.extend(self.ids(identity, listed, Kind::Session).await?);
            ids.sort_unstable();
            ids.dedup();
        }
        Ok(ids)
    }

    pub(super) async fn may_publish(&self, identity: &Identity, channel: &Channel) -> Result<bool, BrokerError> {
        let Some(namespace) = self.namespaces.of(channel) else { return Ok(false) };
        if !identity.grants.publish.contain(channel) {
            return Ok(false);
        }
        let Some(org) = identity.org.as_deref() else { return Ok(true) };
        if namespace.owner == Some(Owner::Org) {
            return Ok(channel.id() == org);
        }
        let Some(kind) = namespace.owner.and_then(Owner::kind) else { return Ok(true) };
        Ok(not_anothers(identity, self.directory.owner(kind, channel.id()).await?.as_ref()))
    }

    /// The claim of ownership that has to come before the identity publishes to a channel. `None` if the directory
    /// already gives the id to the identity's org, if the identity has no org, and if the namespace's ids have no
    /// owner.
    pub(super) async fn required_claim(
        &self,
        identity: &Identity,
        channel: &Channel,
    ) -> Result<Option<Ownership>, BrokerError> {
        let kind = self.namespaces.of(channel).and_then(|rules| rules.owner).and_then(Owner::kind);
        let (Some(kind), Some(org)) = (kind, &identity.org) else { return Ok(None) };
        let id = channel.id();
        if is_own(identity, self.directory.owner(kind, id).await?.as_ref()) {
            return Ok(None);
        }
        Ok(Some(Ownership { kind, id: id.to_owned(), org: org.to_string(), crew: None }))
    }
}

/// Whether the directory gives an id to the identity's org.
fn is_own(identity: &Identity, owner: Option<&Ownership>) -> bool {
    owner.is_some_and(|ownership| identity.org.as_deref() == Some(&*ownership.org))
}

/// Whether the directory does not know an id, or gives it to the identity's org. For an identity without an org, every
/// owner is another org.
fn not_anothers(identity: &Identity, owner: Option<&Ownership>) -> bool {
    owner.is_none() || is_own(identity, owner)
}

#[cfg(test)]
mod tests;
