//! Revoked tokens: one by its `jti`, or all of a `sub` issued up to a moment.

use std::collections::HashMap;

use parking_lot::RwLock;

use super::Identity;
use crate::registry::{Revocation, RevocationTarget};

/// The revocations that this replica knows. Entries leave only when they expire: a revocation is never withdrawn.
#[derive(Default)]
pub(super) struct RevocationSet {
    sets: RwLock<Sets>,
}

#[derive(Default)]
struct Sets {
    /// jti → remembered until.
    tokens: HashMap<String, u64>,
    /// sub → (issued until, remembered until).
    users: HashMap<String, (u64, u64)>,
}

impl RevocationSet {
    /// Whether the identity's token is revoked. Never true for anonymous identities.
    pub(super) fn contain(&self, identity: &Identity) -> bool {
        if identity.anonymous {
            return false;
        }
        let sets = self.sets.read();
        let by_token = identity.jti.as_ref().is_some_and(|jti| sets.tokens.contains_key(jti));
        // A token without `iat` may have been issued before the revocation.
        let by_user = || {
            let user = sets.users.get(&*identity.sub);
            user.is_some_and(|(until, _)| identity.issued_at.is_none_or(|issued_at| issued_at <= *until))
        };
        by_token || by_user()
    }

    /// Adds revocations, and drops those of which every token has expired by `now` (Unix seconds). Returns whether any
    /// of them was new.
    pub(super) fn add(&self, revocations: &[Revocation], now: u64) -> bool {
        let mut sets = self.sets.write();
        sets.tokens.retain(|_, remember_until| *remember_until > now);
        sets.users.retain(|_, (_, remember_until)| *remember_until > now);
        let mut news = false;
        for revocation in revocations.iter().filter(|revocation| revocation.remember_until > now) {
            news |= sets.add(revocation);
        }
        news
    }
}

impl Sets {
    fn add(&mut self, revocation: &Revocation) -> bool {
        let Revocation { target, issued_until, remember_until } = revocation;
        match target {
            RevocationTarget::Jti(jti) => {
                let known = self.tokens.get_mut(jti);
                let news = known.is_none();
                let until = known.map_or(*remember_until, |until| (*until).max(*remember_until));
                self.tokens.insert(jti.clone(), until);
                news
            }
            RevocationTarget::Sub(sub) => {
                let (issued, remembered) = self.users.get(sub).copied().unwrap_or_default();
                let news = remembered == 0 || *issued_until > issued;
                self.users.insert(sub.clone(), (issued.max(*issued_until), remembered.max(*remember_until)));
                news
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::user;

    fn jti(jti: &str, remember_until: u64) -> Revocation {
        Revocation { target: RevocationTarget::Jti(jti.to_owned()), issued_until: 100, remember_until }
    }

    fn sub(sub: &str, issued_until: u64, remember_until: u64) -> Revocation {
        Revocation { target: RevocationTarget::Sub(sub.to_owned()), issued_until, remember_until }
    }

    #[test]
    fn a_revocation_by_jti_matches_that_token() {
        let revocations = RevocationSet::default();
        assert!(revocations.add(&[jti("j1", 200)], 100));
        assert!(!revocations.add(&[jti("j1", 200)], 100), "already known");
        assert!(revocations.contain(&Identity { jti: Some("j1".to_owned()), ..user("u") }));
        assert!(!revocations.contain(&Identity { jti: Some("j2".to_owned()), ..user("u") }));
        assert!(!revocations.contain(&user("u")));
        assert!(!revocations.contain(&user("j1")), "a jti is not a sub");
    }

    #[test]
    fn a_revocation_by_sub_depends_on_the_time_of_issue() {
        let revocations = RevocationSet::default();
        assert!(revocations.add(&[sub("u", 100, 200)], 100));
        let issued = |issued_at| Identity { issued_at, ..user("u") };
        assert!(revocations.contain(&issued(Some(99))) && revocations.contain(&issued(Some(100))));
        assert!(revocations.contain(&issued(None)));
        assert!(!revocations.contain(&issued(Some(101))), "issued after");
        assert!(!revocations.contain(&user("other")));
        assert!(!revocations.contain(&Identity { anonymous: true, ..issued(None) }));
        assert!(revocations.add(&[sub("u", 150, 180)], 120), "a later one");
        assert!(!revocations.add(&[sub("u", 120, 190)], 120), "an earlier one does not shrink it");
        assert!(revocations.contain(&issued(Some(150))));
        revocations.add(&[], 199);
        assert!(revocations.contain(&issued(Some(150))), "kept as long as the longest entry asks for");
    }

    #[test]
    fn a_revocation_is_dropped_when_every_token_has_expired() {
        let revocations = RevocationSet::default();
        revocations.add(&[jti("j", 200), sub("u", 100, 200)], 100);
        revocations.add(&[], 200);
        assert!(!revocations.contain(&Identity { jti: Some("j".to_owned()), ..user("u") }));
        let sets = revocations.sets.read();
        assert!(sets.tokens.is_empty() && sets.users.is_empty());
        drop(sets);
        assert!(!revocations.add(&[jti("late", 200)], 200), "expired on arrival");
    }
}
