//! id → owner.

use std::{collections::HashMap, sync::Arc};

use crewcast_events::Kind;
use crewcast_store::Ownership;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{BATCH, FRESH, RETRY};
use crate::{
    auth::change_signal::ChangeSignal,
    registry::{BrokerError, Directory},
};

/// Most ids that are cached: about 20 MB. Beyond it, those unused for longest are dropped.
const MAX_ENTRIES: usize = 65_536;

pub(super) struct OwnerCache {
    directory: Arc<dyn Directory>,
    changes: Arc<ChangeSignal>,
    cache: Mutex<Cache>,
}

type Answers = HashMap<String, Option<Ownership>>;

#[derive(Default)]
struct Cache {
    entries: HashMap<Kind, HashMap<String, CachedOwner>>,
    len: usize,
    /// Counts writes, so that a slow read does not overwrite a control message that arrived meanwhile.
    writes: u64,
    /// Counts lookups and writes.
    touches: u64,
}

struct CachedOwner {
    owner: Option<Ownership>,
    /// Number of the write that this entry comes from.
    written: u64,
    /// When the entry has to be read again.
    stale_at: Instant,
    /// Number of the last lookup or write of this entry: a full cache drops entries in this order.
    touched: u64,
    /// Whether the entry was used since the last [`OwnerCache::forget_unused`].
    used: bool,
}

impl OwnerCache {
    pub(super) fn new(directory: Arc<dyn Directory>, changes: Arc<ChangeSignal>) -> Self {
        Self { directory, changes, cache: Mutex::default() }
    }

    /// The owners in the order of `ids`.
    pub(super) async fn of(&self, kind: Kind, ids: &[String]) -> Result<Vec<Option<Ownership>>, BrokerError> {
        let (mut answers, missing, since) = self.cache.lock().fresh(kind, ids);
        for batch in missing.chunks(BATCH) {
            match self.directory.owners(kind, batch).await {
                Ok(owners) => answers.extend(self.store(kind, batch, &owners, since)),
                Err(error) => answers.extend(self.cache.lock().stale(kind, batch).ok_or(error)?),
            }
        }
        Ok(ids.iter().map(|id| answers.get(id).cloned().flatten()).collect())
    }

    /// Stores what was read. Returns it, or a newer value that was written meanwhile.
    fn store(&self, kind: Kind, ids: &[String], owners: &HashMap<String, Ownership>, since: u64) -> Answers {
        let mut cache = self.cache.lock();
        let changed = cache.store(kind, ids, owners, since);
        let answer = |id: &String| (id.clone(), cache.ask(kind, id).unwrap_or_else(|| owners.get(id).cloned()));
        let answers = ids.iter().map(answer).collect();
        drop(cache);
        if changed {
            self.changes.count();
        }
        answers
    }

    /// Applies a control message.
    pub(super) fn apply_control(&self, ownership: &Ownership, removed: bool) {
        let mut cache = self.cache.lock();
        let owner = (!removed).then(|| ownership.clone());
        let changed = cache.get(ownership.kind, &ownership.id).is_some_and(|entry| entry.owner != owner);
        cache.write(ownership.kind, &ownership.id, owner, Instant::now());
        drop(cache);
        if changed {
            self.changes.count();
        }
    }

    /// Reads every entry again.
    pub(super) async fn reread(&self) -> Result<(), BrokerError> {
        let (since, all) = {
            let cache = self.cache.lock();
            let ids =
                |(kind, ids): (&Kind, &HashMap<String, CachedOwner>)| (*kind, ids.keys().cloned().collect::<Vec<_>>());
            (cache.writes, cache.entries.iter().map(ids).collect::<Vec<_>>())
        };
        let mut changed = false;
        for (kind, ids) in all {
            for batch in ids.chunks(BATCH) {
                let owners = self.directory.owners(kind, batch).await?;
                changed |= self.cache.lock().store(kind, batch, &owners, since);
            }
        }
        if changed {
            self.changes.count();
        }
        Ok(())
    }

    pub(super) fn forget_unused(&self) {
        let mut cache = self.cache.lock();
        for entries in cache.entries.values_mut() {
            entries.retain(|_, entry| std::mem::take(&mut entry.used));
        }
        cache.len = cache.entries.values().map(HashMap::len).sum();
    }
}

impl Cache {
    fn get(&self, kind: Kind, id: &str) -> Option<&CachedOwner> {
        self.entries.get(&kind)?.get(id)
    }

    /// The answers that are fresh, the ids of the others, and the number of the last write.
    fn fresh(&mut self, kind: Kind, ids: &[String]) -> (Answers, Vec<String>, u64) {
        let now = Instant::now();
        let is_fresh = |id: &&String| self.get(kind, id).is_some_and(|entry| now < entry.stale_at);
        let (fresh, missing): (Vec<_>, Vec<_>) = ids.iter().partition(is_fresh);
        let answers = fresh.into_iter().filter_map(|id| Some((id.clone(), self.ask(kind, id)?))).collect();
        (answers, missing.into_iter().cloned().collect(), self.writes)
    }

    /// After a failed read: the last answers, if every id has one. They then remain valid for [`RETRY`].
    fn stale(&mut self, kind: Kind, ids: &[String]) -> Option<Answers> {
        let stale_at = Instant::now() + RETRY;
        let entries = self.entries.get_mut(&kind)?;
        for id in ids {
            let entry = entries.get_mut(id)?;
            entry.stale_at = entry.stale_at.max(stale_at);
        }
        ids.iter().map(|id| Some((id.clone(), self.ask(kind, id)?))).collect()
    }

    fn ask(&mut self, kind: Kind, id: &str) -> Option<Option<Ownership>> {
        let entry = self.entries.get_mut(&kind)?.get_mut(id)?;
        self.touches += 1;
        entry.used = true;
        entry.touched = self.touches;
        Some(entry.owner.clone())
    }

    /// Stores what was read, except entries written after `since`. Returns whether an entry changed.
    fn store(&mut self, kind: Kind, ids: &[String], owners: &HashMap<String, Ownership>, since: u64) -> bool {
        let now = Instant::now();
        let mut changed = false;
        for id in ids {
            let owner = owners.get(id);
            match self.get(kind, id) {
                Some(entry) if entry.written > since => continue,
                Some(entry) => changed |= entry.owner.as_ref() != owner,
                None => {}
            }
            self.write(kind, id, owner.cloned(), now);
        }
        changed
    }

    fn write(&mut self, kind: Kind, id: &str, owner: Option<Ownership>, now: Instant) {
        self.writes += 1;
        self.touches += 1;
        let written = self.writes;
        if let Some(entry) = self.entries.get_mut(&kind).and_then(|entries| entries.get_mut(id)) {
            entry.owner = owner;
            entry.written = written;
            entry.stale_at = now + FRESH;
            return;
        }
        if self.len >= MAX_ENTRIES {
            self.make_room();
        }
        let entry = CachedOwner { owner, written, stale_at: now + FRESH, touched: self.touches, used: false };
        self.entries.entry(kind).or_default().insert(id.to_owned(), entry);
        self.len += 1;
    }

    /// Drops the half of the entries unused for longest: rare, and therefore cheap on average.
    fn make_room(&mut self) {
        let mut touched: Vec<_> = self.entries.values().flat_map(HashMap::values).map(|entry| entry.touched).collect();
        let half = touched.len() / 2;
        let (_, median, _) = touched.select_nth_unstable(half);
        for entries in self.entries.values_mut() {
            entries.retain(|_, entry| entry.touched >= *median);
        }
        self.len = self.entries.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{FakeRegistry, ownership};

    #[tokio::test(start_paused = true)]
    async fn owners_are_read_once_and_again_when_stale() {
        let registry = FakeRegistry::new();
        registry.own(ownership(Kind::Crew, "a", "acme"));
        let owners = OwnerCache::new(registry.clone(), Arc::new(ChangeSignal::new()));
        let ids = ["b".to_owned(), "a".to_owned()];
        for _ in 0..3 {
            assert_eq!(owners.of(Kind::Crew, &ids).await.unwrap(), [None, Some(ownership(Kind::Crew, "a", "acme"))]);
        }
        assert_eq!(registry.owner_reads(), 1);
        registry.own(ownership(Kind::Crew, "b", "acme"));
        tokio::time::advance(FRESH).await;
        assert_eq!(owners.of(Kind::Crew, &ids).await.unwrap()[0], Some(ownership(Kind::Crew, "b", "acme")));
        assert_eq!(registry.owner_reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_answer_remains_valid_while_the_registry_is_down() {
        let registry = FakeRegistry::new();
        registry.own(ownership(Kind::Run, "r", "acme"));
        let owners = OwnerCache::new(registry.clone(), Arc::new(ChangeSignal::new()));
        let known = ["r".to_owned()];
        let first = owners.of(Kind::Run, &known).await.unwrap();
        registry.set_down(true);
        tokio::time::advance(FRESH).await;
        assert_eq!(owners.of(Kind::Run, &known).await.unwrap(), first);
        assert!(owners.of(Kind::Run, &["x".to_owned()]).await.is_err(), "never read");
        assert!(owners.of(Kind::Run, &["r".to_owned(), "x".to_owned()]).await.is_err());
        let reads = registry.owner_reads();
        owners.of(Kind::Run, &known).await.unwrap();
        assert_eq!(registry.owner_reads(), reads, "a broker that is down is not asked each time");
        tokio::time::advance(RETRY).await;
        registry.set_down(false);
        registry.own(ownership(Kind::Run, "r", "moved"));
        assert_eq!(owners.of(Kind::Run, &known).await.unwrap()[0].as_ref().unwrap().org, "moved");
    }

    #[tokio::test]
    async fn a_slow_read_does_not_overwrite_a_newer_message() {
        let registry = FakeRegistry::new();
        registry.own(ownership(Kind::Crew, "a", "acme"));
        let owners = Arc::new(OwnerCache::new(registry.clone(), Arc::new(ChangeSignal::new())));
        let gate = registry.hold_reads();
        let slow = tokio::spawn({
            let owners = owners.clone();
            async move { owners.of(Kind::Crew, &["a".to_owned()]).await.unwrap().remove(0) }
        });
        gate.entered().await;
        owners.apply_control(&ownership(Kind::Crew, "a", "globex"), false);
        gate.open();
        assert_eq!(slow.await.unwrap().unwrap().org, "globex");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_a_known_answer_is_counted() {
        let registry = FakeRegistry::new();
        let changes = Arc::new(ChangeSignal::new());
        let owners = OwnerCache::new(registry.clone(), changes.clone());
        owners.apply_control(&ownership(Kind::Crew, "never-asked", "acme"), false);
        owners.of(Kind::Crew, &["a".to_owned()]).await.unwrap();
        assert_eq!(changes.so_far(), 0);
        owners.apply_control(&ownership(Kind::Crew, "a", "acme"), false);
        assert_eq!(changes.so_far(), 1);
        owners.apply_control(&ownership(Kind::Crew, "a", "acme"), false);
        assert_eq!(changes.so_far(), 1, "registered again");
        owners.apply_control(&ownership(Kind::Crew, "a", "acme"), true);
        assert_eq!(changes.so_far(), 2);
        assert_eq!(owners.of(Kind::Crew, &["a".to_owned()]).await.unwrap(), [None]);
        assert_eq!(registry.owner_reads(), 1);

        registry.own(ownership(Kind::Crew, "a", "globex"));
        tokio::time::advance(FRESH).await;
        owners.of(Kind::Crew, &["a".to_owned()]).await.unwrap();
        assert_eq!(changes.so_far(), 3, "the read found the change: others hold the old answer");
    }

    #[tokio::test]
    async fn rereading_refreshes_every_known_entry() {
        let registry = FakeRegistry::new();
        let changes = Arc::new(ChangeSignal::new());
        let owners = OwnerCache::new(registry.clone(), changes.clone());
        owners.of(Kind::Crew, &["a".to_owned()]).await.unwrap();
        owners.reread().await.unwrap();
        assert_eq!(changes.so_far(), 0);
        registry.own(ownership(Kind::Crew, "a", "acme"));
        owners.reread().await.unwrap();
        assert_eq!(changes.so_far(), 1);
        assert_eq!(owners.of(Kind::Crew, &["a".to_owned()]).await.unwrap()[0].as_ref().unwrap().org, "acme");
    }

    #[tokio::test]
    async fn unused_entries_are_dropped_and_the_cache_stays_within_its_bound() {
        let owners = OwnerCache::new(FakeRegistry::new(), Arc::new(ChangeSignal::new()));
        owners.of(Kind::Crew, &["a".to_owned(), "b".to_owned()]).await.unwrap();
        owners.forget_unused();
        owners.of(Kind::Crew, &["b".to_owned()]).await.unwrap();
        owners.forget_unused();
        assert_eq!(owners.cache.lock().len, 1);

        let ids: Vec<_> = (0..MAX_ENTRIES + 10).map(|n| format!("c{n}")).collect();
        assert_eq!(owners.of(Kind::Crew, &ids).await.unwrap().len(), ids.len());
        let cache = owners.cache.lock();
        assert!(cache.len <= MAX_ENTRIES && cache.len == cache.entries[&Kind::Crew].len());
        assert!(cache.get(Kind::Crew, "b").is_none(), "the oldest went first");
    }
}
