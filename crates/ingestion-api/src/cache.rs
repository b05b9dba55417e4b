//! Which user an identity belongs to, remembered. "Unknown" is never remembered.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::{PoisonError, RwLock};

use ports::identities::Identity;
use quick_cache::{Equivalent, Weighter, sync::Cache};
use segment_engine::event::UserId;

/// How many deleted users are remembered before the cache starts afresh instead.
const GONE_MAX: usize = 100_000;
/// What an entry costs besides its texts: two allocations, the slot and the cache's own links.
const ENTRY_BYTES: u64 = 160;
/// How large an entry is guessed to be, to size the table.
const ENTRY_BYTES_GUESS: usize = 220;

/// A bounded cache of identities.
pub struct IdentityCache {
    users: Cache<Identity, UserId, EntryBytes>,
    /// Users that are no more: their entries may still be in `users`, also those that were being asked for meanwhile.
    gone: RwLock<HashSet<UserId>>,
}

#[derive(Clone)]
struct EntryBytes;

impl Weighter<Identity, UserId> for EntryBytes {
    fn weight(&self, identity: &Identity, _: &UserId) -> u64 {
        ENTRY_BYTES + (identity.id.len() + identity.id_type.as_ref().map_or(0, String::len)) as u64
    }
}

/// An identity to look for, without owning it.
struct Borrowed<'a> {
    id_type: Option<&'a str>,
    id: &'a str,
}

/// As the derived one of [`Identity`].
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
    /// An empty cache of at most so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        let users = Cache::with_weighter(bytes_max / ENTRY_BYTES_GUESS, bytes_max as u64, EntryBytes);
        Self { users, gone: RwLock::default() }
    }

    /// Whose identity it is, if that is remembered.
    pub fn get(&self, id_type: Option<&str>, id: &str) -> Option<UserId> {
        let user_id = self.users.get(&Borrowed { id_type, id })?;
        let gone = self.gone.read().unwrap_or_else(PoisonError::into_inner);
        if gone.contains(&user_id) { None } else { Some(user_id) }
    }

    /// Remembers whose identity it is.
    pub fn put(&self, identity: Identity, user_id: UserId) {
        self.users.insert(identity, user_id);
    }

    /// Forgets the identities of a user that was deleted or merged into another; ids are never used again.
    pub fn forget(&self, user_id: UserId) {
        let mut gone = self.gone.write().unwrap_or_else(PoisonError::into_inner);
        if gone.len() >= GONE_MAX {
            self.users.clear();
            gone.clear();
        }
        gone.insert(user_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id_type: Option<&str>, id: &str) -> Identity {
        Identity { id_type: id_type.map(str::to_owned), id: id.to_owned() }
    }

    #[test]
    fn pairs_are_told_apart_and_users_forgotten() {
        let cache = IdentityCache::new(1 << 20);
        cache.put(identity(Some("cookie"), "a"), UserId(1));
        cache.put(identity(None, "a"), UserId(2));
        assert_eq!(cache.get(Some("cookie"), "a"), Some(UserId(1)));
        assert_eq!(cache.get(None, "a"), Some(UserId(2)));
        assert_eq!(cache.get(Some("email"), "a"), None);
        cache.forget(UserId(1));
        assert_eq!(cache.get(Some("cookie"), "a"), None);
        cache.put(identity(Some("cookie"), "a"), UserId(1));
        assert_eq!(cache.get(Some("cookie"), "a"), None, "an answer under way while the user went");
        cache.put(identity(Some("cookie"), "a"), UserId(3));
        assert_eq!(cache.get(Some("cookie"), "a"), Some(UserId(3)));
    }

    #[test]
    fn it_stays_within_its_bound() {
        let cache = IdentityCache::new(100_000);
        for number in 0..10_000 {
            cache.put(identity(None, &format!("user-{number}")), UserId(number));
        }
        assert!(cache.users.weight() <= 100_000);
        assert!(cache.users.len() > 100);
    }
}
