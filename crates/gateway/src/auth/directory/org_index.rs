//! org → its ids of one kind, for claims of `"*"`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crewcast_events::Kind;
use crewcast_store::Ownership;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use super::{FRESH, RETRY};
use crate::{
    auth::change_signal::ChangeSignal,
    registry::{BrokerError, Directory},
};

/// Most lists that are cached. Beyond it, a list is read for each question and dropped.
const MAX_ROSTERS: usize = 10_000;

pub(super) struct OrgIndex {
    directory: Arc<dyn Directory>,
    changes: Arc<ChangeSignal>,
    known: Mutex<HashMap<(String, Kind), Arc<Roster>>>,
}

/// The ids of one org and kind.
struct Roster {
    state: Mutex<OrgEntry>,
    /// One reader at a time; the others use its result.
    reading: Semaphore,
}

#[derive(Default)]
struct OrgEntry {
    /// `None` until the first read.
    ids: Option<BTreeSet<String>>,
    /// When the list has to be read again.
    stale_at: Option<Instant>,
    /// Changes from control messages during a read that may not have seen them. `true`: the id is in the list.
    meanwhile: Option<HashMap<String, bool>>,
    /// Whether the list was used since the last [`OrgIndex::forget_unused`].
    used: bool,
}

impl OrgIndex {
    pub(super) fn new(directory: Arc<dyn Directory>, changes: Arc<ChangeSignal>) -> Self {
        Self { directory, changes, known: Mutex::default() }
    }

    pub(super) async fn of(&self, org: &str, kind: Kind) -> Result<Vec<String>, BrokerError> {
        let roster = self.roster(org, kind);
        if roster.state.lock().is_stale() {
            let result = self.read(&roster, org, kind, false).await;
            roster.state.lock().stand(result)?;
        }
        let mut state = roster.state.lock();
        state.used = true;
        Ok(state.ids.iter().flatten().cloned().collect())
    }

    fn roster(&self, org: &str, kind: Kind) -> Arc<Roster> {
        let mut known = self.known.lock();
        if let Some(roster) = known.get(&(org.to_owned(), kind)) {
            return roster.clone();
        }
        let roster = Arc::new(Roster { state: Mutex::default(), reading: Semaphore::new(1) });
        if known.len() < MAX_ROSTERS {
            known.insert((org.to_owned(), kind), roster.clone());
        }
        roster
    }

    /// Reads one list. Unless `always`, only if no other caller read it while this one waited.
    async fn read(&self, roster: &Roster, org: &str, kind: Kind, always: bool) -> Result<(), BrokerError> {
        // Never closed.
        let Ok(_turn) = roster.reading.acquire().await else { return Ok(()) };
        {
            let mut state = roster.state.lock();
            if !always && !state.is_stale() {
                return Ok(());
            }
            state.meanwhile = Some(HashMap::new());
        }
        let read = self.directory.ids_of_org(org, kind).await;
        let mut state = roster.state.lock();
        let meanwhile = state.meanwhile.take().unwrap_or_default();
        let mut ids: BTreeSet<_> = read?.into_iter().collect();
        for (id, there) in meanwhile {
            if there {
                ids.insert(id);
            } else {
                ids.remove(&id);
            }
        }
        let changed = state.ids.as_ref().is_some_and(|before| *before != ids);
        state.ids = Some(ids);
        state.stale_at = Some(Instant::now() + FRESH);
        drop(state);
        if changed {
            self.changes.count();
        }
        Ok(())
    }

    /// Applies a control message.
    pub(super) fn apply_control(&self, ownership: &Ownership, from: Option<&str>, removed: bool) {
        let mut changed = self.tell(&ownership.org, ownership, !removed);
        if let Some(from) = from.filter(|from| *from != ownership.org) {
            changed |= self.tell(from, ownership, false);
        }
        if changed {
            self.changes.count();
        }
    }

    /// Returns whether a list changed that was read before.
    fn tell(&self, org: &str, ownership: &Ownership, there: bool) -> bool {
        let Some(roster) = self.known.lock().get(&(org.to_owned(), ownership.kind)).cloned() else { return false };
        let mut state = roster.state.lock();
        if let Some(meanwhile) = &mut state.meanwhile {
            meanwhile.insert(ownership.id.clone(), there);
        }
        match &mut state.ids {
            Some(ids) if there => ids.insert(ownership.id.clone()),
            Some(ids) => ids.remove(&ownership.id),
            None => false,
        }
    }

    /// Reads every list again.
    pub(super) async fn reread(&self) -> Result<(), BrokerError> {
        let all: Vec<_> = self.known.lock().iter().map(|(key, roster)| (key.clone(), roster.clone())).collect();
        for ((org, kind), roster) in all {
            self.read(&roster, &org, kind, true).await?;
        }
        Ok(())
    }

    pub(super) fn forget_unused(&self) {
        self.known.lock().retain(|_, roster| std::mem::take(&mut roster.state.lock().used));
    }
}

impl OrgEntry {
    fn is_stale(&self) -> bool {
        self.stale_at.is_none_or(|stale_at| Instant::now() >= stale_at)
    }

    /// Handles the result of a read: after a failure the last answer, if any, remains valid for [`RETRY`].
    fn stand(&mut self, result: Result<(), BrokerError>) -> Result<(), BrokerError> {
        match result {
            Err(_) if self.ids.is_some() => {
                self.stale_at = self.stale_at.max(Some(Instant::now() + RETRY));
                Ok(())
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{FakeRegistry, ownership};

    #[tokio::test(start_paused = true)]
    async fn lists_are_read_once_then_follow_messages_and_are_read_again_when_stale() {
        let registry = FakeRegistry::new();
        registry.own(ownership(Kind::Crew, "a", "acme"));
        let changes = Arc::new(ChangeSignal::new());
        let org_index = OrgIndex::new(registry.clone(), changes.clone());
        org_index.apply_control(&ownership(Kind::Crew, "z", "acme"), None, false);
        assert_eq!(org_index.of("acme", Kind::Crew).await.unwrap(), ["a"]);
        org_index.apply_control(&ownership(Kind::Crew, "c", "globex"), None, false);
        org_index.apply_control(&ownership(Kind::Run, "c", "acme"), None, false);
        assert_eq!(changes.so_far(), 0, "no list in use is affected");
        org_index.apply_control(&ownership(Kind::Crew, "b", "acme"), None, false);
        org_index.apply_control(&ownership(Kind::Crew, "b", "acme"), None, false);
        assert_eq!(changes.so_far(), 1, "registering again is no change");
        assert_eq!(org_index.of("acme", Kind::Crew).await.unwrap(), ["a", "b"]);
        org_index.apply_control(&ownership(Kind::Crew, "a", "globex"), Some("acme"), false);
        org_index.apply_control(&ownership(Kind::Crew, "b", "acme"), None, true);
        assert_eq!(changes.so_far(), 3);
        assert!(org_index.of("acme", Kind::Crew).await.unwrap().is_empty(), "moved away, and removed");
        assert_eq!(registry.roster_reads(), 1);
        tokio::time::advance(FRESH).await;
        assert_eq!(org_index.of("acme", Kind::Crew).await.unwrap(), ["a"], "as the registry says");
        assert_eq!((registry.roster_reads(), changes.so_far()), (2, 4));
    }

    #[tokio::test]
    async fn a_message_during_a_read_counts_and_callers_share_the_read() {
        let registry = FakeRegistry::new();
        registry.own(ownership(Kind::Crew, "leaves", "acme"));
        let org_index = Arc::new(OrgIndex::new(registry.clone(), Arc::new(ChangeSignal::new())));
        let gate = registry.hold_reads();
        let ask = || {
            let org_index = org_index.clone();
            tokio::spawn(async move { org_index.of("acme", Kind::Crew).await.unwrap() })
        };
        let (first, second) = (ask(), ask());
        gate.entered().await;
        org_index.apply_control(&ownership(Kind::Crew, "comes", "acme"), None, false);
        org_index.apply_control(&ownership(Kind::Crew, "leaves", "globex"), Some("acme"), false);
        gate.open();
        assert_eq!(first.await.unwrap(), ["comes"]);
        assert_eq!(second.await.unwrap(), ["comes"]);
        assert_eq!(registry.roster_reads(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_answer_remains_valid_while_the_registry_is_down() {
        let registry = FakeRegistry::new();
        registry.own(ownership(Kind::Crew, "a", "acme"));
        let org_index = OrgIndex::new(registry.clone(), Arc::new(ChangeSignal::new()));
        org_index.of("acme", Kind::Crew).await.unwrap();
        registry.set_down(true);
        tokio::time::advance(FRESH).await;
        assert_eq!(org_index.of("acme", Kind::Crew).await.unwrap(), ["a"]);
        assert!(org_index.of("globex", Kind::Crew).await.is_err(), "never read");
        assert!(org_index.reread().await.is_err());
        let reads = registry.roster_reads();
        org_index.of("acme", Kind::Crew).await.unwrap();
        assert_eq!(registry.roster_reads(), reads);
    }

    #[tokio::test]
    async fn the_cache_stays_within_its_bound_and_still_answers() {
        let registry = FakeRegistry::new();
        let org_index = OrgIndex::new(registry.clone(), Arc::new(ChangeSignal::new()));
        for n in 0..MAX_ROSTERS {
            org_index.of(&format!("o{n}"), Kind::Crew).await.unwrap();
        }
        registry.own(ownership(Kind::Crew, "a", "late"));
        assert_eq!(org_index.of("late", Kind::Crew).await.unwrap(), ["a"]);
        assert_eq!(org_index.known.lock().len(), MAX_ROSTERS);
        org_index.forget_unused();
        org_index.of("o1", Kind::Crew).await.unwrap();
        org_index.forget_unused();
        assert_eq!(org_index.known.lock().len(), 1, "unused lists are dropped");
    }
}
