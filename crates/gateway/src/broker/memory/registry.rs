//! What the memory broker keeps that is no event: directory, revocations, tickets, figures.

use std::collections::HashMap;

use bytes::Bytes;
use crewcast_events::{Kind, timestamp::unix_now};
use crewcast_store::{Claim, ClaimMode, Claimed};
use tokio::time::Instant;

use crate::broker::{Control, Revocation, RevocationTarget, USAGE_AGE};

#[derive(Default)]
pub(super) struct MemoryDirectory {
    claims: HashMap<(Kind, String), Claim>,
    revocations: HashMap<RevocationTarget, Revocation>,
    tickets: HashMap<String, (Instant, Bytes)>,
    usage: HashMap<String, (Instant, Bytes)>,
    clients: u64,
}

/// What a claim did.
pub(super) struct ClaimOutcome {
    pub(super) claimed: Claimed,
    /// What every gateway is told, when anything changed.
    pub(super) control: Option<Control>,
    /// Whether an owner lost the id, by a move or a removal, and with it what he logged.
    pub(super) lost: bool,
}

impl MemoryDirectory {
    pub(super) fn claim(&mut self, claim: &Claim, mode: ClaimMode) -> ClaimOutcome {
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
            // A claim that does not say the crew of its org's own run leaves it as it is.
            let known = before.as_ref().filter(|_| foreign.is_none()).and_then(|before| before.crew.clone());
            let claim = Claim { crew: claim.crew.clone().or(known), ..claim.clone() };
            self.claims.insert(key, claim.clone());
            (before.as_ref() != Some(&claim), claim)
        };
        let lost = foreign.is_some() || (removed && changed);
        let control = changed.then_some(Control::Directory { claim: told, from: foreign, removed });
        ClaimOutcome { claimed: Claimed::Done, control, lost }
    }

    /// The number of a client that comes.
    pub(super) fn next_client(&mut self) -> u64 {
        self.clients += 1;
        self.clients
    }

    pub(super) fn owners(&self, kind: Kind, ids: &[String]) -> HashMap<String, Claim> {
        let claim = |id: &String| self.claims.get(&(kind, id.clone())).map(|claim| (id.clone(), claim.clone()));
        ids.iter().filter_map(claim).collect()
    }

    pub(super) fn ids_of_org(&self, org: &str, kind: Kind) -> Vec<String> {
        let of_org = self.claims.values().filter(|claim| claim.kind == kind && claim.org == org);
        of_org.map(|claim| claim.id.clone()).collect()
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
