//! The ids that the publisher's org owns: registered before their first event, and again from time to time.

use std::{collections::HashMap, time::Duration};

use crewcast_events::Kind;
use crewcast_store::{AppendError, Backoff, Ownership, OwnershipMode, OwnershipOutcome, Transport};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::counters::Counters;

/// How long a registration is trusted. Registering again keeps runs from expiring and restores a lost directory.
const BELIEVE: Duration = Duration::from_secs(600);
/// How long a refusal is trusted: an operator may move the id meanwhile.
const BELIEVE_LOST: Duration = Duration::from_secs(60);
/// Beyond this many ids all are forgotten. Registering again has no side effect.
const MAX_IDS: usize = 8192;

#[derive(Clone)]
struct Verdict {
    ours: bool,
    crew: Option<String>,
    until: Instant,
}

#[derive(Default)]
pub(crate) struct Directory {
    verdicts: Mutex<HashMap<Kind, HashMap<String, Verdict>>>,
}

impl Directory {
    /// Whether the org owns every id. Asks the transport when it is not known, and retries until it answers.
    pub(crate) async fn ours(&self, ownerships: &[Ownership], transport: &dyn Transport, counters: &Counters) -> bool {
        for ownership in ownerships {
            let ours = match self.known(ownership) {
                Some(ours) => ours,
                None => self.ask(ownership, transport, counters).await,
            };
            if !ours {
                return false;
            }
        }
        true
    }

    fn known(&self, ownership: &Ownership) -> Option<bool> {
        let verdicts = self.verdicts.lock();
        let verdict = verdicts.get(&ownership.kind)?.get(&ownership.id)?;
        let crew_said = ownership.crew.is_none() || ownership.crew == verdict.crew;
        (crew_said && Instant::now() < verdict.until).then_some(verdict.ours)
    }

    async fn ask(&self, ownership: &Ownership, transport: &dyn Transport, counters: &Counters) -> bool {
        let mut backoff = Backoff::default();
        let ours = loop {
            match transport.register(ownership, OwnershipMode::Keep).await {
                Ok(OwnershipOutcome::Done) => break true,
                Ok(OwnershipOutcome::OwnedBy(_)) => break false,
                Err(AppendError::Unavailable(why)) => {
                    counters.retried(&why);
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(error) => {
                    // A producer may be allowed to append but not to register: the append decides.
                    let (kind, id) = (ownership.kind.as_str(), &ownership.id);
                    tracing::warn!(kind, id, %error, "the id could not be registered; its events are sent nevertheless");
                    break true;
                }
            }
        };
        let until = Instant::now() + if ours { BELIEVE } else { BELIEVE_LOST };
        let mut verdicts = self.verdicts.lock();
        if verdicts.values().map(HashMap::len).sum::<usize>() >= MAX_IDS {
            verdicts.clear();
        }
        let verdict = Verdict { ours, crew: ownership.crew.clone(), until };
        verdicts.entry(ownership.kind).or_default().insert(ownership.id.clone(), verdict);
        ours
    }
}
