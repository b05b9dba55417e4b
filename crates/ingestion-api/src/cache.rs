//! Caches which user an identity belongs to. "Unknown" is never cached.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use ports::identities::{CaselessTypes, Identity};
use quick_cache::{Equivalent, Weighter, sync::Cache};
use segment_engine::ids::UserId;

/// How many deleted users are remembered before the cache is cleared instead.
const GONE_MAX: usize = 100_000;
/// What an entry costs besides its strings: two allocations, the slot and the cache's own links.
const ENTRY_BYTES: u64 = 160;
/// The expected size of an entry, to size the table.
const ENTRY_BYTES_GUESS: usize = 220;

/// A bounded cache of identities.
pub struct IdentityCache {
    caseless: CaselessTypes,
    /// Keyed by the forms in which identities compare.
    users: Cache<Identity, UserId, EntryBytes>,
    lost: RwLock<Lost>,
}

/// Which cached entries no longer hold.
#[derive(Default)]
struct Lost {
    /// Deleted and absorbed users. Their entries may still be in the cache, and look-ups under way may add more.
    users: HashSet<UserId>,
    /// How often living users lost an identity. The results of look-ups under way meanwhile are not cached.
    identities: u64,
}

/// The state of the cache before a look-up in the store; [`IdentityCache::put`] wants it with the result.
#[derive(Clone, Copy, Debug)]
pub struct Before(u64);

#[derive(Clone)]
struct EntryBytes;

impl Weighter<Identity, UserId> for EntryBytes {
    fn weight(&self, identity: &Identity, _: &UserId) -> u64 {
        ENTRY_BYTES + (identity.id.len() + identity.id_type.as_ref().map_or(0, String::len)) as u64
    }
}

/// An identity to look up, without owning it.
struct Borrowed<'a> {
    id_type: Option<&'a str>,
    id: &'a str,
}

/// The same hash as the derived one of [`Identity`].
impl Hash for Borrowed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id_type.hash(state);
        self.id.hash(state);
    }
}

impl Equivalent<Identity> for Borrowed<'_> {
    fn equivalent(&self, identity: &Identity) -> bool {
        self.id == identity.id && self.id_type == identity.id_type.as_deref()
    }
}

impl IdentityCache {
    /// Returns an empty cache of at most `bytes_max` bytes, for ids that compare by these rules.
    pub fn new(bytes_max: usize, caseless: CaselessTypes) -> Self {
        let users = Cache::with_weighter(bytes_max / ENTRY_BYTES_GUESS, bytes_max as u64, EntryBytes);
        Self { caseless, users, lost: RwLock::default() }
    }

    fn lost(&self) -> RwLockReadGuard<'_, Lost> {
        self.lost.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the user of an identity, if that is cached.
    pub fn get(&self, id_type: Option<&str>, id: &str) -> Option<UserId> {
        let form = self.caseless.form(id_type.unwrap_or_default(), id);
        let user_id = self.users.get(&Borrowed { id_type, id: &form })?;
        if self.lost().users.contains(&user_id) { None } else { Some(user_id) }
    }

    /// Call this before a look-up in the store.
    pub fn before_lookup(&self) -> Before {
        Before(self.lost().identities)
    }

    /// Caches the user of an identity, unless a user lost an identity since `before`.
    pub fn put(&self, identity: &Identity, user_id: UserId, before: Before) {
        let lost = self.lost();
        if lost.identities == before.0 {
            self.users.insert(identity.form(&self.caseless), user_id);
        }
    }

    /// Forgets the identities of a user that was deleted or merged into another; ids are never used again.
    pub fn forget(&self, user_id: UserId) {
        let mut lost = self.lost.write().unwrap_or_else(PoisonError::into_inner);
        if lost.users.len() >= GONE_MAX {
            self.users.clear();
            lost.users.clear();
        }
        lost.users.insert(user_id);
    }

    /// Forgets an identity that its user no longer has.
    pub fn forget_identity(&self, identity: &Identity) {
        let mut lost = self.lost.write().unwrap_or_else(PoisonError::into_inner);
        lost.identities += 1;
        self.users.remove(&identity.form(&self.caseless));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id_type: Option<&str>, id: &str) -> Identity {
        Identity { id_type: id_type.map(str::to_owned), id: id.to_owned() }
    }

    #[test]
    fn pairs_are_distinct_and_users_are_forgotten() {
        let cache = IdentityCache::new(1 << 20, CaselessTypes::default());
        let put = |identity: Identity, user_id: UserId| cache.put(&identity, user_id, cache.before_lookup());
        put(identity(Some("cookie"), "a"), UserId(1));
        put(identity(None, "a"), UserId(2));
        assert_eq!(cache.get(Some("cookie"), "a"), Some(UserId(1)));
        assert_eq!(cache.get(None, "a"), Some(UserId(2)));
        assert_eq!(cache.get(Some("email"), "a"), None);
        cache.forget(UserId(1));
        assert_eq!(cache.get(Some("cookie"), "a"), None);
        put(identity(Some("cookie"), "a"), UserId(1));
        assert_eq!(cache.get(Some("cookie"), "a"), None, "a look-up under way while the user was deleted");
        put(identity(Some("cookie"), "a"), UserId(3));
        assert_eq!(cache.get(Some("cookie"), "a"), Some(UserId(3)));
    }

    #[test]
    fn identities_that_are_lost_are_forgotten_in_every_spelling() {
        let cache = IdentityCache::new(1 << 20, CaselessTypes::default());
        let before = cache.before_lookup();
        cache.put(&identity(Some("email"), "Ann@X"), UserId(1), before);
        cache.put(&identity(Some("cookie"), "Ann@X"), UserId(2), before);
        assert_eq!(cache.get(Some("email"), "ann@x"), Some(UserId(1)));
        assert_eq!(cache.get(Some("cookie"), "ann@x"), None);
        cache.forget_identity(&identity(Some("email"), "aNN@x"));
        for spelling in ["Ann@X", "ann@x"] {
            assert_eq!(cache.get(Some("email"), spelling), None);
        }
        assert_eq!(cache.get(Some("cookie"), "Ann@X"), Some(UserId(2)));
        cache.put(&identity(Some("email"), "ann@x"), UserId(1), before);
        assert_eq!(cache.get(Some("email"), "ann@x"), None, "a look-up from before");
        cache.put(&identity(Some("email"), "ann@x"), UserId(3), cache.before_lookup());
        assert_eq!(cache.get(Some("email"), "ANN@X"), Some(UserId(3)));
    }

    #[test]
    fn it_stays_within_its_bound() {
        let cache = IdentityCache::new(100_000, CaselessTypes::default());
        for number in 0..10_000 {
            cache.put(&identity(None, &format!("user-{number}")), UserId(number), cache.before_lookup());
        }
        assert!(cache.users.weight() <= 100_000);
        assert!(cache.users.len() > 100);
    }
}
