//! Which ids are ours: claimed before their first event, and again from time to time.

use std::{collections::HashMap, time::Duration};

use crewcast_events::Kind;
use crewcast_store::{AppendError, Backoff, Claim, ClaimMode, Claimed, Transport};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::tally::Tally;

/// How long a claim is believed: renewing keeps runs from ageing out and heals a directory that was lost.
const BELIEVE: Duration = Duration::from_secs(600);
/// How long a lost claim is believed: an operator may move the id meanwhile.
const BELIEVE_LOST: Duration = Duration::from_secs(60);
/// Beyond so many ids all are forgotten; claiming again is silent.
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
    /// Whether every claim holds. Asks the transport, for as long as it takes, where it is not known.
    pub(crate) async fn ours(&self, claims: &[Claim], transport: &dyn Transport, tally: &Tally) -> bool {
        for claim in claims {
            let ours = match self.known(claim) {
                Some(ours) => ours,
                None => self.ask(claim, transport, tally).await,
            };
            if !ours {
                return false;
            }
        }
        true
    }

    fn known(&self, claim: &Claim) -> Option<bool> {
        let verdicts = self.verdicts.lock();
        let verdict = verdicts.get(&claim.kind)?.get(&claim.id)?;
        let crew_said = claim.crew.is_none() || claim.crew == verdict.crew;
        (crew_said && Instant::now() < verdict.until).then_some(verdict.ours)
    }

    async fn ask(&self, claim: &Claim, transport: &dyn Transport, tally: &Tally) -> bool {
        let mut backoff = Backoff::default();
        let ours = loop {
            match transport.claim(claim, ClaimMode::Keep).await {
                Ok(Claimed::Done) => break true,
                Ok(Claimed::OwnedBy(_)) => break false,
                Err(AppendError::Unavailable(why)) => {
                    tally.retried(&why);
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(error) => {
                    // A producer may be allowed to append and not to register: the append decides.
                    let (kind, id) = (claim.kind.as_str(), &claim.id);
                    tracing::warn!(kind, id, %error, "the id could not be registered; its events are sent all the same");
                    break true;
                }
            }
        };
        let until = Instant::now() + if ours { BELIEVE } else { BELIEVE_LOST };
        let mut verdicts = self.verdicts.lock();
        if verdicts.values().map(HashMap::len).sum::<usize>() >= MAX_IDS {
            verdicts.clear();
        }
        let verdict = Verdict { ours, crew: claim.crew.clone(), until };
        verdicts.entry(claim.kind).or_default().insert(claim.id.clone(), verdict);
        ours
    }
}
