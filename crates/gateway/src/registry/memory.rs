//! The registry of the memory broker: one state, under the lock with which the broker delivers.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use crewcast_events::{Kind, timestamp::unix_now};
use crewcast_store::{Ownership, OwnershipMode, OwnershipOutcome};
use tokio::time::Instant;

use super::{
    BrokerError, ClientNumbers, Control, Directory, Revocation, RevocationTarget, Revocations, Tickets, USAGE_AGE,
    UsageBoard,
};
use crate::broker::memory::MemoryBroker;

/// Owners, revocations, tickets, usage and the last client number.
#[derive(Default)]
pub(crate) struct MemoryRegistry {
    ownerships: HashMap<(Kind, String), Ownership>,
    revocations: HashMap<RevocationTarget, Revocation>,
    tickets: HashMap<String, (Instant, Bytes)>,
    usage: HashMap<String, (Instant, Bytes)>,
    clients: u64,
}

/// The effect of registering an owner.
pub(crate) struct DirectoryChange {
    pub(crate) outcome: OwnershipOutcome,
    /// The announcement to every gateway, when anything changed.
    pub(crate) control: Option<Control>,
    /// Whether an owner lost the id, by a move or a removal, and with it the logs.
    pub(crate) lost: bool,
}

impl MemoryRegistry {
    pub(crate) fn register(&mut self, ownership: &Ownership, mode: OwnershipMode) -> DirectoryChange {
        let key = (ownership.kind, ownership.id.clone());
        let before = self.ownerships.get(&key).cloned();
        let foreign = before.as_ref().map(|before| before.org.clone()).filter(|org| *org != ownership.org);
        if let Some(org) = foreign.clone().filter(|_| mode != OwnershipMode::Move) {
            return DirectoryChange { outcome: OwnershipOutcome::OwnedBy(org), control: None, lost: false };
        }
        let removed = mode == OwnershipMode::Remove;
        let (changed, told) = if removed {
            let gone = self.ownerships.remove(&key);
            (gone.is_some(), gone.unwrap_or_else(|| ownership.clone()))
        } else {
            // A registration without a crew keeps the crew that is known of the org's own run.
            let known = before.as_ref().filter(|_| foreign.is_none()).and_then(|before| before.crew.clone());
            let ownership = Ownership { crew: ownership.crew.clone().or(known), ..ownership.clone() };
            self.ownerships.insert(key, ownership.clone());
            (before.as_ref() != Some(&ownership), ownership)
        };
        let lost = foreign.is_some() || (removed && changed);
        let control = changed.then_some(Control::Directory { ownership: told, from: foreign, removed });
        DirectoryChange { outcome: OwnershipOutcome::Done, control, lost }
    }

    /// The number of the next client.
    fn next_client(&mut self) -> u64 {
        self.clients += 1;
        self.clients
    }

    fn owners(&self, kind: Kind, ids: &[String]) -> HashMap<String, Ownership> {
        let ownership =
            |id: &String| self.ownerships.get(&(kind, id.clone())).map(|ownership| (id.clone(), ownership.clone()));
        ids.iter().filter_map(ownership).collect()
    }

    fn ids_of_org(&self, org: &str, kind: Kind) -> Vec<String> {
        let of_org = self.ownerships.values().filter(|ownership| ownership.kind == kind && ownership.org == org);
        of_org.map(|ownership| ownership.id.clone()).collect()
    }

    fn revoke(&mut self, revocation: &Revocation) {
        self.revocations
            .entry(revocation.target.clone())
            .and_modify(|known| {
                known.issued_until = known.issued_until.max(revocation.issued_until);
                known.remember_until = known.remember_until.max(revocation.remember_until);
            })
            .or_insert_with(|| revocation.clone());
    }

    fn revocations(&mut self) -> Vec<Revocation> {
        self.forget_revocations();
        self.revocations.values().cloned().collect()
    }

    fn forget_revocations(&mut self) {
        let now = unix_now();
        self.revocations.retain(|_, revocation| revocation.remember_until >= now);
    }

    fn put_ticket(&mut self, ticket: &str, content: Bytes, until: Instant) {
        self.tickets.insert(ticket.to_owned(), (until, content));
    }

    fn take_ticket(&mut self, ticket: &str, now: Instant) -> Option<Bytes> {
        self.tickets.remove(ticket).filter(|(until, _)| now < *until).map(|(_, content)| content)
    }

    fn report_usage(&mut self, replica: &str, usage: Option<Bytes>, now: Instant) {
        self.usage.retain(|known, (until, _)| now < *until && known != replica);
        if let Some(usage) = usage {
            self.usage.insert(replica.to_owned(), (now + USAGE_AGE, usage));
        }
    }

    fn usage(&self, now: Instant) -> Vec<(String, Bytes)> {
        let alive = self.usage.iter().filter(|(_, (until, _))| now < *until);
        alive.map(|(replica, (_, usage))| (replica.clone(), usage.clone())).collect()
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        self.forget_revocations();
        self.tickets.retain(|_, (until, _)| now < *until);
    }

    #[cfg(test)]
    pub(crate) fn tickets(&self) -> usize {
        self.tickets.len()
    }
}

#[async_trait]
impl Directory for MemoryBroker {
    async fn owners(&self, kind: Kind, ids: &[String]) -> Result<HashMap<String, Ownership>, BrokerError> {
        Ok(self.with_registry(|registry| (registry.owners(kind, ids), None)))
    }

    async fn ids_of_org(&self, org: &str, kind: Kind) -> Result<Vec<String>, BrokerError> {
        Ok(self.with_registry(|registry| (registry.ids_of_org(org, kind), None)))
    }
}

#[async_trait]
impl Revocations for MemoryBroker {
    async fn revoke(&self, revocation: &Revocation) -> Result<(), BrokerError> {
        let announced = Some(Control::Revoked(revocation.clone()));
        self.with_registry(|registry| (registry.revoke(revocation), announced));
        Ok(())
    }

    async fn revocations(&self) -> Result<Vec<Revocation>, BrokerError> {
        Ok(self.with_registry(|registry| (registry.revocations(), None)))
    }
}

#[async_trait]
impl Tickets for MemoryBroker {
    async fn put_ticket(&self, ticket: &str, content: Bytes, ttl: Duration) -> Result<(), BrokerError> {
        self.with_registry(|registry| (registry.put_ticket(ticket, content, Instant::now() + ttl), None));
        Ok(())
    }

    async fn take_ticket(&self, ticket: &str) -> Result<Option<Bytes>, BrokerError> {
        Ok(self.with_registry(|registry| (registry.take_ticket(ticket, Instant::now()), None)))
    }
}

#[async_trait]
impl UsageBoard for MemoryBroker {
    async fn report_usage(&self, replica: &str, usage: Option<Bytes>) -> Result<(), BrokerError> {
        self.with_registry(|registry| (registry.report_usage(replica, usage, Instant::now()), None));
        Ok(())
    }

    async fn usage(&self) -> Result<Vec<(String, Bytes)>, BrokerError> {
        Ok(self.with_registry(|registry| (registry.usage(Instant::now()), None)))
    }
}

#[async_trait]
impl ClientNumbers for MemoryBroker {
    async fn register_client(&self, client: &str) -> Result<u64, BrokerError> {
        let register = |registry: &mut MemoryRegistry| {
            let number = registry.next_client();
            (number, Some(Control::Client { client: client.to_owned(), number }))
        };
        Ok(self.with_registry(register))
    }
}
