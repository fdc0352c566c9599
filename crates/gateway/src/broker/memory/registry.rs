//! What the memory broker keeps that is no event: directory, revocations, tickets, figures.

use std::collections::HashMap;

use bytes::Bytes;
use crewcast_events::{Kind, timestamp::unix_now};
use crewcast_store::{Ownership, OwnershipMode, OwnershipOutcome};
use tokio::time::Instant;

use crate::broker::{Control, Revocation, RevocationTarget, USAGE_AGE};

#[derive(Default)]
pub(super) struct MemoryDirectory {
    ownerships: HashMap<(Kind, String), Ownership>,
    revocations: HashMap<RevocationTarget, Revocation>,
    tickets: HashMap<String, (Instant, Bytes)>,
    usage: HashMap<String, (Instant, Bytes)>,
    clients: u64,
}

/// What a claim did.
pub(super) struct DirectoryChange {
    pub(super) outcome: OwnershipOutcome,
    /// What every gateway is told, when anything changed.
    pub(super) control: Option<Control>,
    /// Whether an owner lost the id, by a move or a removal, and with it what he logged.
    pub(super) lost: bool,
}

impl MemoryDirectory {
    pub(super) fn register(&mut self, ownership: &Ownership, mode: OwnershipMode) -> DirectoryChange {
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
            // A claim that does not say the crew of its org's own run leaves it as it is.
            let known = before.as_ref().filter(|_| foreign.is_none()).and_then(|before| before.crew.clone());
            let ownership = Ownership { crew: ownership.crew.clone().or(known), ..ownership.clone() };
            self.ownerships.insert(key, ownership.clone());
            (before.as_ref() != Some(&ownership), ownership)
        };
        let lost = foreign.is_some() || (removed && changed);
        let control = changed.then_some(Control::Directory { ownership: told, from: foreign, removed });
        DirectoryChange { outcome: OwnershipOutcome::Done, control, lost }
    }

    /// The number of a client that comes.
    pub(super) fn next_client(&mut self) -> u64 {
        self.clients += 1;
        self.clients
    }

    pub(super) fn owners(&self, kind: Kind, ids: &[String]) -> HashMap<String, Ownership> {
        let ownership =
            |id: &String| self.ownerships.get(&(kind, id.clone())).map(|ownership| (id.clone(), ownership.clone()));
        ids.iter().filter_map(ownership).collect()
    }

    pub(super) fn ids_of_org(&self, org: &str, kind: Kind) -> Vec<String> {
        let of_org = self.ownerships.values().filter(|ownership| ownership.kind == kind && ownership.org == org);
        of_org.map(|ownership| ownership.id.clone()).collect()
    }

    pub(super) fn revoke(&mut self, revocation: &Revocation) {
        self.revocations
            .entry(revocation.target.clone())
            .and_modify(|known| {
                known.issued_until = known.issued_until.max(revocation.issued_until);
                known.remember_until = known.remember_until.max(revocation.remember_until);
            })
            .or_insert_with(|| revocation.clone());
    }

    pub(super) fn revocations(&mut self) -> Vec<Revocation> {
        self.forget_revocations();
        self.revocations.values().cloned().collect()
    }

    fn forget_revocations(&mut self) {
        let now = unix_now();
        self.revocations.retain(|_, revocation| revocation.remember_until >= now);
    }

    pub(super) fn put_ticket(&mut self, ticket: &str, content: Bytes, until: Instant) {
        self.tickets.insert(ticket.to_owned(), (until, content));
    }

    pub(super) fn take_ticket(&mut self, ticket: &str, now: Instant) -> Option<Bytes> {
        self.tickets.remove(ticket).filter(|(until, _)| now < *until).map(|(_, content)| content)
    }

    pub(super) fn report_usage(&mut self, replica: &str, usage: Option<Bytes>, now: Instant) {
        self.usage.retain(|known, (until, _)| now < *until && known != replica);
        if let Some(usage) = usage {
            self.usage.insert(replica.to_owned(), (now + USAGE_AGE, usage));
        }
    }

    pub(super) fn usage(&self, now: Instant) -> Vec<(String, Bytes)> {
        let alive = self.usage.iter().filter(|(_, (until, _))| now < *until);
        alive.map(|(replica, (_, usage))| (replica.clone(), usage.clone())).collect()
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.forget_revocations();
        self.tickets.retain(|_, (until, _)| now < *until);
    }

    #[cfg(test)]
    pub(super) fn tickets(&self) -> usize {
        self.tickets.len()
    }
}
