//! What the tests of this folder share: an in-memory registry, identities, tokens.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use crewcast_events::Kind;
use crewcast_store::Ownership;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::Identity;
use crate::registry::{BrokerError, Directory, Revocation, Revocations, Tickets};

/// An entry of the directory.
pub(super) fn ownership(kind: Kind, id: &str, org: &str) -> Ownership {
    Ownership { kind, id: id.to_owned(), org: org.to_owned(), crew: None }
}

/// An identity without an org and without grants.
pub(crate) fn user(sub: &str) -> Identity {
    Identity {
        sub: sub.into(),
        org: None,
        grants: Arc::default(),
        expires_at: None,
        issued_at: None,
        jti: None,
        admin: false,
        anonymous: false,
    }
}

/// A registry that counts its calls, can be down, and can delay its answers.
#[derive(Default)]
pub(super) struct FakeRegistry {
    ownerships: Mutex<HashMap<(Kind, String), Ownership>>,
    revocations: Mutex<Vec<Revocation>>,
    tickets: Mutex<HashMap<String, (Bytes, Duration)>>,
    down: AtomicBool,
    owner_reads: AtomicUsize,
    roster_reads: AtomicUsize,
    revocation_reads: AtomicUsize,
    gate: Mutex<Option<Gate>>,
}

/// Holds back answers that are already computed.
#[derive(Clone)]
pub(super) struct Gate {
    entered: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// Returns when a caller waits for its answer.
    pub(super) async fn entered(&self) {
        self.entered.acquire().await.unwrap().forget();
    }

    pub(super) fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS / 2);
    }
}

impl FakeRegistry {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn own(&self, ownership: Ownership) {
        self.ownerships.lock().insert((ownership.kind, ownership.id.clone()), ownership);
    }

    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, SeqCst);
    }

    pub(super) fn owner_reads(&self) -> usize {
        self.owner_reads.load(SeqCst)
    }

    pub(super) fn roster_reads(&self) -> usize {
        self.roster_reads.load(SeqCst)
    }

    pub(super) fn revocation_reads(&self) -> usize {
        self.revocation_reads.load(SeqCst)
    }

    /// The unused tickets with their time to live.
    pub(super) fn tickets(&self) -> Vec<(String, Duration)> {
        self.tickets.lock().iter().map(|(ticket, (_, ttl))| (ticket.clone(), *ttl)).collect()
    }

    pub(super) fn hold_reads(&self) -> Gate {
        let gate = Gate { entered: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) };
        *self.gate.lock() = Some(gate.clone());
        gate
    }

    async fn answer<T>(&self, answer: T) -> Result<T, BrokerError> {
        let gate = self.gate.lock().clone();
        if let Some(gate) = gate {
            gate.entered.add_permits(1);
            gate.open.acquire().await.unwrap().forget();
        }
        self.alive().map(|()| answer)
    }

    fn alive(&self) -> Result<(), BrokerError> {
        if self.down.load(SeqCst) { Err(BrokerError::Unavailable("down".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Directory for FakeRegistry {
    async fn owners(&self, kind: Kind, ids: &[String]) -> Result<HashMap<String, Ownership>, BrokerError> {
        self.owner_reads.fetch_add(1, SeqCst);
        let asked: HashSet<_> = ids.iter().collect();
        let owners = {
            let ownerships = self.ownerships.lock();
            let found = ownerships.values().filter(|ownership| ownership.kind == kind && asked.contains(&ownership.id));
            found.map(|ownership| (ownership.id.clone(), ownership.clone())).collect()
        };
        self.answer(owners).await
    }

    async fn ids_of_org(&self, org: &str, kind: Kind) -> Result<Vec<String>, BrokerError> {
        self.roster_reads.fetch_add(1, SeqCst);
        let owned = {
            let ownerships = self.ownerships.lock();
            let found = ownerships.values().filter(|ownership| ownership.kind == kind && ownership.org == org);
            found.map(|ownership| ownership.id.clone()).collect()
        };
        self.answer(owned).await
    }
}

#[async_trait]
impl Revocations for FakeRegistry {
    async fn revoke(&self, revocation: &Revocation) -> Result<(), BrokerError> {
        self.alive()?;
        self.revocations.lock().push(revocation.clone());
        Ok(())
    }

    async fn revocations(&self) -> Result<Vec<Revocation>, BrokerError> {
        self.revocation_reads.fetch_add(1, SeqCst);
        self.alive()?;
        Ok(self.revocations.lock().clone())
    }
}

#[async_trait]
impl Tickets for FakeRegistry {
    async fn put_ticket(&self, ticket: &str, content: Bytes, ttl: Duration) -> Result<(), BrokerError> {
        self.alive()?;
        self.tickets.lock().insert(ticket.to_owned(), (content, ttl));
        Ok(())
    }

    async fn take_ticket(&self, ticket: &str) -> Result<Option<Bytes>, BrokerError> {
        self.alive()?;
        let taken = self.tickets.lock().remove(ticket).map(|(content, _)| content);
        self.answer(taken).await
    }
}
