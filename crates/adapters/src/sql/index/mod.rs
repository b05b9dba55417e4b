//! Which user each identity and each client id belongs to, in memory.
//!
//! It is exact: it changes with the commit of each write, before the next write begins. So what it
//! returns is true, and once it is loaded, an identity that it lacks is unknown. That holds because
//! a SQLite file has one process that writes it. An adapter for a database that several processes
//! write must ask the database about misses.
//!
//! It keeps hashes, not strings: two keyed hashes of 64 bits (`SipHash`) with keys of this process.
//! Of these, 88 bits are stored and 6 more are in the place of the entry, so that with a hundred
//! million entries, 10¹² look-ups of unknown identities find a wrong user with a probability of less
//! than 10⁻⁸. Nobody can choose identities that collide without the keys.

mod load;
mod table;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use ports::config_store::IdentityKey;
use segment_engine::ids::UserId;
use tokio::sync::watch;

pub(super) use load::{Loading, keys_of, load};
use table::{Print, Put, SLOT_BYTES, Table};

/// Tables with a lock each. They grow one at a time, so growing takes little memory and time.
const TABLES: usize = 64;

/// What the index is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key<'a> {
    /// An identity, its id in the form in which it compares.
    Pair { id_type: &'a str, form: &'a str },
    /// A `client_ref_id`.
    ClientRef(&'a str),
}

impl<'a> Key<'a> {
    /// The identity, which is in its form.
    pub(super) fn pair(form: &'a IdentityKey) -> Self {
        Self::Pair { id_type: &form.id_type, form: &form.id }
    }
}

/// A [`Key`], hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct KeyHash(u128);

impl KeyHash {
    fn table(self) -> usize {
        (self.0 >> 96) as usize % TABLES
    }
}

/// What a write changes in the index.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The owners of keys after the write.
    pub owners: Vec<(KeyHash, UserId)>,
    /// Keys that belonged to somebody before the write, and maybe to nobody after it.
    pub before: Vec<KeyHash>,
}

/// The index.
pub(super) struct IdentityIndex {
    hashers: [RandomState; 2],
    tables: Vec<RwLock<Table>>,
    bytes_max: usize,
    bytes: AtomicUsize,
    is_loaded: watch::Sender<bool>,
    /// Whether an entry was left out.
    has_gaps: AtomicBool,
}

impl std::fmt::Debug for IdentityIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityIndex").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl IdentityIndex {
    /// Returns an empty index of at most so many bytes, whose hashes have these keys.
    pub(super) fn new(bytes_max: usize, hashers: [RandomState; 2]) -> Self {
        Self {
            hashers,
            tables: (0..TABLES).map(|_| RwLock::default()).collect(),
            bytes_max,
            bytes: AtomicUsize::new(0),
            is_loaded: watch::Sender::new(false),
            has_gaps: AtomicBool::new(false),
        }
    }

    pub(super) fn hash(&self, key: Key<'_>) -> KeyHash {
        let [low, high] = [0, 1].map(|half: usize| u128::from(self.hashers[half].hash_one(key)));
        KeyHash(high << 64 | low)
    }

    pub(super) fn get(&self, key: KeyHash) -> Option<UserId> {
        let table = self.tables[key.table()].read().unwrap_or_else(PoisonError::into_inner);
        table.get(Print::of(key.0))
    }

    /// Whether a key that is not here belongs to nobody.
    pub(super) fn is_complete(&self) -> bool {
        *self.is_loaded.borrow() && !self.has_gaps.load(Ordering::Acquire)
    }

    /// Applies a write. Call it after the commit and before the next write.
    pub(super) fn apply(&self, changes: &Changes) {
        // First the owners: a key that moves to another owner is never missing in between.
        for (key, owner) in &changes.owners {
            self.put(*key, *owner);
        }
        if changes.before.is_empty() {
            return;
        }
        let owned: std::collections::HashSet<KeyHash> = changes.owners.iter().map(|(key, _)| *key).collect();
        for key in changes.before.iter().filter(|key| !owned.contains(key)) {
            self.tables[key.table()].write().unwrap_or_else(PoisonError::into_inner).remove(Print::of(key.0));
        }
    }

    /// Forgets the keys of a write of which nobody knows whether it was committed: SQLite is asked
    /// about them, and about every key that is missing.
    pub(super) fn forget(&self, changes: &Changes) {
        if changes.owners.is_empty() && changes.before.is_empty() {
            return;
        }
        self.distrust();
        for key in changes.owners.iter().map(|(key, _)| key).chain(&changes.before) {
            self.tables[key.table()].write().unwrap_or_else(PoisonError::into_inner).remove(Print::of(key.0));
        }
    }

    /// Leaves the entry out if there is no room for it. An owner that is replaced needs none.
    pub(super) fn put(&self, key: KeyHash, owner: UserId) {
        let print = Print::of(key.0);
        let mut table = self.tables[key.table()].write().unwrap_or_else(PoisonError::into_inner);
        let has_gap = match table.put(print, owner) {
            Put::Done => return,
            Put::Full => !self.grow(&mut table) || table.put(print, owner) != Put::Done,
            Put::Unfit => true,
        };
        if has_gap {
            // What the key's former owner left must not answer for it.
            table.remove(print);
            if !self.has_gaps.swap(true, Ordering::AcqRel) {
                tracing::warn!(
                    bytes_max = self.bytes_max,
                    "the index of identities is full: the config store is asked about those that do not fit, which \
                     makes their events slower; raise USS_IDENTITY_INDEX_MB"
                );
            }
        }
    }

    /// Returns whether the table could grow.
    fn grow(&self, table: &mut Table) -> bool {
        let more = (table.grown() - table.slots()) * SLOT_BYTES;
        let within = |bytes: usize| Some(bytes + more).filter(|bytes| *bytes <= self.bytes_max);
        let may_grow = self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, within).is_ok();
        if may_grow {
            table.grow();
        }
        may_grow
    }

    fn set_loaded(&self) {
        self.is_loaded.send_replace(true);
    }

    pub(super) async fn wait_until_loaded(&self) {
        // Never fails, since the sender is here.
        let _ = self.is_loaded.subscribe().wait_for(|is_loaded| *is_loaded).await;
    }

    /// Says that the index may lack something that the store has.
    pub(super) fn distrust(&self) {
        if !self.has_gaps.swap(true, Ordering::AcqRel) {
            tracing::error!(
                "the index of identities may lack one that the config store has; it is no longer relied on"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(bytes_max: usize) -> IdentityIndex {
        IdentityIndex::new(bytes_max, [RandomState::new(), RandomState::new()])
    }

    #[test]
    fn pairs_and_client_ids_are_distinct() {
        let index = index(1 << 20);
        let pair = |id_type, form| index.hash(Key::Pair { id_type, form });
        let keys = [pair("cookie", "a"), pair("", "a"), pair("cookiea", ""), index.hash(Key::ClientRef("a"))];
        for (key, user) in keys.iter().zip(1..) {
            index.put(*key, UserId(user));
        }
        assert_eq!(keys.map(|key| index.get(key)), [1, 2, 3, 4].map(|user| Some(UserId(user))));
        assert_eq!(index.get(pair("email", "a")), None);
    }

    #[test]
    fn a_write_moves_keys_and_removes_those_that_nobody_has() {
        let index = index(1 << 20);
        let keys = ["a", "b", "c"].map(|form| index.hash(Key::Pair { id_type: "", form }));
        keys.iter().for_each(|key| index.put(*key, UserId(1)));
        index.apply(&Changes { owners: vec![(keys[0], UserId(2))], before: vec![keys[0], keys[1]] });
        assert_eq!(keys.map(|key| index.get(key)), [Some(UserId(2)), None, Some(UserId(1))]);
    }

    #[test]
    fn a_full_index_keeps_what_it_has_and_decides_nothing_by_a_miss() {
        let index = index(64 * 1024);
        index.set_loaded();
        assert!(index.is_complete());
        let keys: Vec<KeyHash> = (0..10_000).map(|id| index.hash(Key::ClientRef(&id.to_string()))).collect();
        keys.iter().for_each(|key| index.put(*key, UserId(1)));
        assert!(!index.is_complete());
        let has: Vec<KeyHash> = keys.iter().copied().filter(|key| index.get(*key).is_some()).collect();
        assert!(index.bytes.load(Ordering::Relaxed) <= 64 * 1024);
        assert!(has.len() > 2_000, "{} entries", has.len());
        has.iter().for_each(|key| index.put(*key, UserId(2)));
        assert!(has.iter().all(|key| index.get(*key) == Some(UserId(2))), "an owner is replaced in any case");
        index.put(has[0], UserId(i64::MAX));
        assert_eq!(index.get(has[0]), None, "no former owner answers for an owner that does not fit");
    }
}
