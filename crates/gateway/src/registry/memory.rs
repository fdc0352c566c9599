//! The registry of the memory broker: one state, under the lock with which the broker delivers.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use crewcast_events::Kind;
use crewcast_publisher::{Claim, ClaimMode, Claimed};
use tokio::time::Instant;

use super::{
    BrokerError, ClientNumbers, Control, Directory, Revocation, RevocationTarget, Revocations, Tickets, USAGE_AGE,
    UsageBoard, unix_now,
};
use crate::broker::memory::MemoryBroker;

/// Owners, revocations, tickets, usage and the last client number.
#[derive(Default)]
pub(crate) struct MemoryRegistry {
    claims: HashMap<(Kind, String), Claim>,
    revocations: HashMap<RevocationTarget, Revocation>,
    tickets: HashMap<String, (Instant, Bytes)>,
    usage: HashMap<String, (Instant, Bytes)>,
    clients: u64,
}

/// The effect of a claim.
pub(crate) struct ClaimOutcome {
    pub(crate) claimed: Claimed,
    /// The announcement to every gateway, when anything changed.
    pub(crate) control: Option<Control>,
    /// Whether an owner lost the id, by a move or a removal, and with it the logs.
    pub(crate) lost: bool,
}

impl MemoryRegistry {
    pub(crate) fn claim(&mut self, claim: &Claim, mode: ClaimMode) -> ClaimOutcome {
        let key = (claim.kind, claim.id.clone());
        let before = self.claims.get(&key).cloned();
        let foreign = before.as_ref().map(|before| before.org.clone()).filter(|org| *org != claim.org);
        if let Some(org) = foreign.clone().filter(|_| mode != ClaimMode::Move) {
            return ClaimOutcome { claimed: Claimed::OwnedBy(org), control: None, lost: false };
        }
        let removed = mode == ClaimMode::Remove;
        let (changed, told) = if removed {
            let gone = self.claims.remove(&key);
            (gone.is_some(), gone.unwrap_or_else(|| claim.clone()))
        } else {
            // A claim without a crew keeps the crew that is known of the org's own run.
            let known = before.as_ref().filter(|_| foreign.is_none()).and_then(|before| before.crew.clone());
            let claim = Claim { crew: claim.crew.clone().or(known), ..claim.clone() };
            self.claims.insert(key, claim.clone());
            (before.as_ref() != Some(&claim), claim)
        };
        let lost = foreign.is_some() || (removed && changed);
        let control = changed.then_some(Control::Directory { claim: told, from: foreign, removed });
        ClaimOutcome { claimed: Claimed::Done, control, lost }
    }

    /// The number of the next client.
    fn next_client(&mut self) -> u64 {
        self.clients += 1;
        self.clients
    }

    fn owners(&self, kind: Kind, ids: &[String]) -> HashMap<String, Claim> {
        let claim = |id: &String| self.claims.get(&(kind, id.clone())).map(|claim| (id.clone(), claim.clone()));
        ids.iter().filter_map(claim).collect()
    }

    fn ids_of_org(&self, org: &str, kind: Kind) -> Vec<String> {
        let of_org = self.claims.values().filter(|claim| claim.kind == kind && claim.org == org);
        of_org.map(|claim| claim.id.clone()).collect()
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
    async fn owners(&self, kind: Kind, ids: &[String]) -> Result<HashMap<String, Claim>, BrokerError> {
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
